"""JavaScript clients, unchanged and pinned, each in a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.clients.harness import Client, install, run
from tests.server.serving import Served

HEAD = """
const { URL: url, KEY, QUERY } = process.env, TEXTS = JSON.parse(process.env.TEXTS);
const answer = (documents, query) => console.log(JSON.stringify({ documents, query }));
"""
OPENAI = """
import OpenAI from 'openai';
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY });
const { data } = await client.embeddings.create({ model: 'text-embedding-3-small', input: TEXTS });
const asked = await client.embeddings.create({ model: 'lookup', input: QUERY, encoding_format: 'float' });
answer(data.map((row) => row.embedding), asked.data[0].embedding);
"""
LANGCHAIN = """
import { OpenAIEmbeddings } from '@langchain/openai';
const configuration = { baseURL: `${url}/v1` };
const made = new OpenAIEmbeddings({ model: 'text-embedding-3-small', apiKey: KEY, configuration });
answer(await made.embedDocuments(TEXTS), await made.embedQuery(QUERY));
"""
AI_SDK = """
import { embed, embedMany } from 'ai';
import { createOpenAI } from '@ai-sdk/openai';
const model = createOpenAI({ baseURL: `${url}/v1`, apiKey: KEY }).embedding('lookup');
const { embeddings } = await embedMany({ model, values: TEXTS });
answer(embeddings, (await embed({ model, value: QUERY })).embedding);
"""
AI_SDK_COMPATIBLE = """
import { embed, embedMany } from 'ai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
const model = createOpenAICompatible({ name: 'embedrt', baseURL: `${url}/v1`, apiKey: KEY }).embeddingModel('lookup');
const { embeddings } = await embedMany({ model, values: TEXTS });
answer(embeddings, (await embed({ model, value: QUERY })).embedding);
"""

CLIENTS = [
    Client("openai", ("openai@7.57.0",), OPENAI),
    Client("langchain", ("@langchain/openai@1.6.0", "@langchain/core@1.4.0"), LANGCHAIN),
    Client("ai-sdk", ("ai@7.0.173", "@ai-sdk/openai@4.0.118"), AI_SDK),
    Client("ai-sdk-compatible", ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92"), AI_SDK_COMPATIBLE),
]


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed")
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_the_librarys_vectors(
    client: Client, with_key: Served, tmp_path: Path, checked: Callable[..., None]
):
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    install(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *client.packages], tmp_path)
    (tmp_path / "program.js").write_text(HEAD + client.program, encoding="utf-8")
    checked(client, run(["node", "program.js"], tmp_path, with_key.url))
