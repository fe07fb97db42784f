// Pictures that are dropped, found by words: for models that embed both.

import { embed } from "./calls.js";
import { byId, element } from "./dom.js";
import { dot } from "./geometry.js";
import { drawnPictures } from "./scenes.js";
import { word } from "./words.js";

const AT_ONCE = 4; // per request: a photograph has megabytes
const state = { pictures: [], model: "" };

const asUri = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.addEventListener("load", () => resolve(reader.result));
  reader.addEventListener("error", () => reject(new Error(word("unreadable", { file: file.name }))));
  reader.readAsDataURL(file);
});

const length = (v) => Math.sqrt(dot(v, v)) || 1;

/** Whether the section is shown: for a model that takes pictures. Another model forgets those of the one before. */
export function offer(model) {
  byId("pictures").closest("section").hidden = !model?.modalities?.includes("image");
  if (model && model.id !== state.model) Object.assign(state, { pictures: [], model: model.id });
  draw();
}

/** Show some and what is found of them, where nobody has chosen any: whether there were none. */
export async function showPictureExample(name, query, progress) {
  if (state.pictures.some(({ own }) => own)) return;
  state.pictures = [];
  byId("picture-query").value = query;
  await addPictures(await drawnPictures(), progress, false);
  await findPictures(query, name);
}

/** Embed the files that are pictures, and show them; the first that are somebody's `own` take the place of the example. */
export async function addPictures(files, progress, own = true) {
  const chosen = [...files].filter((file) => file.type.startsWith("image/"));
  if (!chosen.length) throw new Error(word("no_pictures"));
  if (own && state.pictures.some((picture) => !picture.own)) {
    state.pictures = [];
    byId("picture-query").value = "";
  }
  let tokens = 0;
  for (let k = 0; k < chosen.length; k += AT_ONCE) {
    const part = chosen.slice(k, k + AT_ONCE);
    const uris = await Promise.all(part.map(asUri));
    const made = await embed(uris, state.model, 0, () => {}, { modality: "image" });
    tokens += made.tokens;
    state.pictures.push(...part.map((file, i) => ({ name: file.name, uri: uris[i], vector: made.vectors[i], score: null, own })));
    progress(Math.min(k + AT_ONCE, chosen.length), chosen.length);
    draw();
  }
  return { texts: chosen.length, tokens };
}

/** Order the pictures by their cosine with a text. */
export async function findPictures(text, name) {
  if (!text || !state.pictures.length) throw new Error(word("no_pictures"));
  const { vectors: [asked], tokens } = await embed([text], name, 0);
  for (const picture of state.pictures) picture.score = dot(asked, picture.vector) / (length(asked) * length(picture.vector));
  state.pictures.sort((a, b) => b.score - a.score);
  draw();
  return { texts: 1, tokens };
}

function draw() {
  byId("pictures").replaceChildren(...state.pictures.map(({ name, uri, score }) => element("figure", {},
    element("img", { src: uri, alt: name, title: name }),
    element("figcaption", {}, score === null ? name : score.toFixed(3)))));
}
