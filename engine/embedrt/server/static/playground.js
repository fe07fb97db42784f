// The page: what is asked of the server, and when.

import { byId, element } from "./dom.js";
import { drawHits, drawMap, drawMatrix, drawTokens, isForeign } from "./drawings.js";
import { dot, fromBase64, project, similarities } from "./geometry.js";
import { EXAMPLES, PROBE, setLanguage, word, WORDS } from "./words.js";

const state = { models: [], language: "en", last: null, hits: null, example: "english" };

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (byId("key").value) headers.Authorization = `Bearer ${byId("key").value}`;
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
  return data;
}

async function embed(texts, kind) {
  const data = await call("v1/embeddings", { input: texts, model: modelName(kind), encoding_format: "base64" });
  return { ...data, vectors: data.data.map((row) => fromBase64(row.embedding)) };
}

function modelName(kind) {
  const name = byId("model").value;
  return state.models.some((m) => m.id === name + kind) ? name + kind : name;
}

function lines() {
  return byId("texts").value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function show(error) {
  byId("error").textContent = error.message;
  byId("error").hidden = false;
}

async function guarded(work) {
  const buttons = document.querySelectorAll("button");
  byId("error").hidden = true;
  byId("status").textContent = word("working");
  buttons.forEach((b) => { b.disabled = true; });
  const began = performance.now();
  try {
    if (!state.models.length) await loadModels();
    const used = await work();
    byId("status").textContent = word("done", { ...used, ms: Math.round(performance.now() - began) });
  } catch (error) {
    byId("status").textContent = "";
    show(error);
  } finally {
    buttons.forEach((b) => { b.disabled = false; });
  }
}

async function compare() {
  const texts = lines();
  if (!texts.length) throw new Error(word("none"));
  const kind = document.querySelector("input[name=kind]:checked").value;
  const [made, pieces] = await Promise.all([
    embed(texts, kind), call("tokenize", { inputs: texts, model: modelName(kind) }),
  ]);
  const limit = state.models.find((m) => m.id === byId("model").value).max_tokens;
  state.last = { texts, matrix: similarities(made.vectors), plane: project(made.vectors), pieces, limit };
  draw();
  return { texts: texts.length, tokens: made.usage.total_tokens };
}

async function search() {
  const texts = lines();
  const query = byId("query").value.trim();
  if (!texts.length || !query) throw new Error(word("none"));
  const [asked, made] = await Promise.all([embed([query], ":query"), embed(texts, ":document")]);
  const scale = (v) => Math.sqrt(dot(v, v)) || 1;
  const [q] = asked.vectors;
  const hits = made.vectors.map((v, i) => ({ text: texts[i], score: dot(q, v) / (scale(q) * scale(v)) }));
  hits.sort((a, b) => b.score - a.score);
  state.hits = hits;
  drawHits(hits);
  return { texts: texts.length + 1, tokens: asked.usage.total_tokens + made.usage.total_tokens };
}

function draw() {
  if (state.hits) drawHits(state.hits);
  if (!state.last) return;
  drawMatrix(state.last);
  drawMap(state.last);
  drawTokens(state.last);
}

/** A finished example that suits the model: Korean beside English only where its tokenizer knows Korean. */
async function showExample() {
  const [probe] = await call("tokenize", { inputs: [PROBE], model: byId("model").value });
  state.example = isForeign(PROBE, probe) ? "english" : "mixed";
  const { texts, queries } = EXAMPLES[state.example];
  byId("texts").value = texts.join("\n");
  byId("query").value = queries[state.language] ?? queries.en;
  const used = await compare();
  const asked = await search();
  return { texts: used.texts, tokens: used.tokens + asked.tokens };
}

/** The example, or what somebody has written meanwhile. */
function start() {
  return untouched() ? showExample() : compare();
}

/** Whether nobody has written anything yet. */
function untouched() {
  const { texts, queries } = EXAMPLES[state.example] ?? { texts: [], queries: {} };
  return byId("texts").value === texts.join("\n") && ["", ...Object.values(queries)].includes(byId("query").value);
}

async function loadModels() {
  const { data } = await call("v1/models");
  state.models = data;
  const bases = data.filter((m) => !m.id.includes(":"));
  byId("model").replaceChildren(...bases.map((m) => element("option", { value: m.id }, m.id)));
  showModel();
}

function showModel() {
  const model = state.models.find((m) => m.id === byId("model").value);
  if (!model) return;
  byId("served").textContent = word("served", model);
  byId("kinds").hidden = !state.models.some((m) => m.id === `${model.id}:query`);
}

function speak(language) {
  const mine = untouched();
  state.language = setLanguage(language in WORDS ? language : "en");
  document.documentElement.lang = state.language;
  byId("language").value = state.language;
  document.querySelectorAll("[data-word]").forEach((e) => { e.textContent = word(e.dataset.word); });
  document.querySelectorAll("[data-hint]").forEach((e) => { e.placeholder = word(e.dataset.hint); });
  byId("status").textContent = "";
  showModel();
  if (mine && state.last) guarded(showExample);
  else draw();
}

byId("language").addEventListener("change", (event) => {
  localStorage.setItem("language", event.target.value);
  speak(event.target.value);
});
byId("model").addEventListener("change", () => {
  showModel();
  guarded(start);
});
byId("compare").addEventListener("click", () => guarded(compare));
byId("search").addEventListener("submit", (event) => { event.preventDefault(); guarded(search); });
byId("key-field").addEventListener("submit", (event) => event.preventDefault());
byId("key").addEventListener("change", () => guarded(start));
let width = window.innerWidth;
window.addEventListener("resize", () => { // the map is drawn for the width that it has
  if (window.innerWidth !== width && state.last) drawMap(state.last);
  width = window.innerWidth;
});
byId("texts").value = EXAMPLES.english.texts.join("\n");
speak(localStorage.getItem("language") ?? navigator.language.slice(0, 2));
guarded(start);
