"""Who may ask: the Host header where there are no keys, the port for metrics, certificates."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from embedrt.errors import OptionError
from embedrt.server.guard import Guard, host_name
from embedrt.server.keys import ApiKeys
from embedrt.server.settings import Settings
from embedrt.server.tls import check_certificate
from tests.server.serving import Served, serving
from tests.server.test_lifecycle import process


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8080", 200), ("models.localhost", 200), ("localhost.:80", 200),
        ("127.0.0.1:8080", 200), ("[::1]:8080", 200), ("192.168.0.7", 200),
        ("evil.example", 421), ("evil.example:8080", 421), ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421), ("evillocalhost", 421), ("localhost@evil.example", 421),
    ],
)  # fmt: skip
def test_without_keys_no_page_reaches_the_server_by_a_name_of_its_own(served: Served, host: str, status: int):
    for path, body in (("/v1/embeddings", {"input": "a"}), ("/embed", {"inputs": "a"})):
        answer = served.post(path, body, Host=host)
        assert answer.status_code == status
        assert status == 200 or "--allowed-hosts" in answer.text
    assert served.get("/", Host=host).status_code == status
    assert served.get("/health/live", Host=host).status_code == 200


def test_hosts_that_are_allowed_and_servers_that_need_no_check(lookup_bundle: Path):
    with serving(lookup_bundle, allowed_hosts=("Models.example",)) as server:
        assert server.get("/v1/models", Host="models.example:8080").status_code == 200
        assert server.get("/v1/models", Host="other.example").status_code == 421
    with serving(lookup_bundle, api_keys=("one",)) as server:
        found = server.get("/v1/models", Host="models.example", Authorization="Bearer one")
        assert found.status_code == 200
    for settings in (Settings(host="0.0.0.0"), Settings(allowed_hosts=("*",))):
        scope = {"path": "/embed", "method": "POST"}
        Guard(settings, ApiKeys((), "")).check(scope, {b"host": b"models.example"})


def test_names_of_hosts():
    hosts = ["a.example", "A.example:80", "[::1]", "[::1]:80", "a.example.", "a.example.:80", ""]
    assert [host_name(host) for host in hosts] == [
        "a.example",
        "a.example",
        "[::1]",
        "[::1]",
        "a.example",
        "a.example",
        "",
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_port_for_metrics_needs_no_key_and_answers_nothing_else(tmp_path: Path, lookup_bundle: Path, workers: int):
    (tmp_path / "keys").write_text("one\n")
    port = free_port()
    options = ("--variant", "fp32", "--api-key-file", tmp_path / "keys", "--metrics-port", port, "--workers", workers)
    with process(tmp_path, lookup_bundle, *options) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        headers = {"Authorization": "Bearer one"}
        for _ in range(4):
            assert httpx.post(f"{server.url}/embed", json={"inputs": "a"}, headers=headers).status_code == 200
        aside = f"http://127.0.0.1:{port}"
        rows = httpx.get(f"{aside}/metrics").text.splitlines()
        assert 'embedrt_requests_total{route="/embed",status="200"} 4.0' in rows
        assert httpx.get(f"{aside}/health/ready").status_code == 200
        refused = httpx.post(f"{aside}/embed", json={"inputs": "a"}, headers=headers)
        assert (refused.status_code, "answers /metrics" in refused.text) == (404, True)
        assert httpx.get(f"{aside}/").status_code == 404


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-keyout", key, "-out", cert, "-days", "2"], check=True, capture_output=True)
    return str(cert), str(key)


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path):
    cert, key = make_certificate(tmp_path, "one")
    _, other = make_certificate(tmp_path, "two")
    check_certificate(Settings(ssl_certfile=cert, ssl_keyfile=key))
    check_certificate(Settings())
    nowhere = str(tmp_path / "nowhere.pem")
    for given, message in (
        ((nowhere, key), f"ssl_certfile {nowhere} cannot be read: No such file"),
        ((cert, nowhere), f"ssl_keyfile {nowhere} cannot be read: No such file"),
        ((cert, other), f"ssl_keyfile {other} cannot be used together"),
        ((key, cert), f"ssl_certfile {key} and ssl_keyfile {cert} cannot be used"),
    ):
        with pytest.raises(OptionError) as caught:
            check_certificate(Settings(ssl_certfile=given[0], ssl_keyfile=given[1]))
        assert message in str(caught.value)


def test_a_key_with_a_password_is_refused_and_not_asked_for(tmp_path: Path):
    cert, key = make_certificate(tmp_path, "one")
    locked = str(tmp_path / "locked.key")
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", key, "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(OptionError, match="without a password"):
        check_certificate(Settings(ssl_certfile=cert, ssl_keyfile=locked))


def test_the_command_names_the_file(cli, lookup_bundle: Path, tmp_path: Path):
    cert, key = tmp_path / "no.pem", tmp_path / "no.key"
    said = cli.fails("serve", lookup_bundle, "--ssl-certfile", cert, "--ssl-keyfile", key, code=2)
    assert f"ssl_certfile {cert} cannot be read" in " ".join(said.split())
