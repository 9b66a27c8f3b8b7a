"use strict";
let schemas = {};

function made(kind, text) {
  const node = document.createElement(kind);
  if (text) node.textContent = text;
  return node;
}

function resolved(schema) {
  return schema && schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema;
}

function typed(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const some = schema.anyOf || schema.oneOf;
  if (some) return some.map(typed).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typed(schema.items) || "anything"}`;
  return schema.type || "anything";
}

function fields(schema) {
  const found = resolved(schema) || {};
  const table = made("table");
  const head = table.insertRow();
  ["field", "type", ""].forEach((name) => head.append(made("th", name)));
  for (const [name, one] of Object.entries(found.properties || {})) {
    const row = table.insertRow();
    const must = (found.required || []).includes(name) ? "" : " (optional)";
    [name, typed(one) + must, one.description || ""].forEach((text) => row.append(made("td", text)));
  }
  return found.properties ? table : made("p", `${typed(schema)}: ${found.description || typed(found)}`);
}

async function begin() {
  const answer = await fetch("/openapi.json");
  const found = await answer.json();
  if (!answer.ok) { document.getElementById("paths").append(made("p", "This server wants a key: read its description with it, GET /openapi.json.")); return; }
  schemas = found.components.schemas;
  const parts = [];
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      parts.push(made("h2", `${method.toUpperCase()} ${path}`), made("p", `${one.summary} (${one.tags.join(", ")})`));
      if (one.requestBody) {
        parts.push(fields(one.requestBody.content["application/json"].schema), made("p", "answers"),
          fields(one.responses["200"].content["application/json"].schema));
      }
    }
  }
  document.getElementById("paths").append(...parts);
}

begin();
