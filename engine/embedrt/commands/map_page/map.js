// The map: a canvas to move about in, a legend that hides groups, and a search. Nothing is fetched.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const canvas = byId("map"), context = canvas.getContext("2d"), tip = byId("tip");
const count = data.x.length;
const dark = matchMedia("(prefers-color-scheme: dark)");
const hidden = new Set(); // groups
const MOST_HITS = 50, LONGEST = 600, LABELS = 20, NEAR = 14, AROUND = 12; // hits, characters, groups, pixels, points
let matches = null; // of the search: one flag for each point, or null for none
let view = { scale: 1, x: 0, y: 0 }; // of the plane: what is in the middle, and how much larger than at first
let size = { width: 1, height: 1, ratio: 1 };
let pixels = { across: 1, margin: 0, image: new ImageData(1, 1) }; // what is drawn, and a margin for dots at the edge
let pointed = -1, waiting = false, sprites = [], faintSprites = [], spriteKind = "";

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

/** Pixels for a unit of the plane, which reaches from -10,000 to 10,000. */
const unit = () => (Math.min(size.width, size.height) / 2 - 24) / 10000 * view.scale;
const acrossOf = (i) => size.width / 2 + (data.x[i] - view.x) * unit();
const downOf = (i) => size.height / 2 - (data.y[i] - view.y) * unit();
const radius = () => Math.min(9, (count > 5000 ? 2.2 : count > 500 ? 3.2 : 5) * Math.sqrt(Math.min(view.scale, 8)) ** .8);
const shown = (i) => !hidden.has(data.group[i]);

/** A dot of each colour, once for a size: of each pixel, how much shows through it and what it adds. */
function makeSprites(faint) {
  const r = radius() * size.ratio, edge = .7 * size.ratio, reach = Math.ceil(r + edge + 1);
  const cover = (far, limit) => Math.min(1, Math.max(0, limit - far + .5));
  const card = rgbOf(getComputedStyle(document.documentElement).getPropertyValue("--card"));
  return data.paint.map((colour) => {
    const paint = rgbOf(colour), sprite = { at: [], through: [], red: [], green: [], blue: [] };
    for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
      const far = Math.hypot(dx, dy), dot = faint * cover(far, r), ring = faint * cover(far, r + edge);
      if (ring < .02) continue;
      sprite.at.push(dy * pixels.across + dx);
      sprite.through.push((1 - ring) * (1 - dot));
      const added = card.map((value, i) => value * ring * (1 - dot) + paint[i] * dot);
      ["red", "green", "blue"].forEach((name, i) => sprite[name].push(added[i]));
    }
    return Object.fromEntries(Object.entries(sprite).map(([name, list]) =>
      [name, name === "at" ? Int32Array.from(list) : Float32Array.from(list)]));
  });
}

/** "#rrggbb" or "#rgb" as three numbers. */
function rgbOf(colour) {
  const hex = colour.trim().slice(1), step = hex.length / 3;
  return [0, 1, 2].map((i) => parseInt(hex.slice(i * step, (i + 1) * step).repeat(3 - step), 16));
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function draw() {
  if (devicePixelRatio !== size.ratio) return fit(); // the window came to another screen
  const kind = `${radius()} ${size.width} ${size.height} ${dark.matches}`;
  if (kind !== spriteKind) [spriteKind, sprites, faintSprites] = [kind, makeSprites(1), makeSprites(.12)];
  const [red, green, blue] = rgbOf(getComputedStyle(document.documentElement).getPropertyValue("--card"));
  new Uint32Array(pixels.image.data.buffer).fill((255 << 24 | blue << 16 | green << 8 | red) >>> 0);
  if (matches) {
    drawPoints(faintSprites, (i) => !matches[i]);
    drawPoints(sprites, (i) => matches[i]);
  } else drawPoints(sprites, () => true);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.putImageData(pixels.image, -pixels.margin, -pixels.margin);
  context.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  drawLabels();
  if (pointed >= 0) drawRing(pointed);
}

/** Into the pixels themselves: ten thousand calls of the canvas take several times as long where no GPU draws them. */
function drawPoints(chosen, wanted) {
  const { ratio } = size, k = unit() * ratio, { across, margin, image } = pixels, bytes = image.data;
  const left = size.width * ratio / 2 + margin - view.x * k, top = size.height * ratio / 2 + margin + view.y * k;
  const reach = Math.ceil(radius() * ratio + ratio + 2), right = across - reach, bottom = image.height - reach;
  for (let i = 0; i < count; i++) {
    if (!shown(i) || !wanted(i)) continue;
    const x = Math.round(left + data.x[i] * k), y = Math.round(top - data.y[i] * k);
    if (x < reach || y < reach || x >= right || y >= bottom) continue;
    const { at, through, red, green, blue } = chosen[data.group[i]], start = y * across + x;
    for (let n = 0; n < at.length; n++) {
      const place = (start + at[n]) << 2, part = through[n];
      bytes[place] = bytes[place] * part + red[n];
      bytes[place + 1] = bytes[place + 1] * part + green[n];
      bytes[place + 2] = bytes[place + 2] * part + blue[n];
    }
  }
}

function drawRing(i) {
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  context.lineWidth = 2;
  context.beginPath();
  context.arc(acrossOf(i), downOf(i), radius() + 3, 0, 7);
  context.stroke();
}

/** The names of the groups, in the middle of most of their points, where they do not lie on each other. A group that is
 * scattered among others has no such place, and its name stands in the legend only. */
function drawLabels() {
  if (data.names.length > LABELS || data.names.length < 2) return;
  const style = getComputedStyle(document.documentElement);
  context.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 4;
  context.lineJoin = "round";
  const taken = [];
  for (const { group, x, y } of middles) {
    if (hidden.has(group)) continue;
    const name = data.names[group].length > 28 ? `${data.names[group].slice(0, 27)}…` : data.names[group];
    const wide = context.measureText(name).width / 2 + 4;
    const across = Math.min(Math.max(size.width / 2 + (x - view.x) * unit(), wide), size.width - wide);
    const down = size.height / 2 - (y - view.y) * unit();
    const box = { left: across - wide, right: across + wide, top: down - 10, bottom: down + 10 };
    if (down < 10 || down > size.height - 10) continue;
    if (taken.some((t) => box.left < t.right && t.left < box.right && box.top < t.bottom && t.top < box.bottom)) continue;
    taken.push(box);
    context.strokeStyle = style.getPropertyValue("--card");
    context.strokeText(name, across, down);
    context.fillStyle = style.getPropertyValue("--ink");
    context.fillText(name, across, down);
  }
}

/** How many of the points around one are of its group: of the AROUND nearest, itself among them. */
function ownShare(point) {
  const near = []; // [distance, group], rising
  for (let i = 0; i < count; i++) {
    const far = (data.x[i] - data.x[point]) ** 2 + (data.y[i] - data.y[point]) ** 2;
    if (near.length === AROUND && far >= near[AROUND - 1][0]) continue;
    near.splice(near.findIndex(([other]) => other > far) >>> 0, 0, [far, data.group[i]]);
    near.length = Math.min(near.length, AROUND);
  }
  return near.filter(([, group]) => group === data.group[point]).length / near.length;
}

/** The point of each group that is nearest to the middle one of its coordinates, the largest group first. */
const middles = (() => {
  const members = data.names.map(() => []);
  data.group.forEach((group, i) => members[group].push(i));
  const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
  return members.map((rows, group) => {
    if (!rows.length) return null;
    const [x, y] = [median(rows.map((i) => data.x[i])), median(rows.map((i) => data.y[i]))];
    const far = (i) => (data.x[i] - x) ** 2 + (data.y[i] - y) ** 2;
    const best = rows.reduce((a, b) => (far(b) < far(a) ? b : a));
    return { group, size: rows.length, x: data.x[best], y: data.y[best], own: ownShare(best) };
  }).filter((middle) => middle && middle.own >= .5).sort((a, b) => b.size - a.size);
})();

function nearest(x, y) {
  const k = unit(), least = Math.max(NEAR, radius() + 4);
  let best = -1, far = least * least;
  for (let i = 0; i < count; i++) {
    if (!shown(i) || (matches && !matches[i])) continue;
    const dx = size.width / 2 + (data.x[i] - view.x) * k - x, dy = size.height / 2 - (data.y[i] - view.y) * k - y;
    const d = dx * dx + dy * dy;
    if (d < far) [best, far] = [i, d];
  }
  return best;
}

function point(i) {
  pointed = i;
  tip.hidden = i < 0;
  if (i >= 0) {
    const text = data.text[i].length > LONGEST ? `${data.text[i].slice(0, LONGEST)}…` : data.text[i];
    const name = element("b", {}, data.names[data.group[i]]);
    name.style.color = data.paint[data.group[i]];
    const kept = Object.entries(data.kept[i] ?? {}).map(([key, value]) => element("small", {}, `${key}: ${value ?? ""}`));
    tip.replaceChildren(name, text || "(empty)", element("small", {}, `line ${data.line[i].toLocaleString("en")}`), ...kept);
    const x = acrossOf(i), y = downOf(i), box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > size.width ? x - 14 - box.width : x + 14;
    tip.style.left = `${Math.max(4, Math.min(left, size.width - box.width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, size.height - box.height - 4))}px`;
  }
  redraw();
}

function zoom(factor, x = size.width / 2, y = size.height / 2) {
  const before = unit();
  view.scale = Math.min(200, Math.max(.5, view.scale * factor));
  const after = unit();
  view.x += (x - size.width / 2) * (1 / before - 1 / after); // what lies under the pointer stays there
  view.y -= (y - size.height / 2) * (1 / before - 1 / after);
  point(-1);
}

function move(dx, dy) {
  view.x -= dx / unit();
  view.y += dy / unit();
  point(-1);
}

function whole() {
  view = { scale: 1, x: 0, y: 0 };
  point(-1);
}

function goTo(i) {
  hidden.delete(data.group[i]);
  drawLegend();
  view = { scale: Math.max(view.scale, 4), x: data.x[i], y: data.y[i] };
  point(i);
}

function search(wanted) {
  const plain = (text) => text.normalize("NFC").toLowerCase();
  const part = plain(wanted.trim());
  matches = part ? data.text.map((text) => plain(text).includes(part)) : null;
  const rows = matches ? matches.flatMap((yes, i) => (yes ? [i] : [])) : [];
  byId("found").textContent = matches ? `${rows.length.toLocaleString("en")} of ${count.toLocaleString("en")} texts` : "";
  byId("hits").replaceChildren(...rows.slice(0, MOST_HITS).map((i) => {
    const text = data.text[i].length > 120 ? `${data.text[i].slice(0, 119)}…` : data.text[i];
    const hit = element("button", { type: "button", onclick: () => goTo(i) }, text);
    hit.style.borderColor = data.paint[data.group[i]];
    return element("li", {}, hit);
  }));
  point(-1);
}

function drawLegend() {
  const sizes = data.names.map(() => 0);
  data.group.forEach((group) => sizes[group]++);
  byId("all").hidden = !hidden.size;
  byId("legend").replaceChildren(...data.names.map((name, group) => {
    const mark = element("i");
    mark.style.background = data.paint[group];
    const toggle = () => { if (!hidden.delete(group)) hidden.add(group); drawLegend(); point(-1); };
    const item = element("button", { type: "button", title: "Hide or show", onclick: toggle },
      mark, element("span", {}, name), element("output", {}, sizes[group].toLocaleString("en")));
    item.setAttribute("aria-pressed", String(!hidden.has(group)));
    return element("li", {}, item);
  }));
}

function fit() {
  const box = byId("stage").getBoundingClientRect();
  size = { width: box.width, height: box.height, ratio: devicePixelRatio };
  canvas.width = Math.round(box.width * size.ratio);
  canvas.height = Math.round(box.height * size.ratio);
  const margin = Math.ceil(24 * size.ratio), across = canvas.width + 2 * margin;
  pixels = { across, margin, image: new ImageData(across, canvas.height + 2 * margin) };
  spriteKind = "";
  point(-1);
}

const held = new Map(); // pointers that are down
const local = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  held.set(event.pointerId, local(event));
  canvas.classList.add("dragged");
});
canvas.addEventListener("pointermove", (event) => {
  const now = local(event), before = held.get(event.pointerId);
  if (!before) { const i = nearest(...now); if (i !== pointed) point(i); return; }
  if (held.size === 2) {
    const other = [...held].find(([id]) => id !== event.pointerId)[1];
    const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
    zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  } else if (now[0] !== before[0] || now[1] !== before[1]) move(now[0] - before[0], now[1] - before[1]);
  held.set(event.pointerId, now);
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
  held.delete(event.pointerId);
  canvas.classList.toggle("dragged", held.size > 0);
});
canvas.addEventListener("click", (event) => point(nearest(...local(event)))); // a finger does not hover
canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(-1); });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-Math.max(-150, Math.min(150, event.deltaY)) * .002), ...local(event));
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const act = {
    ArrowLeft: () => move(40, 0), ArrowRight: () => move(-40, 0), ArrowUp: () => move(0, 40), ArrowDown: () => move(0, -40),
    "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: whole, Escape: () => point(-1),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});
byId("in").onclick = () => zoom(1.5);
byId("out").onclick = () => zoom(1 / 1.5);
byId("whole").onclick = whole;
byId("all").onclick = () => { hidden.clear(); drawLegend(); redraw(); };
let typing;
byId("search").addEventListener("input", (event) => { clearTimeout(typing); typing = setTimeout(() => search(event.target.value), 80); });
dark.addEventListener("change", redraw);
new ResizeObserver(fit).observe(byId("stage"));
byId("note").textContent = `${count.toLocaleString("en")} texts; ${data.method}; ${data.colours}; identity ${data.identity}`;
drawLegend();
fit();
