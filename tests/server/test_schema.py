"""The OpenAPI description against the running server, by schemathesis, and against what clients are told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import (
    load_all_checks,
    not_a_server_error,
)
from schemathesis.specs.openapi import checks

from embedrt.server.examples import ANSWERS, FIELDS, REQUESTS
from embedrt.server.openai import OTHER_PATHS
from embedrt.server.openapi import describe_api
from tests.conftest import Rerankers
from tests.server.serving import Served, serving

PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/predict")


@pytest.fixture(scope="module")
def scoring(rerankers: Rerankers) -> Iterator[Served]:
    with serving(rerankers.bundle("bert")) as made:
        yield made


@pytest.fixture(scope="module")
def sparse(export_outputs: Callable[..., tuple[Path, Path]]) -> Iterator[Served]:
    with serving(export_outputs("splade", variants=("fp32", "int8"))[1]) as made:
        yield made


@pytest.fixture(scope="module")
def pictures(clip_bundle: Path) -> Iterator[Served]:
    with serving(clip_bundle, variant="fp32") as made:
        yield made


schema = schemathesis.openapi.from_dict(describe_api())
load_all_checks()
CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
)


@schema.parametrize()
@settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
def test_the_server_does_what_the_description_says(case, served: Served, sparse: Served):
    if case.headers:  # a millisecond is a valid time, and 504 its right answer; test_behaviour.py has that
        case.headers.pop("X-Request-Timeout", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the generator, about itself
        asked = sparse if case.path == "/embed_sparse" else served
        case.call_and_validate(base_url=asked.url, checks=CHECKS)


def test_every_route_is_described(served: Served):
    described = set(served.get("/openapi.json").json()["paths"])
    assert served.get("/docs").status_code == 200
    for path in ("/v1/embeddings", "/v1/models", "/embed", "/embed_all", "/similarity", "/tokenize", "/decode"):
        assert path in described
    pages = {"/docs", "/openapi.json", "/api-doc/openapi.json"}
    routes = {route.path.replace(":path", "") for route in served.routes if not route.path.startswith("/static")}
    others = {path.replace(":path", "") for paths in OTHER_PATHS.values() for path in paths}
    assert routes - pages - others == described
    assert others <= routes


@pytest.mark.parametrize(("path", "own"), [("/v1/embeddings", set()), ("/embed", {"422", "424"})])
def test_errors_are_described(path: str, own: set[str]):
    responses = describe_api()["paths"][path]["post"]["responses"]
    assert {"200", "400", "401", "404", "408", "413", "415", "429", "500", "503", "504"} | own == set(responses)


@pytest.mark.parametrize(("path", "title"), [(path, title) for path, bodies in REQUESTS.items() for title in bodies])
def test_every_example_is_answered(
    path: str, title: str, taking_ids: Served, scoring: Served, sparse: Served, pictures: Served
):
    body = {"ids": [1, 2]} if path == "/decode" else REQUESTS[path][title]  # the lookup table has no 2054
    asked = scoring if path in PATHS else sparse if path == "/embed_sparse" else taking_ids
    answer = (pictures if body.get("modality") == "image" else asked).post(path, body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_that_is_shown_is_of_the_shape_that_is_described(path: str):
    document = describe_api()
    shown = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    assert shown["example"] == ANSWERS[path]
    jsonschema.validate(ANSWERS[path], {**shown["schema"], "components": document["components"]})


def test_weights_are_of_the_shape_that_is_described(sparse: Served):
    answer = schema["/embed_sparse"]["POST"].Case(
        body=REQUESTS["/embed_sparse"]["texts"], media_type="application/json"
    )
    answer.call_and_validate(base_url=sparse.url, checks=(checks.response_schema_conformance,))


@pytest.mark.parametrize("path", PATHS)
def test_scores_are_of_the_shape_that_is_described(path: str, scoring: Served):
    answer = schema[path]["POST"].Case(body=next(iter(REQUESTS[path].values())), media_type="application/json")
    answer.call_and_validate(base_url=scoring.url, checks=(checks.response_schema_conformance,))


def test_every_field_of_a_request_is_described():
    document = describe_api()
    bodies = [op["post"]["requestBody"] for op in document["paths"].values() if "requestBody" in op.get("post", {})]
    names = {body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2] for body in bodies}
    for name in names | set(FIELDS):
        fields = document["components"]["schemas"][name]["properties"]
        missing = [key for key, part in fields.items() if name in names and not part.get("description")]
        assert not [key for key in missing if "$ref" not in fields[key]], (name, missing)
