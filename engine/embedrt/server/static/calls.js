// Calls of the server: what was sent, what came back, and where the time went.

import { byId } from "./dom.js";
import { fromBase64 } from "./geometry.js";
import { word } from "./words.js";

const AT_ONCE = 128; // texts per request: progress is seen, and no request is too large

async function fetchJson(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (byId("key").value) headers.Authorization = `Bearer ${byId("key").value}`;
  const began = performance.now();
  let answer;
  try {
    answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  } catch {
    throw new Error(word("unreachable"));
  }
  if (answer.status === 401) {
    byId("key-field").hidden = false;
    throw new Error(word("needs_key"));
  }
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error?.message ?? data.error);
  const counted = (name) => Number(answer.headers.get(`X-Embedrt-${name}`) ?? 0);
  return { data, phases: phasesOf(answer, performance.now() - began), tokens: counted("Tokens"), cut: counted("Truncated") };
}

export const call = async (path, body) => (await fetchJson(path, body)).data;

/** Milliseconds by phase, as Server-Timing says, and what was spent outside of the server. */
function phasesOf(answer, wall) {
  const said = [...(answer.headers.get("Server-Timing") ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g)];
  const found = Object.fromEntries(said.map(([, name, ms]) => [name, Number(ms)]));
  const total = found.total ?? 0;
  delete found.total;
  const known = Object.values(found).reduce((a, b) => a + b, 0);
  return { ...found, other: Math.max(0, total - known), network: Math.max(0, wall - total) };
}

/** Add a request to what was found by those before it. */
function count(found, tokens, phases) {
  found.tokens += tokens;
  found.requests += 1;
  for (const [name, ms] of Object.entries(phases)) found.phases[name] = (found.phases[name] ?? 0) + ms;
}

const parts = (texts) => Array.from({ length: Math.ceil(texts.length / AT_ONCE) }, (_, k) => texts.slice(k * AT_ONCE, (k + 1) * AT_ONCE));

/** Vectors of all texts, or as `more` says, a few requests one after the other; `progress(done)` is told after each. */
export async function embed(texts, model, dimensions, progress = () => {}, more = {}) {
  const body = { model, input: texts, ...(dimensions ? { dimensions } : {}) };
  const found = { vectors: [], tokens: 0, phases: {}, requests: 0, path: "v1/embeddings", body };
  for (const part of parts(texts)) {
    const { data, phases } = await fetchJson(found.path, { ...body, ...more, input: part, encoding_format: "base64" });
    found.vectors.push(...data.data.map((row) => fromBase64(row.embedding)));
    count(found, data.usage.total_tokens, phases);
    progress(found.vectors.length);
  }
  return found;
}

/** A reranker's score of each text with a query, in the order of the texts; a pair's score does not depend on the others. */
export async function rerank(query, texts, model, progress = () => {}) {
  const found = { scores: [], tokens: 0, cut: 0, phases: {}, requests: 0, path: "rerank", body: { model, query, texts } };
  for (const part of parts(texts)) {
    const { data, phases, tokens, cut } = await fetchJson(found.path, { ...found.body, texts: part });
    const first = found.scores.length;
    for (const { index, score } of data) found.scores[first + index] = score;
    found.cut += cut;
    count(found, tokens, phases);
    progress(found.scores.length);
  }
  return found;
}

/** The scores of the labels of each input, best first: a list with a text, or with a pair. */
export async function predict(inputs, model, progress = () => {}) {
  const found = { labels: [], tokens: 0, cut: 0, phases: {}, requests: 0, path: "predict", body: { model, inputs } };
  for (const part of parts(inputs)) {
    const { data, phases, tokens, cut } = await fetchJson(found.path, { ...found.body, inputs: part });
    found.labels.push(...data);
    found.cut += cut;
    count(found, tokens, phases);
    progress(found.labels.length);
  }
  return found;
}

export async function tokenize(texts, model) {
  const found = [];
  for (const part of parts(texts)) found.push(...await call("tokenize", { inputs: part, model }));
  return found;
}
