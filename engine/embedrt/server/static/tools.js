// What can be done with an answer: code for the call, its time, files, and another model beside it.

import { byId, element, fill } from "./dom.js";
import { range, ranksAgree, sameNearest, shade } from "./geometry.js";
import { word } from "./words.js";

const CODE_TEXTS = 6; // of the call that are written out
const PHASE_COLOURS = { parse: "#7a7a7a", tokenize: "#e69f00", queue: "#cc79a7", compute: "#0072b2", write: "#009e73", other: "#a8a8a8", network: "#56b4e9" };
// By path: the field with the texts, and what the answer is called and where it is, for JavaScript.
const MANY = { "v1/embeddings": "input", rerank: "texts", predict: "inputs" };
const RESULTS = { "v1/embeddings": ["vectors", ".data.map((row) => row.embedding)"], rerank: ["ranking", ""], predict: ["labels", ""] };
const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };

/** The call in the words of a client. The key is never written out. */
export function snippets(path, body, address, withKey) {
  const json = JSON.stringify(body, null, 1).replace(/\n\s*/g, " ");
  const quoted = `'${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`;
  const result = RESULTS[path];
  return {
    curl: [`curl ${address}/${path} \\`, "  -H 'Content-Type: application/json' \\",
      ...(withKey ? ['  -H "Authorization: Bearer $EMBEDRT_KEY" \\'] : []), `  -d ${quoted}`].join("\n"),
    python: (path === "v1/embeddings" ? pythonVectors(body, address, withKey) : pythonPosted(path, body, address, withKey)).join("\n"),
    javascript: [`const answer = await fetch("${address}/${path}", {`, '  method: "POST",',
      `  headers: { "Content-Type": "application/json"${withKey ? ", Authorization: `Bearer ${process.env.EMBEDRT_KEY}`" : ""} },`,
      `  body: JSON.stringify(${json}),`, "});", `const ${result[0]} = (await answer.json())${result[1]};`].join("\n"),
  };
}

const listed = (texts, indent) => texts.map((text) => `${indent}${JSON.stringify(text)},`).join("\n");

function pythonVectors({ model, input, dimensions }, address, withKey) {
  return ["import os", "", "from openai import OpenAI", "",
    `client = OpenAI(base_url="${address}/v1", api_key=${withKey ? 'os.environ["EMBEDRT_KEY"]' : 'os.environ.get("EMBEDRT_KEY", "none")'})`,
    `answer = client.embeddings.create(model=${JSON.stringify(model)}${dimensions ? `, dimensions=${dimensions}` : ""}, input=[`, listed(input, "    "), "])",
    "vectors = [row.embedding for row in answer.data]"];
}

function pythonPosted(path, body, address, withKey) {
  const { [MANY[path]]: many, ...rest } = body;
  const fields = Object.entries(rest).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}, `).join("");
  const headers = withKey ? [`    headers={"Authorization": f"Bearer {os.environ['EMBEDRT_KEY']}"},`] : [];
  return [...(withKey ? ["import os", ""] : []), "import requests", "", "answer = requests.post(", `    "${address}/${path}",`, ...headers,
    `    json={${fields}"${MANY[path]}": [`, listed(many, "        "), "    ]},", ")",
    "answer.raise_for_status()", `${RESULTS[path][0]} = answer.json()`];
}

let language = "curl";

export function drawCall({ path, body, phases, requests, tokens }) {
  const many = MANY[path];
  const shortened = { ...body, [many]: body[many].slice(0, CODE_TEXTS) };
  const code = snippets(path, shortened, location.href.replace(/[#?].*$/, "").replace(/\/$/, ""), Boolean(byId("key").value));
  const shown = element("code", {}, code[language]);
  const tabs = Object.entries(LANGUAGES).map(([name, label]) => {
    const tab = element("button", { type: "button", "aria-pressed": String(name === language), class: "tab" }, label);
    tab.addEventListener("click", () => { language = name; drawCall({ path, body, phases, requests, tokens }); });
    return tab;
  });
  const left = body[many].length - CODE_TEXTS;
  fill("code", element("div", { class: "row" }, ...tabs, copyButton(() => code[language])), element("pre", { class: "scroll", tabindex: "0" }, shown),
    element("p", { class: "quiet" }, left > 0 ? word("code_more", { n: left }) : ""));
  const total = Object.values(phases).reduce((a, b) => a + b, 0);
  const named = Object.entries(phases).filter(([, ms]) => ms > 0);
  fill("time", element("div", { class: "bar", role: "img", "aria-label": word("time") },
    ...named.map(([name, ms]) => element("i", { style: `flex-grow:${ms / total};background:${PHASE_COLOURS[name] ?? "#888"}`, title: `${word(`phase_${name}`)} ${ms.toFixed(2)} ms` }))),
  element("ul", { class: "phases" }, ...named.map(([name, ms]) => element("li", {}, element("i", { style: `background:${PHASE_COLOURS[name] ?? "#888"}` }), `${word(`phase_${name}`)} `, element("output", {}, `${ms.toFixed(1)} ms`)))),
  element("p", { class: "quiet" }, word("time_note", { requests, tokens, ms: total.toFixed(1) })));
}

/** Two models on the same texts: heat maps of one scale each, and how far they agree. */
export function drawBeside(texts, sides) {
  const [a, b] = sides.map((side) => side.matrix);
  const pairs = ranksAgree(a, b);
  const nearest = sameNearest(a, b);
  fill("beside", element("p", {}, texts.length > 2 ? word("agree", { rho: pairs.toFixed(3), same: nearest, all: texts.length }) : word("agree_more")),
    element("div", { class: "sides" }, ...sides.map(({ name, matrix, ms }) => {
      const [low, high] = range(matrix);
      const rows = matrix.slice(0, 40).map((row, i) => element("tr", {}, ...row.slice(0, 40).map((value, j) => {
        const title = `${value.toFixed(4)}\n${texts[i]}\n${texts[j]}`;
        return i === j ? element("td", { class: "self", title })
          : element("td", { title, style: `background:${shade((value - low) / (high - low)).background}` });
      })));
      return element("figure", {}, element("figcaption", {}, element("b", {}, name), ` ${word("beside_range", { low: low.toFixed(2), high: high.toFixed(2), ms: ms.toFixed(0) })}`),
        element("table", {}, element("tbody", {}, ...rows)));
    })));
}

function copyButton(text, label = "copy") {
  const button = element("button", { type: "button", class: "small" }, word(label));
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = word(done ? "copied" : "not_copied");
    setTimeout(() => { button.textContent = word(label); }, 1500);
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = document.body.appendChild(element("textarea", {})); // clipboards are for https and localhost only
  area.value = text;
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** Buttons that give the matrix and the vectors away. */
export function drawExports({ texts, matrix, vectors, model }) {
  fill("exports", copyButton(() => table(texts, matrix, "\t"), "copy_matrix"), saveButton("save_matrix", "similarities.csv", "text/csv", () => table(texts, matrix, ",")),
    saveButton("save_vectors", "vectors.jsonl", "application/x-ndjson", () => texts.map((text, i) => `${JSON.stringify({ text, model, embedding: [...vectors[i]] })}\n`).join("")));
}

/** Buttons that give a ranking away. */
export function drawHitExports(hits) {
  const rows = (separator) => [["rank", "line", "score", "text"], ...hits.map(({ index, score, text }, i) => [i + 1, index + 1, score, cell(text)])]
    .map((row) => `${row.join(separator)}\r\n`).join("");
  fill("hit-exports", copyButton(() => rows("\t"), "copy_ranking"), saveButton("save_ranking", "ranking.csv", "text/csv", () => rows(",")));
}

/** Buttons that give the labels away. */
export function drawLabelExports(rows) {
  const joined = (separator) => rows.map((row) => `${row.map((value) => (typeof value === "string" ? cell(value) : value)).join(separator)}\r\n`).join("");
  fill("label-exports", copyButton(() => joined("\t"), "copy_matrix"), saveButton("save_labels", "labels.csv", "text/csv", () => joined(",")));
}

/** Quoted by RFC 4180, and not taken for a formula. */
const cell = (text) => `"${(/^[=+\-@\t]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;

/** The matrix with its texts, for a spreadsheet. */
export function table(texts, matrix, separator) {
  const head = ["", ...texts.map(cell)].join(separator);
  return `${[head, ...matrix.map((row, i) => [cell(texts[i]), ...row.map((x) => x.toFixed(6))].join(separator))].join("\r\n")}\r\n`;
}

function saveButton(label, name, type, content) {
  const button = element("button", { type: "button", class: "small", "data-file": name }, word(label));
  button.addEventListener("click", () => {
    const link = element("a", { href: URL.createObjectURL(new Blob([content()], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  return button;
}

/** The lines of a file: as they are, or of JSON lines the field that holds a text. */
export async function linesOf(file) {
  const lines = (await file.text()).replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim());
  if (!/\.(jsonl|ndjson)$/i.test(file.name)) return lines;
  return lines.map((line, i) => {
    let row;
    try { row = JSON.parse(line); } catch { throw new Error(word("bad_line", { n: i + 1, file: file.name })); }
    const text = typeof row === "string" ? row : row?.text ?? row?.content ?? row?.sentence;
    if (typeof text !== "string") throw new Error(word("bad_line", { n: i + 1, file: file.name }));
    return text.replace(/\s+/g, " ");
  });
}
