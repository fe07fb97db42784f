// Renders openapi.json: paths, fields, answers. No library, no CDN.

const description = await (await fetch("openapi.json")).json();

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function resolve(schema) {
  return schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function typeText(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeText).join(" | ");
  if (schema.enum) return schema.enum.map((x) => JSON.stringify(x)).join(" | ");
  if (schema.type === "array") return `[${typeText(schema.items ?? {})}]`;
  return schema.type ?? "any";
}

function fields(schema) {
  const found = resolve(schema);
  if (!found.properties) return element("p", {}, element("code", {}, typeText(found)));
  const rows = Object.entries(found.properties).map(([name, part]) => element("tr", {},
    element("td", {}, element("code", {}, name)), element("td", {}, typeText(part)),
    element("td", { class: "quiet" }, (found.required ?? []).includes(name) ? "required" : `default ${JSON.stringify(part.default)}`)));
  return element("table", {}, ...rows);
}

function operation(path, method, op) {
  const parts = [element("h2", {}, `${method.toUpperCase()} ${path}`), element("p", {}, op.summary)];
  for (const p of op.parameters ?? []) parts.push(element("p", { class: "quiet" }, `${p.in} ${p.name}: ${p.description ?? typeText(p.schema)}`));
  if (op.requestBody) parts.push(element("h3", {}, "Request"), fields(op.requestBody.content["application/json"].schema));
  const [[media, ok]] = Object.entries(op.responses["200"].content);
  parts.push(element("h3", {}, `Answer, ${media}`), fields(ok.schema));
  const errors = Object.entries(op.responses).filter(([status]) => status !== "200");
  if (errors.length) parts.push(element("p", { class: "quiet" }, `Errors: ${errors.map(([s, r]) => `${s} ${r.description}`).join(", ")}`));
  return element("section", {}, ...parts);
}

document.getElementById("version").textContent = description.info.version;
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, op] of Object.entries(methods)) document.getElementById("operations").append(operation(path, method, op));
}
