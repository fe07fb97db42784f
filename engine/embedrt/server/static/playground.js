import { CLUSTER_COLOURS, clusters, dot, fromBase64, project, shade, similarities } from "./geometry.js";
import { EXAMPLES, WORDS } from "./words.js";

const MOST_CELLS = 120; // texts in the matrix
const WITH_NUMBERS = 14; // up to so many texts, cells say their number
const MOST_PIECES = 80; // tokens shown per text
const byId = (id) => document.getElementById(id);
const state = { models: [], language: "en", last: null };

function word(name, values = {}) {
  return (WORDS[state.language][name] ?? name).replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "circle", "text", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

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
  state.last = { texts, matrix: similarities(made.vectors), points: project(made.vectors), pieces, limit };
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
  byId("hits").replaceChildren(...hits.slice(0, 20).map((hit) => element("li", {},
    element("output", {}, hit.score.toFixed(3)),
    element("meter", { min: 0, max: 1, value: Math.max(0, hit.score) }), element("span", {}, hit.text))));
  return { texts: texts.length + 1, tokens: asked.usage.total_tokens + made.usage.total_tokens };
}

function draw() {
  if (!state.last) return;
  drawMatrix(state.last);
  drawMap(state.last);
  drawTokens(state.last);
}

function drawMatrix({ texts, matrix }) {
  const shown = Math.min(texts.length, MOST_CELLS);
  const others = matrix.slice(0, shown).flatMap((row, i) => row.slice(0, shown).filter((_, j) => j !== i));
  const [low, high] = others.length ? [Math.min(...others), Math.max(...others)] : [0, 1];
  const share = (x) => (high > low ? (x - low) / (high - low) : 1);
  const gradient = [0, .25, .5, .75, 1].map((x) => shade(x).background).join(",");
  byId("scale").replaceChildren(low.toFixed(2),
    element("i", { style: `background:linear-gradient(90deg,${gradient})` }), high.toFixed(2),
    shown < texts.length ? word("more", { shown, all: texts.length }) : "");
  const head = element("tr", {}, element("th"), ...texts.slice(0, shown).map((_, j) => element("th", {}, String(j + 1))));
  const rows = texts.slice(0, shown).map((text, i) => element("tr", {},
    element("th", { title: text, scope: "row" }, `${i + 1} ${text}`),
    ...matrix[i].slice(0, shown).map((value, j) => {
      const { background, ink } = shade(share(value));
      return element("td", { style: `background:${background};color:${ink}`, title: `${value.toFixed(4)}\n${text}\n${texts[j]}` },
        shown <= WITH_NUMBERS ? value.toFixed(2) : "");
    })));
  byId("matrix").classList.toggle("dense", shown > WITH_NUMBERS);
  byId("matrix").replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function drawMap({ texts, matrix, points }) {
  const [width, height, edge] = [1100, 480, 30];
  const colour = clusters(matrix.length <= 300 ? matrix : []);
  const extent = [0, 1].map((d) => {
    const values = points.map((p) => p[d]);
    return [Math.min(...values), Math.max(...values)];
  });
  const place = (p) => [0, 1].map((d) => {
    const [low, high] = extent[d];
    const size = (d ? height : width) - 2 * edge;
    return edge + size * (high > low ? (p[d] - low) / (high - low) : .5);
  });
  const boxes = []; // of labels, so that none lies on another
  const free = (left, right, y) => boxes.every((b) => b.right < left || b.left > right || Math.abs(b.y - y) > 12);
  const marks = points.map((p, i) => {
    const [x, y] = place(p);
    const group = colour[i] ?? 0;
    const circle = element("circle", { cx: x, cy: y, r: 6, fill: CLUSTER_COLOURS[group % CLUSTER_COLOURS.length], "data-cluster": group },
      element("title", {}, `${texts[i]}\n${word("cluster", { n: group + 1 })}`));
    const left = x > width * .6;
    const short = `${i + 1} ${texts[i].length > 44 ? `${texts[i].slice(0, 43)}…` : texts[i]}`;
    const wide = [...short].reduce((sum, c) => sum + (c > "\u2e7f" ? 11 : 6), 10);
    const [from, to] = left ? [x - wide, x] : [x, x + wide];
    const shift = [0, 13, -13, 26, -26].find((d) => free(from, to, y + d)) ?? 0;
    boxes.push({ left: from, right: to, y: y + shift });
    const label = element("text", { x: x + (left ? -10 : 10), y: y + 4 + shift, "text-anchor": left ? "end" : "start" }, short);
    return texts.length <= 30 ? [label, circle] : [circle];
  });
  byId("map").replaceChildren(element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, ...marks.flat()));
}

function drawTokens({ texts, pieces, limit }) {
  const head = element("tr", {}, ...["text", "count", "pieces"].map((name) => element("th", {}, word(name))));
  const rows = texts.map((text, i) => {
    const count = pieces[i].length;
    const cut = count > limit;
    const chips = pieces[i].slice(0, MOST_PIECES).map((piece, k) => element("span", {
      class: `token${piece.special ? " special" : ""}${cut && k >= limit - 1 && !piece.special ? " lost" : ""}`, title: `id ${piece.id}`,
    }, piece.token));
    if (count > MOST_PIECES) chips.push(element("span", { class: "quiet" }, word("rest", { n: count - MOST_PIECES })));
    const short = text.length > 60 ? `${text.slice(0, 59)}…` : text;
    return element("tr", { class: cut ? "cut" : "" }, element("td", { title: text }, short),
      element("td", { class: "count" }, cut ? `${count} · ${word("cut", { limit })}` : String(count)), element("td", {}, ...chips));
  });
  byId("tokens").replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
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
  byId("kinds").disabled = !state.models.some((m) => m.id === `${model.id}:query`);
}

function speak(language) {
  state.language = language in WORDS ? language : "en";
  document.documentElement.lang = state.language;
  byId("language").value = state.language;
  document.querySelectorAll("[data-word]").forEach((e) => { e.textContent = word(e.dataset.word); });
  document.querySelectorAll("[data-hint]").forEach((e) => { e.placeholder = word(e.dataset.hint); });
  byId("status").textContent = "";
  showModel();
  draw();
}

byId("language").addEventListener("change", (event) => {
  localStorage.setItem("language", event.target.value);
  speak(event.target.value);
});
byId("model").addEventListener("change", showModel);
byId("compare").addEventListener("click", () => guarded(compare));
byId("search").addEventListener("submit", (event) => { event.preventDefault(); guarded(search); });
byId("key-field").addEventListener("submit", (event) => event.preventDefault());
byId("key").addEventListener("change", () => loadModels().then(() => { byId("error").hidden = true; }, show));
byId("texts").value = EXAMPLES.join("\n");
speak(localStorage.getItem("language") ?? navigator.language.slice(0, 2));
loadModels().catch(show);
