"""Java's own HttpClient by its defaults, which offers HTTP/2 on plain http: under Spring, LangChain4j and others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.clients.harness import Client, run
from tests.server.serving import Served

PROGRAM = """
import java.net.URI;
import java.net.http.*;

public class Program {
    static String embed(HttpClient client, String inputs) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("URL") + "/embed"))
            .header("Content-Type", "application/json").header("Authorization", "Bearer " + System.getenv("KEY"))
            .POST(HttpRequest.BodyPublishers.ofString("{\\"inputs\\":" + inputs + "}")).build();
        HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) throw new Exception(response.statusCode() + " " + response.body());
        return response.body();
    }

    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        String documents = embed(client, System.getenv("TEXTS"));
        String query = embed(client, "\\"" + System.getenv("QUERY") + "\\"");
        String first = query.substring(1, query.length() - 1);
        System.out.println("{\\"documents\\":" + documents + ",\\"query\\":" + first + "}");
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("java"), reason="java is not installed")
def test_the_client_of_the_jdk_gets_the_librarys_vectors(
    with_key: Served, tmp_path: Path, checked: Callable[..., None]
):
    (tmp_path / "Program.java").write_text(PROGRAM, encoding="utf-8")
    checked(Client("jdk", (), PROGRAM), run(["java", "Program.java"], tmp_path, with_key.url, LC_ALL="C.UTF-8"))
