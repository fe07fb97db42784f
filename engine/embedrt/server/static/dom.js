// Elements of the page.

const SVG = ["svg", "circle", "line", "text", "title"];

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = SVG.includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Put these into the element of that id, and show the card around it. */
export function fill(id, ...children) {
  byId(id).replaceChildren(...children);
  byId(id).hidden = false;
  const card = byId(id).closest("section");
  if (card) card.hidden = false;
}
