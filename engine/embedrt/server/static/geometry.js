// Vectors: decoding, similarity, a plane to draw them on, clusters. Pure functions.

export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function unit(v) {
  const length = Math.sqrt(dot(v, v)) || 1;
  return v.map((x) => x / length);
}

/** Cosine of every pair: N rows of N. */
export function similarities(vectors) {
  const units = vectors.map(unit);
  return units.map((a) => units.map((b) => dot(a, b)));
}

/** Points in the plane of the two largest principal components, by power iteration on the N x N Gram matrix, and the
 * share of the variance that the plane holds. */
export function project(vectors) {
  const n = vectors.length;
  const width = vectors[0].length;
  const mean = new Float64Array(width);
  for (const v of vectors) for (let d = 0; d < width; d++) mean[d] += v[d] / n;
  const centered = vectors.map((v) => Float64Array.from(v, (x, d) => x - mean[d]));
  const gram = centered.map((a) => centered.map((b) => dot(a, b)));
  const axes = [];
  for (let k = 0; k < 2; k++) {
    let axis = Float64Array.from({ length: n }, (_, i) => Math.sin(1 + i * (k + 1.7))); // any start, the same each time
    let scale = 0;
    for (let step = 0; step < 200; step++) {
      for (const done of axes) {
        const part = dot(axis, done.axis);
        axis = axis.map((x, i) => x - part * done.axis[i]);
      }
      const next = Float64Array.from(gram, (row) => dot(row, axis));
      scale = Math.sqrt(dot(next, next));
      if (scale < 1e-12) { axis = new Float64Array(n); break; }
      const turned = 1 - dot(next, axis) / scale / Math.sqrt(dot(axis, axis));
      axis = next.map((x) => x / scale);
      if (turned < 1e-10) break;
    }
    axes.push({ axis, scale: Math.sqrt(scale) });
  }
  const points = vectors.map((_, i) => axes.map((a) => a.axis[i] * a.scale));
  const total = gram.reduce((sum, row, i) => sum + row[i], 0);
  return { points, share: total > 0 ? axes.reduce((sum, a) => sum + a.scale ** 2, 0) / total : 1 };
}

/** Cluster of each vector by average-linkage on cosine; the number of clusters is where merging costs most. */
export function clusters(matrix, most = 8) {
  const n = matrix.length;
  let groups = matrix.map((_, i) => [i]);
  const history = [];
  while (groups.length > 1) {
    let best = [-Infinity, 0, 1];
    for (let a = 0; a < groups.length; a++) for (let b = a + 1; b < groups.length; b++) {
      let sum = 0;
      for (const i of groups[a]) for (const j of groups[b]) sum += matrix[i][j];
      const mean = sum / (groups[a].length * groups[b].length);
      if (mean > best[0]) best = [mean, a, b];
    }
    history.push({ groups: groups.map((g) => [...g]), similarity: best[0] });
    groups[best[1]] = groups[best[1]].concat(groups[best[2]]);
    groups.splice(best[2], 1);
  }
  let chosen = groups;
  let widest = 0;
  for (let k = 1; k < history.length; k++) {
    const gap = history[k - 1].similarity - history[k].similarity;
    const size = history[k].groups.length;
    if (size <= most && size < n && gap > widest) { widest = gap; chosen = history[k].groups; }
  }
  const label = new Array(n).fill(0);
  [...chosen].sort((a, b) => Math.min(...a) - Math.min(...b)).forEach((g, k) => g.forEach((i) => { label[i] = k; }));
  return label;
}

// viridis at five places: even steps look even, in grey and to colour-blind eyes as well
const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

/** Colour of a share from 0 to 1, and an ink that can be read on it. */
export function shade(share) {
  const at = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const k = Math.min(STOPS.length - 2, Math.floor(at));
  const rgb = STOPS[k].map((x, c) => Math.round(x + (STOPS[k + 1][c] - x) * (at - k)));
  return { background: `rgb(${rgb})`, ink: share > 0.55 ? "#111" : "#fff" };
}

// Okabe and Ito's colours, told apart by colour-blind eyes
export const CLUSTER_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c7a00", "#7a7a7a"];

/** The least and the largest of different pairs, no nearer to each other than `least`: the range of the colours. */
export function range(matrix, least = 0.1) {
  const others = matrix.flatMap((row, i) => row.filter((_, j) => j !== i));
  const [low, high] = others.length ? [Math.min(...others), Math.max(...others)] : [0, 1];
  const spare = Math.max(0, least - (high - low)) / 2;
  const over = Math.max(0, high + spare - Math.max(1, high)); // no cosine is over 1
  return [low - spare - over, high + spare - over];
}

/** Spearman's rank correlation of two models' similarities of all pairs. */
export function ranksAgree(a, b) {
  const upper = (m) => m.flatMap((row, i) => row.slice(i + 1));
  const [x, y] = [ranks(upper(a)), ranks(upper(b))];
  const mean = (x.length - 1) / 2;
  let xy = 0, xx = 0, yy = 0;
  for (let i = 0; i < x.length; i++) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) ** 2;
    yy += (y[i] - mean) ** 2;
  }
  return xx && yy ? xy / Math.sqrt(xx * yy) : 0;
}

function ranks(values) {
  const order = values.map((_, i) => i).sort((i, j) => values[i] - values[j]);
  const found = new Array(values.length);
  for (let begin = 0; begin < order.length;) { // equal values share a rank
    let end = begin;
    while (end < order.length && values[order[end]] === values[order[begin]]) end++;
    for (let k = begin; k < end; k++) found[order[k]] = (begin + end - 1) / 2;
    begin = end;
  }
  return found;
}

/** How many texts have the same nearest other text in both. */
export function sameNearest(a, b) {
  const nearest = (row, i) => row.reduce((best, x, j) => (j !== i && (best < 0 || x > row[best]) ? j : best), -1);
  return a.filter((row, i) => nearest(row, i) === nearest(b[i], i)).length;
}
