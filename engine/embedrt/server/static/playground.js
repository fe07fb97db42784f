// The page: what is asked of the server, and when.

import { call, embed, predict, rerank, tokenize } from "./calls.js";
import { byId, element } from "./dom.js";
import { drawHits, drawMap, drawMatrix, drawTokens, hitsLeft, isForeign, noteForeign } from "./drawings.js";
import { dot, project, similarities } from "./geometry.js";
import { drawLabels, partsOf, rowsOf } from "./labels.js";
import { addPictures, findPictures, offer, showPictureExample } from "./pictures.js";
import { drawBeside, drawCall, drawExports, drawHitExports, drawLabelExports, linesOf } from "./tools.js";
import { EXAMPLES, PROBE, SCENE, setLanguage, word, WORDS } from "./words.js";

const MOST_LINES = 2000; // of a file
const TOKENIZED = 200; // texts of which the tokens are shown
const COMPARING = /entail|contradict|duplicate|paraphrase/i; // labels of two texts together
const SERVED = { vectors: "served", scores: "served_ranking", labels: "served_labels" };

const state = { models: [], language: "en", last: null, hits: null, labels: null, example: EXAMPLES.vectors.english };

const modelOf = (name) => state.models.find((m) => m.id === name);
/** Whether a model scores texts with a query, and gives no vectors. */
const ranks = (name) => modelOf(name)?.sort === "scores";
/** Whether a model gives texts labels, and no vectors. */
const classifies = (name) => modelOf(name)?.sort === "labels";

function modelName(kind, name = byId("model").value) {
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

const progress = (all) => (done) => { if (done < all) byId("status").textContent = word("progress", { done, all }); };
const sum = (phases) => Object.values(phases).reduce((a, b) => a + b, 0);

async function compare() {
  const texts = lines();
  if (!texts.length) throw new Error(word("none"));
  const kind = document.querySelector("input[name=kind]:checked").value;
  const model = byId("model").value;
  const made = await embed(texts, modelName(kind), Number(byId("dimensions").value) || 0, progress(texts.length));
  const pieces = await tokenize(texts.slice(0, TOKENIZED), modelName(kind));
  const limit = modelOf(model).max_tokens;
  const matrix = similarities(made.vectors);
  state.last = { texts, matrix, vectors: made.vectors, plane: project(made.vectors), pieces, limit, made, model: modelName(kind), sides: null };
  const second = byId("second").value;
  if (second && !ranks(second)) {
    const other = await embed(texts, modelName(kind, second), 0, progress(texts.length));
    state.last.sides = [{ name: model, matrix, ms: sum(made.phases) }, { name: second, matrix: similarities(other.vectors), ms: sum(other.phases) }];
  }
  draw();
  return { texts: texts.length, tokens: made.tokens };
}

/** The texts by their scores with a query: a reranker's, or cosines. */
async function ranked(query, texts, name) {
  const hits = (scores) => scores.map((score, index) => ({ text: texts[index], index, score })).sort((a, b) => b.score - a.score);
  if (ranks(name)) {
    const made = await rerank(query, texts, name, progress(texts.length));
    return { name, hits: hits(made.scores), tokens: made.tokens, cut: made.cut, made };
  }
  const [asked, made] = [await embed([query], modelName(":query", name)), await embed(texts, modelName(":document", name))];
  const scale = (v) => Math.sqrt(dot(v, v)) || 1;
  const [q] = asked.vectors;
  return { name, hits: hits(made.vectors.map((v) => dot(q, v) / (scale(q) * scale(v)))), tokens: asked.tokens + made.tokens, cut: 0 };
}

async function search() {
  const texts = lines();
  const query = byId("query").value.trim();
  if (!texts.length || !query) throw new Error(word("no_query"));
  const model = byId("model").value;
  state.hits = [await ranked(query, texts, model)];
  if (byId("second").value) state.hits.push(await ranked(query, texts, byId("second").value));
  drawResults();
  if (ranks(model)) noteForeign([query, ...texts], await tokenize([query, ...texts].slice(0, TOKENIZED), model));
  return { texts: texts.length + 1, tokens: state.hits[0].tokens };
}

async function classify() {
  const model = byId("model").value;
  const inputs = partsOf(lines());
  if (!inputs.length) throw new Error(word("none"));
  const made = await predict(inputs, model, progress(inputs.length));
  state.labels = { inputs, found: made.labels, cut: made.cut, limit: modelOf(model).max_tokens, made };
  drawClasses();
  const whole = inputs.map((parts) => parts.join(" "));
  noteForeign(whole, await tokenize(whole.slice(0, TOKENIZED), model));
  return { texts: inputs.length, tokens: made.tokens };
}

function drawClasses() {
  drawLabels(state.labels);
  drawLabelExports(rowsOf(state.labels));
  drawCall(state.labels.made);
}

function drawResults() {
  const [mine, other] = state.hits;
  drawHits(mine.hits);
  drawHitExports(mine.hits);
  const cut = mine.cut ? word("cut_pairs", { n: mine.cut, all: mine.hits.length, limit: modelOf(mine.name).max_tokens }) : "";
  byId("hits-note").textContent = `${hitsLeft(mine.hits)} ${cut}`;
  if (mine.made) drawCall(mine.made);
  for (const id of ["hits-name", "hits-beside-name", "hits-beside"]) byId(id).hidden = !other;
  if (!other) return;
  drawHits(other.hits, "hits-beside");
  byId("hits-name").textContent = mine.name;
  byId("hits-beside-name").textContent = other.name;
}

function draw() {
  if (state.labels) drawClasses();
  if (state.hits) drawResults();
  if (!state.last) return;
  drawMatrix(state.last);
  drawExports(state.last);
  drawMap(state.last);
  drawTokens(state.last);
  noteForeign(state.last.texts, state.last.pieces);
  drawCall(state.last.made);
  if (state.last.sides) drawBeside(state.last.texts, state.last.sides);
  else byId("beside").closest("section").hidden = true;
}

async function readFile(file) {
  const found = await linesOf(file);
  byId("texts").value = found.slice(0, MOST_LINES).join("\n");
  const used = await both();
  if (found.length > MOST_LINES) throw new Error(word("too_many_lines", { shown: MOST_LINES, all: found.length }));
  return used;
}

/** A finished example that suits the model: Korean beside English only where its tokenizer knows Korean. */
async function showExample() {
  const model = byId("model").value;
  const [probe] = await tokenize([PROBE], model);
  state.example = EXAMPLES[modelOf(model).example][isForeign(PROBE, probe) ? "english" : "mixed"];
  const { texts, queries } = state.example;
  byId("texts").value = texts.join("\n");
  byId("query").value = queries[state.language] ?? queries.en ?? "";
  const used = await both();
  const knows = state.language in queries ? state.language : "en";
  if (modelOf(model).modalities.includes("image")) await showPictureExample(modelName(":query"), SCENE[knows], () => {});
  return used;
}

/** All that is shown, so that no part of it is of other texts, or of another model, than the rest. */
async function both() {
  if (classifies(byId("model").value)) return classify();
  if (ranks(byId("model").value)) return search();
  const used = await compare();
  if (!byId("query").value.trim()) return used;
  return { texts: used.texts, tokens: used.tokens + (await search()).tokens };
}

/** The example, or what somebody has written meanwhile. */
function start() {
  return untouched() ? showExample() : both();
}

/** Whether nobody has written anything yet. */
function untouched() {
  const { texts, queries } = state.example;
  return byId("texts").value === texts.join("\n") && ["", ...Object.values(queries)].includes(byId("query").value);
}

/** What this page shows of a model: its vectors, its scores of one label or of several, or nothing; and by which example. */
async function shownOf({ id, outputs }) {
  if (outputs.includes("dense")) return { sort: "vectors", example: "vectors" };
  if (!outputs.includes("scores")) return { sort: "" };
  const { model_type: { reranker, classifier } } = await call(`info?model=${encodeURIComponent(id)}`);
  if (reranker) return { sort: "scores", example: "scores" };
  const names = Object.values(classifier.id2label);
  return { sort: "labels", count: names.length, example: names.some((name) => COMPARING.test(name)) ? "pairs" : "labels" };
}

async function loadModels() {
  const { data } = await call("v1/models");
  const shown = await Promise.all(data.map(shownOf));
  state.models = data.map((m, i) => ({ ...m, ...shown[i] })).filter((m) => m.sort);
  if (!state.models.length) throw new Error(word("no_view", { names: data.map((m) => m.id).join(", ") }));
  const bases = state.models.filter((m) => !m.id.includes(":"));
  byId("model").replaceChildren(...bases.map((m) => element("option", { value: m.id }, m.id)));
  showModel();
}

function showModel() {
  const model = modelOf(byId("model").value);
  if (!model) return;
  const [ranking, labelling] = [ranks(model.id), classifies(model.id)];
  byId("served").textContent = word(SERVED[model.sort], model);
  document.querySelectorAll("[data-scores], [data-labels]").forEach(({ dataset }) => { dataset.now = dataset[model.sort] ?? dataset.word; });
  speakWords();
  byId("vectors").hidden = ranking || labelling;
  byId("compare").hidden = ranking;
  byId("searching").hidden = labelling;
  byId("labels").closest("section").hidden = !labelling || !state.labels;
  document.querySelector("#search button").classList.toggle("main", ranking);
  const others = labelling ? [] : state.models.filter((m) => !m.id.includes(":") && m.id !== model.id && !classifies(m.id));
  const chosen = byId("second").value;
  byId("second").replaceChildren(element("option", { value: "" }, word("no_second")), ...others.map((m) => element("option", { value: m.id }, m.id)));
  byId("second").value = others.some((m) => m.id === chosen) ? chosen : "";
  byId("second-field").hidden = !others.length;
  const sizes = [768, 512, 256, 128, 64].filter((size) => size < model.dimension);
  byId("dimensions").replaceChildren(element("option", { value: "" }, word("all_dimensions", { n: model.dimension })), ...sizes.map((n) => element("option", { value: n }, String(n))));
  byId("dimensions-field").hidden = model.sort !== "vectors" || !model.matryoshka || !sizes.length;
  offer(model);
  byId("kinds").hidden = !state.models.some((m) => m.id === `${model.id}:query`);
}

function speakWords() {
  document.querySelectorAll("[data-word]").forEach((e) => { e.textContent = word(e.dataset.now ?? e.dataset.word); });
}

function speak(language) {
  const mine = untouched();
  state.language = setLanguage(language in WORDS ? language : "en");
  document.documentElement.lang = state.language;
  byId("language").value = state.language;
  speakWords();
  document.querySelectorAll("[data-hint]").forEach((e) => { e.placeholder = word(e.dataset.hint); });
  byId("status").textContent = "";
  showModel();
  if (mine && (state.hits || state.labels)) guarded(showExample);
  else draw();
}

byId("language").addEventListener("change", (event) => {
  localStorage.setItem("language", event.target.value);
  speak(event.target.value);
});
byId("model").addEventListener("change", () => {
  Object.assign(state, { last: null, hits: null, labels: null });
  showModel();
  guarded(start);
});
for (const id of ["second", "dimensions"]) byId(id).addEventListener("change", () => guarded(both));
byId("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) guarded(() => readFile(file));
  target.value = ""; // the same file may be opened again
});
const drop = (files) => guarded(() => addPictures(files, (done, all) => progress(all)(done)));
byId("picture-files").addEventListener("change", ({ target }) => {
  const files = [...target.files];
  target.value = "";
  if (files.length) drop(files);
});
const zone = byId("pictures").closest("section");
for (const name of ["dragover", "dragleave", "drop"]) zone.addEventListener(name, (event) => {
  event.preventDefault();
  zone.classList.toggle("dropping", name === "dragover");
});
zone.addEventListener("drop", (event) => {
  drop(event.dataTransfer.files);
});
byId("picture-search").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(() => findPictures(byId("picture-query").value.trim(), modelName(":query")));
});
byId("compare").addEventListener("click", () => guarded(both));
byId("search").addEventListener("submit", (event) => { event.preventDefault(); guarded(search); });
byId("key-field").addEventListener("submit", (event) => event.preventDefault());
byId("key").addEventListener("change", () => guarded(start));
let width = window.innerWidth;
window.addEventListener("resize", () => { // the map is drawn for the width that it has
  if (window.innerWidth !== width && state.last && !byId("vectors").hidden) drawMap(state.last);
  width = window.innerWidth;
});
byId("texts").value = state.example.texts.join("\n");
speak(localStorage.getItem("language") ?? navigator.language.slice(0, 2));
guarded(start);
