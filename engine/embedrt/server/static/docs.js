// Renders openapi.json: what each path does, its fields and answers with their types opened, an example, and a way to
// try it. No library, no CDN.

import { byId, element } from "./dom.js";

const SHOWN = 4000; // characters of an answer that are shown
const description = await (await fetch("openapi.json")).json();

const resolve = (schema) => (schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema);
/** Prose, what stands between backticks as code. */
const prose = (text) => text.split("`").map((part, k) => (k % 2 ? element("code", {}, part) : part));
/** JSON over lines, numbers that belong together on one. */
const written = (value) => JSON.stringify(value, null, 1).replace(/\[[^[\]{}"]*\]/g, (numbers) => numbers.replace(/\s+/g, " ").replace("[ ", "[").replace(" ]", "]"));
const examplesOf = (media) => Object.entries(media?.examples ?? {}).map(([title, { value }]) => [title, written(value)]);
const nameOf = (schema) => (schema.$ref ? schema.$ref.split("/").pop() : "");

function typeText(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.anyOf) return schema.anyOf.map(typeText).join(" | ");
  if (schema.enum) return schema.enum.map((x) => JSON.stringify(x)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${typeText(schema.items ?? {})}]`;
  return schema.type ?? "any";
}

/** The types of our own that a schema names, at whatever depth. */
function named(schema) {
  if (schema.$ref) return [nameOf(schema)];
  return [...(schema.anyOf ?? []), ...(schema.items ? [schema.items] : [])].flatMap(named);
}

/** A type's fields; the types in them are opened where they are an answer's own. */
function fields(schema, { asked = false, opened = false } = {}, seen = []) {
  const found = resolve(schema);
  const about = found.description ? [element("p", { class: "quiet" }, ...prose(found.description))] : [];
  const inner = (name) => (seen.includes(name) ? [] : [element("details", opened ? { open: "" } : {}, element("summary", {}, element("code", {}, name)),
    ...fields({ $ref: `#/components/schemas/${name}` }, { asked }, [...seen, name]))]);
  if (!found.properties) return [...about, element("p", {}, element("code", {}, typeText(found))), ...named(found).flatMap(inner)];
  const rows = Object.entries(found.properties).map(([name, part]) => {
    const given = part.default === undefined || part.default === null ? "" : `default ${JSON.stringify(part.default)}`;
    const note = asked && (found.required ?? []).includes(name) ? "required" : given;
    return element("tr", {}, element("td", {}, element("code", {}, name)),
      element("td", {}, typeText(part), ...named(part).flatMap(inner)),
      element("td", {}, ...prose(part.description ?? ""), " ", element("span", { class: "quiet" }, note)));
  });
  return [...about, element("div", { class: "scroll" }, element("table", {}, ...rows))];
}

/** A form that sends the example, or what it was changed to. */
function trial(path, method, op) {
  const media = op.requestBody?.content["application/json"];
  const address = element("input", { type: "text", "aria-label": "path", value: path.replace(/\{(\w+)\}/g, "") });
  const body = media ? element("textarea", { rows: "6", spellcheck: "false", "aria-label": "body" }) : null;
  const examples = examplesOf(media);
  const choice = element("select", { "aria-label": "example" }, ...examples.map(([title], k) => element("option", { value: k }, title)));
  const write = () => { body.value = examples[choice.value][1]; };
  choice.addEventListener("change", write);
  if (body) write();
  const answer = element("pre", { class: "scroll", hidden: "", tabindex: "0" });
  const form = element("form", {}, element("div", { class: "row" }, address, ...(examples.length > 1 ? [choice] : []), element("button", {}, "Send")), ...(body ? [body] : []), answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const headers = { ...(body ? { "Content-Type": "application/json" } : {}), ...(byId("key").value ? { Authorization: `Bearer ${byId("key").value}` } : {}) };
    answer.hidden = false;
    answer.textContent = "…";
    try {
      const got = await fetch(address.value.replace(/^\//, "") || "./", { method: method.toUpperCase(), headers, ...(body ? { body: body.value } : {}) });
      const text = await got.text();
      const timing = got.headers.get("Server-Timing");
      answer.textContent = `${got.status} ${got.statusText}\n${timing ? `Server-Timing: ${timing}\n` : ""}\n${text.slice(0, SHOWN)}${text.length > SHOWN ? `\n… ${text.length - SHOWN} more characters` : ""}`;
    } catch (error) {
      answer.textContent = String(error);
    }
  });
  return element("details", { class: "try" }, element("summary", {}, "Try it"), form);
}

function operation(path, method, op) {
  const parts = [element("h2", {}, element("code", {}, method.toUpperCase()), ` ${path}`), element("p", {}, op.summary)];
  if (op.description) parts.push(element("p", { class: "quiet" }, ...prose(op.description)));
  for (const p of op.parameters ?? []) parts.push(element("p", { class: "quiet" }, `${p.in} ${p.name}: ${p.description ?? typeText(p.schema)}`));
  const media = op.requestBody?.content["application/json"];
  if (media) {
    parts.push(element("h3", {}, "Request"), ...fields(media.schema, { asked: true }));
    const examples = examplesOf(media);
    parts.push(...examples.flatMap(([title, text]) => [element("p", { class: "quiet" }, title), element("pre", { class: "scroll", tabindex: "0" }, text)]));
  }
  const [[type, ok]] = Object.entries(op.responses["200"].content);
  parts.push(element("h3", {}, `Answer, ${type}`), ...fields(ok.schema, { opened: true }));
  if (ok.example !== undefined) parts.push(element("pre", { class: "scroll", tabindex: "0" }, written(ok.example)));
  const headers = Object.entries(op.responses["200"].headers ?? {});
  if (headers.length) parts.push(element("details", {}, element("summary", {}, "Headers of the answer"),
    element("table", {}, ...headers.map(([name, h]) => element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, h.description))))));
  const errors = Object.entries(op.responses).filter(([status]) => status !== "200");
  if (errors.length) parts.push(element("details", {}, element("summary", {}, "Errors"),
    element("table", {}, ...errors.map(([s, r]) => element("tr", {}, element("td", {}, element("code", {}, s)), element("td", {}, r.description)))),
    ...fields(errors[0][1].content["application/json"].schema)));
  return element("section", { id: op.operationId }, ...parts, trial(path, method, op));
}

byId("key-field").addEventListener("submit", (event) => event.preventDefault());
byId("version").textContent = description.info.version;
byId("about").textContent = description.info.description;
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, op] of Object.entries(methods)) {
    byId("contents").append(element("li", {}, element("a", { href: `#${op.operationId}` }, `${method.toUpperCase()} ${path}`), ` ${op.summary}`));
    byId("operations").append(operation(path, method, op));
  }
}
