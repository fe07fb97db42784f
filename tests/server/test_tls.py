"""TLS: handshakes have an end, and a certificate is read again."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from tests.server.serving import wait_until
from tests.server.test_lifecycle import Process


def make_certificate(folder: Path, name: str) -> bytes:
    """Write `cert` and `key` for that name; the certificate as a peer sees it."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    return ssl.PEM_cert_to_DER_cert((folder / "cert").read_text())


def shown(port: int) -> bytes:
    """The certificate that the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, context.wrap_socket(sock) as wrapped:
        wrapped.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 " in wrapped.recv(100)
        return wrapped.getpeercert(binary_form=True) or b""


def test_a_certificate_is_read_again_and_handshakes_end(tmp_path: Path, lookup_bundle: Path):
    first = make_certificate(tmp_path, "first")
    flags = ("--ssl-certfile", tmp_path / "cert", "--ssl-keyfile", tmp_path / "key", "--header-timeout-s", "1")
    server = Process(tmp_path / "log", lookup_bundle, "--variant", "fp32", *flags)
    try:
        wait_until(lambda: server.events("ready"), 60)
        assert shown(server.port) == first
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        began = time.monotonic()
        second = make_certificate(tmp_path, "second")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.events("certificate was read again"))
        assert shown(server.port) == second != first
        (tmp_path / "key").write_text("no key")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.events("keys and certificate stay as they are"))
        assert "cannot be used together" in str(server.events("keys and certificate stay as they are")[0]["reason"])
        assert shown(server.port) == second
        assert silent.recv(1) == b""  # closed, by the limit on a request's head
        assert time.monotonic() - began < 15  # asyncio's own is 60 s
        silent.close()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    finally:
        server.process.kill()
        server.process.wait(20)
