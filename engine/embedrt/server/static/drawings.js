// What is drawn of an answer: hits, heat map, map, tokens.

import { byId, element, fill } from "./dom.js";
import { CLUSTER_COLOURS, clusters, range, shade } from "./geometry.js";
import { word } from "./words.js";

const MOST_CELLS = 120; // texts in the matrix
const WITH_NUMBERS = 14; // up to so many texts, cells say their number
const MOST_PIECES = 80; // tokens shown per text
const LEAST_RANGE = 0.1; // of the colours: smaller differences are not made to look large
const MOST_HITS = 100; // of a ranking that are drawn
const LONG_HIT = 200; // characters of a hit that are shown unasked
const LABELS = 30; // texts that are labelled on the map
const NARROW = 640; // pixels, below which labels are numbers

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Hits, best first: score, bar, the line that each was and how far it moved. */
export function drawHits(hits, id = "hits") {
  fill(id, ...hits.slice(0, MOST_HITS).map(({ text, score, index }, rank) => element("li", {},
    element("output", { title: String(score) }, score > 0 && score < .0005 ? score.toExponential(0) : score.toFixed(3)),
    element("meter", { min: 0, max: 1, value: Math.max(0, score) }), place(index, rank),
    text.length <= LONG_HIT ? element("span", {}, text)
      : element("details", {}, element("summary", {}, short(text, LONG_HIT)), text))));
}

function place(index, rank) {
  const up = index - rank;
  const moved = up ? word(up > 0 ? "moved_up" : "moved_down", { n: Math.abs(up) }) : word("not_moved");
  const arrow = up ? `${up > 0 ? "▲" : "▼"}${Math.abs(up)}` : "";
  return element("small", { title: `${word("was_line", { n: index + 1 })}, ${moved}`, class: up > 0 ? "up" : "" }, `#${index + 1}`, element("b", {}, arrow));
}

export const hitsLeft = (hits) => (hits.length > MOST_HITS ? word("more", { shown: MOST_HITS, all: hits.length }) : "");

export function drawMatrix({ texts, matrix }) {
  const shown = Math.min(texts.length, MOST_CELLS);
  if (shown < 2) {
    byId("matrix").closest("section").hidden = true; // one text is like itself, which says nothing
    return;
  }
  const [low, high] = range(matrix.slice(0, shown).map((row) => row.slice(0, shown)), LEAST_RANGE);
  const gradient = [0, .25, .5, .75, 1].map((x) => shade(x).background).join(",");
  fill("scale", low.toFixed(2), element("i", { style: `background:linear-gradient(90deg,${gradient})` }), high.toFixed(2),
    element("span", { class: "quiet" }, word("scale_note"), shown < texts.length ? ` ${word("more", { shown, all: texts.length })}` : ""));
  const head = element("tr", {}, element("th"), ...texts.slice(0, shown).map((_, j) => element("th", {}, String(j + 1))));
  const rows = texts.slice(0, shown).map((text, i) => element("tr", {},
    element("th", { title: text, scope: "row" }, `${i + 1} ${text}`),
    ...matrix[i].slice(0, shown).map((value, j) => {
      const title = `${value.toFixed(4)}\n${text}\n${texts[j]}`;
      const number = shown <= WITH_NUMBERS ? value.toFixed(2) : "";
      if (i === j) return element("td", { class: "self", title }, number);
      const { background, ink } = shade((value - low) / (high - low));
      return element("td", { style: `background:${background};color:${ink}`, title }, number);
    })));
  byId("matrix").classList.toggle("dense", shown > WITH_NUMBERS);
  fill("matrix", element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

export function drawMap({ texts, matrix, plane }) {
  if (texts.length < 3) {
    byId("map").closest("section").hidden = true; // a point or a line is no map
    return;
  }
  byId("map").closest("section").hidden = false; // before it is measured
  const width = Math.max(280, byId("map").clientWidth);
  const narrow = width < NARROW;
  const height = Math.round(Math.min(520, Math.max(300, width * .45)));
  const colour = clusters(matrix.length <= 300 ? matrix : []);
  const place = placing(plane.points, width, height, narrow ? 24 : 34);
  const groupOf = (i) => colour[i] ?? 0;
  const fillOf = (group) => CLUSTER_COLOURS[group % CLUSTER_COLOURS.length];
  const spots = plane.points.map(place);
  const labels = texts.length <= LABELS ? labelling(spots, texts, width, narrow) : [];
  const dots = spots.map(([x, y], i) => element("circle",
    { cx: x, cy: y, r: 6, fill: fillOf(groupOf(i)), "data-cluster": groupOf(i) },
    element("title", {}, `${i + 1} ${texts[i]}\n${word("cluster", { n: groupOf(i) + 1 })}`)));
  fill("map", element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": word("map") }, ...dots, ...labels));
  byId("share").textContent = word("share", { percent: Math.round(plane.share * 100) });
  const groups = [...new Set(texts.map((_, i) => groupOf(i)))].sort((a, b) => a - b);
  byId("legend").replaceChildren(...(matrix.length <= 300 ? groups : []).map((group) => {
    const members = texts.map((text, i) => [i, text]).filter(([i]) => groupOf(i) === group);
    return element("li", {}, element("i", { style: `background:${fillOf(group)}` }), element("b", {}, word("cluster", { n: group + 1 })), " ",
      ...members.slice(0, 8).map(([i, text]) => element("span", { title: text }, `${i + 1} ${short(text, 48)}`)),
      members.length > 8 ? element("span", {}, word("rest", { n: members.length - 8 })) : "");
  }));
}

/** From the plane to the picture, by the same scale in both directions. */
function placing(points, width, height, edge) {
  const middle = [0, 1].map((d) => (Math.min(...points.map((p) => p[d])) + Math.max(...points.map((p) => p[d]))) / 2);
  const reach = [0, 1].map((d) => Math.max(...points.map((p) => Math.abs(p[d] - middle[d]))) || 1e-9);
  const scale = Math.min((width / 2 - edge) / reach[0], (height / 2 - edge) / reach[1]);
  return (p) => [width / 2 + (p[0] - middle[0]) * scale, height / 2 + (p[1] - middle[1]) * scale];
}

/** Labels beside their dots, on no other label and on no dot; one that finds no room is left to the legend. */
function labelling(spots, texts, width, narrow) {
  const taken = spots.map(([x, y]) => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7 }));
  const free = (box) => taken.every((t) => box.right < t.left || box.left > t.right || box.bottom < t.top || box.top > t.bottom);
  const inside = (box) => box.left >= 0 && box.right <= width && box.top >= 0;
  return spots.flatMap(([x, y], i) => {
    for (const said of narrow ? [String(i + 1)] : [`${i + 1} ${short(texts[i], 40)}`, `${i + 1} ${short(texts[i], 18)}`, String(i + 1)]) {
      const wide = [...said].reduce((sum, c) => sum + (c > "\u2e7f" ? 12 : 6.6), 2);
      for (const dy of [0, 15, -15, 28, -28]) for (const right of x > width * .6 ? [false, true] : [true, false]) {
        const left = right ? x + 11 : x - 11 - wide;
        const box = { left, right: left + wide, top: y + dy - 7, bottom: y + dy + 7 };
        if (!free(box) || !inside(box)) continue;
        taken.push(box);
        return [element("text", { x: right ? left : left + wide, y: y + dy + 4, "text-anchor": right ? "start" : "end" }, said)];
      }
    }
    return [];
  });
}

const UNKNOWN = /^([[<]unk[\]>]|\ufffd)$/i;

/** Whether the model hardly knows the text's language: most of its pieces are unknown, or single letters and less. */
export function isForeign(text, pieces) {
  const own = pieces.filter((piece) => !piece.special);
  const letters = [...text].filter((c) => /\p{L}/u.test(c)).length;
  if (!own.length || letters < 3) return false;
  const unknown = own.filter((piece) => UNKNOWN.test(piece.token)).length;
  return unknown > own.length / 2 || own.length > 1.2 * letters;
}

/** Say it when texts are foreign to the model. */
export function noteForeign(texts, pieces) {
  const foreign = pieces.filter((found, i) => isForeign(texts[i], found)).length;
  byId("foreign").hidden = !foreign;
  byId("foreign").textContent = word("foreign", { n: foreign, all: pieces.length });
}

export function drawTokens({ texts, pieces, limit }) {
  const head = element("tr", {}, ...["text", "count", "pieces"].map((name) => element("th", {}, word(name))));
  const rows = pieces.map((_, i) => {
    const text = texts[i];
    const count = pieces[i].length;
    const cut = count > limit;
    const strange = isForeign(text, pieces[i]);
    const chips = pieces[i].slice(0, MOST_PIECES).map((piece, k) => element("span", {
      class: `token${piece.special ? " special" : ""}${cut && k >= limit - 1 && !piece.special ? " lost" : ""}`, title: `id ${piece.id}`,
    }, piece.token));
    if (count > MOST_PIECES) chips.push(element("span", { class: "quiet" }, word("rest", { n: count - MOST_PIECES })));
    return element("tr", { class: `${cut ? "cut" : ""}${strange ? " foreign" : ""}` }, element("td", { title: text }, short(text, 60)),
      element("td", { class: "count" }, cut ? `${count} · ${word("cut", { limit })}` : String(count)), element("td", {}, ...chips));
  });
  const left = pieces.length < texts.length ? word("more", { shown: pieces.length, all: texts.length }) : "";
  fill("tokens", element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)), element("p", { class: "quiet" }, left));
}
