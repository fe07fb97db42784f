// Classifiers: the labels of pasted texts, or of pairs of them, with their scores.

import { byId, element, fill } from "./dom.js";
import { word } from "./words.js";

const BETWEEN = /\t|\s*\|\|\s*/; // the two parts of a pair
const MOST_LINES = 100; // that are drawn
const MOST_LABELS = 6; // of a line that are drawn unasked

/** What is sent for each line: a text in a list, or a pair. */
export function partsOf(lines) {
  return lines.map((line, i) => {
    const parts = line.split(BETWEEN);
    if (parts.length > 2) throw new Error(word("bad_pair", { n: i + 1 }));
    return parts;
  });
}

/** The scores of a line's labels, best first. */
function bars(labels) {
  return element("ul", {}, ...labels.map(({ label, score }) => element("li", {},
    element("span", { title: label }, label), element("meter", { min: 0, max: 1, value: score, "aria-label": label }),
    element("output", { title: String(score) }, score > 0 && score < .0005 ? score.toExponential(0) : score.toFixed(3)))));
}

/** Lines with their labels; `cut` of them were over the model's limit. */
export function drawLabels({ inputs, found, cut, limit }) {
  fill("labels", ...found.slice(0, MOST_LINES).map((labels, i) => {
    const rest = labels.slice(MOST_LABELS);
    return element("li", {}, ...inputs[i].map((part, k) => element("p", { class: k ? "second" : "" }, part)), bars(labels.slice(0, MOST_LABELS)),
      ...(rest.length ? [element("details", {}, element("summary", { class: "quiet" }, word("rest", { n: rest.length })), bars(rest))] : []));
  }));
  byId("labels-note").textContent = [found.length > MOST_LINES ? word("more", { shown: MOST_LINES, all: found.length }) : "",
    cut ? word("cut_labels", { n: cut, all: found.length, limit }) : ""].join(" ").trim();
}

/** A row per line: its parts, and a column for each label. */
export function rowsOf({ inputs, found }) {
  const names = found[0].map(({ label }) => label).sort();
  const paired = inputs.some((parts) => parts.length > 1);
  return [["line", "text", ...(paired ? ["second"] : []), ...names], ...found.map((labels, i) => {
    const scores = Object.fromEntries(labels.map(({ label, score }) => [label, score]));
    return [i + 1, inputs[i][0], ...(paired ? [inputs[i][1] ?? ""] : []), ...names.map((name) => scores[name])];
  })];
}
