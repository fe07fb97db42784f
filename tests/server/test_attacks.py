"""What one client can send: memory stays within bounds, and others are answered meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.attacks import ATTACKS, Attack, Suffered, ask, leave, post, suffer
from tests.server.test_lifecycle import Process, process

ALONE_MB = 250  # the bound is 600; what is measured is under 100
TOGETHER_MB = 600
# A poll waits for a few turns of the event loop. What the server computed meanwhile, if that is less than the wait,
# leaves out what other programs of a busy machine did; page faults, dear on virtual machines, are in it.
LIVE_S = 0.1
DEAREST = (
    "embed_all of 3,000 texts",
    "tokenize 8 MB",
    "1.9 million texts",
    "1.4 million lists of ids",
    "one text of 31 MB",
    "four other texts of 4 MB",
    "decode 1 million ids",
    "1 million chunks",
)


def checked(got: Suffered, *, grown_mb: float, statuses: set[int]) -> Suffered:
    assert got.grown_mb < grown_mb, got
    assert set(got.statuses) <= statuses, got
    return got


@pytest.fixture(scope="module")
def server(lookup_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One that all small attacks hit, one after the other, as a real one would be hit."""
    with process(tmp_path_factory.mktemp("served"), lookup_bundle, "--variant", "fp32", "--token-ids", "own") as made:
        ask(made.port, post("/embed", b'{"inputs":"a"}'))
        yield made


SMALL = [
    ("embed_all of 3,000 texts", {413}),
    ("tokenize 8 MB", {413}),
    ("1.9 million texts", {413}),
    ("1.4 million lists of ids", {413}),
    ("one text of 31 MB", {200}),
    ("31 MB without a blank", {413}),
    ("31 MB that is no JSON", {400}),
    ("similarity of 1 million", {413}),
    ("decode 8 million ids", {413}),
    ("1 million chunks", {0}),  # closed while the request is under way
    ("8 MB in small chunks", {200}),
]


@pytest.mark.parametrize(("name", "statuses"), SMALL)
def test_one_request_takes_no_memory_to_speak_of(server: Process, name: str, statuses: set[int]):
    attack = ATTACKS[name]
    checked(
        suffer(server.process.pid, server.port, [attack.request()]),
        grown_mb=ALONE_MB,
        statuses=statuses,
    )


def test_the_limit_is_named(server: Process):
    attack = ATTACKS["31 MB without a blank"]
    _, answer = ask(server.port, attack.request())
    assert b"the limit (unbroken_characters) is 262144; split the text" in answer


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_on_a_real_model(tmp_path: Path, minilm_bundle: Path, name: str):
    with process(tmp_path, minilm_bundle) as server:
        ask(server.port, post("/embed", b'{"inputs":"a"}'))
        attack: Attack = ATTACKS[name]
        got = suffer(server.process.pid, server.port, [attack.request()])
        checked(got, grown_mb=ALONE_MB, statuses={0} if name == "1 million chunks" else {200, 400, 413})
        assert got.slowest_live_computed_s < LIVE_S, got


@pytest.mark.slow
@pytest.mark.parametrize("name", DEAREST)
def test_64_of_the_worst_at_once(tmp_path: Path, minilm_bundle: Path, name: str):
    with process(tmp_path, minilm_bundle) as server:
        ask(server.port, post("/embed", b'{"inputs":"a"}'))
        attack = ATTACKS[name]
        got = suffer(server.process.pid, server.port, [attack.request()] * 64)
        checked(got, grown_mb=TOGETHER_MB, statuses={0, 200, 413, 429})
        assert got.slowest_live_computed_s < LIVE_S, got


@pytest.mark.slow
def test_clients_that_leave(tmp_path: Path, minilm_bundle: Path):
    with process(tmp_path, minilm_bundle) as server:
        ask(server.port, post("/embed", b'{"inputs":"a"}'))
        got = checked(leave(server.process.pid, server.port), grown_mb=TOGETHER_MB, statuses={0})
        assert got.slowest_live_computed_s < LIVE_S, got
        assert ask(server.port, post("/embed", b'{"inputs":"a"}'))[0] == 200
