"use strict";
const at = (id) => document.getElementById(id);
let models = [];

async function asked(path, body) {
  const headers = { "content-type": "application/json" };
  if (at("key").value) headers.authorization = "Bearer " + at("key").value;
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const found = await answer.json();
  if (answer.status === 401) at("keyed").hidden = false;
  if (!answer.ok) {
    const told = found.error || found.message;
    throw new Error(typeof told === "string" ? told : told.message);
  }
  return found;
}

function cell(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function table(head, rows) {
  const made = document.createElement("table");
  const first = made.insertRow();
  head.forEach((text) => first.append(cell("th", text)));
  rows.forEach((row) => {
    const line = made.insertRow();
    row.forEach((one) => line.append(one instanceof Node ? one : cell("td", one)));
  });
  return made;
}

// From white to a strong blue, between the least and the largest that is shown.
function coloured(value, least, most) {
  const made = cell("td", value.toFixed(2));
  const share = most > least ? (value - least) / (most - least) : 1;
  made.style.background = `hsl(212 80% ${95 - 45 * share}%)`;
  return made;
}

function product(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

async function similarities(model, lines) {
  const body = { model: model.model_id, input: lines };
  if (at("role").value) body.input_type = at("role").value;
  const begun = performance.now();
  const found = await asked("/v1/embeddings", body);
  const took = performance.now() - begun;
  const rows = found.data.map((one) => one.embedding);
  const norms = rows.map((row) => Math.sqrt(product(row, row)) || 1);
  const values = rows.map((a, i) => rows.map((b, j) => product(a, b) / (norms[i] * norms[j])));
  const apart = values.flatMap((row, i) => row.filter((_, j) => i !== j));
  const least = Math.min(...apart), most = Math.max(...apart);
  at("map").replaceChildren(table(
    ["", ...lines.map((_, i) => String(i + 1))],
    values.map((row, i) => [cell("th", `${i + 1}. ${lines[i]}`), ...row.map((one, j) => coloured(i === j ? most : one, least, most))]),
  ));
  values.forEach((row, i) => { at("map").querySelectorAll("tr")[i + 1].cells[i + 1].textContent = row[i].toFixed(2); });
  return `${lines.length} texts, ${found.usage.total_tokens} tokens, ${rows[0].length} dimensions: ${took.toFixed(1)} ms, the way here and back included.`;
}

async function ranks(model, lines) {
  const begun = performance.now();
  const found = await asked("/rerank", { model: model.model_id, query: at("query").value, texts: lines });
  const took = performance.now() - begun;
  const scores = found.map((one) => one.score);
  at("map").replaceChildren(table(
    ["score", "text"],
    found.map((one) => [coloured(one.score, Math.min(...scores), Math.max(...scores)), cell("th", lines[one.index])]),
  ));
  return `${lines.length} documents: ${took.toFixed(1)} ms, the way here and back included.`;
}

async function sparse(model, lines) {
  const begun = performance.now();
  const found = await asked("/embed_sparse", { model: model.model_id, inputs: lines });
  const took = performance.now() - begun;
  at("map").replaceChildren(table(["numbers", "text"], found.map((row, i) => [String(row.length), lines[i]])));
  return `${lines.length} texts: ${took.toFixed(1)} ms, the way here and back included.`;
}

async function go() {
  const model = models[at("model").selectedIndex];
  const lines = at("texts").value.split("\n").filter((line) => line.trim());
  at("facts").className = "";
  if (!model || !lines.length) { at("facts").textContent = "Write a text."; return; }
  const does = model.operations.includes("embed") ? similarities : model.operations.includes("rerank") ? ranks : sparse;
  try {
    at("facts").textContent = await does(model, lines);
  } catch (error) {
    at("facts").className = "bad";
    at("facts").textContent = error.message;
  }
}

function proof() {
  const model = models[at("model").selectedIndex];
  at("asked").hidden = !model.operations.includes("rerank");
  const shown = [
    ["target", model.target], ["kind", model.kind], ["fingerprint", model.fingerprint || "none"],
    ["computed by", `${model.kernels || "the engine"}, ${model.threads} threads, ${model.device}`],
  ];
  const parity = model.parity;
  if (parity) {
    shown.push(
      ["compared with", parity.reference], ["texts", String(parity.num_texts)],
      ["min cosine", parity.min_cosine.toFixed(6)], ["mean cosine", parity.mean_cosine.toFixed(6)],
      ["a text alone and in a batch (cosine)", parity.batch_invariance.toFixed(6)],
      ["verdict", cell("td", parity.passed ? "passed" : "failed")],
    );
    shown[shown.length - 1][1].className = parity.passed ? "good" : "bad";
  }
  at("proof").replaceChildren(table(["fact", "value"], shown));
}

async function begin() {
  try {
    const info = await asked("/info");
    models = info.models;
    at("version").textContent = info.version;
    at("model").replaceChildren(...models.map((one) => cell("option", one.model_id)));
    proof();
    await go();
  } catch (error) {
    at("facts").className = "bad";
    at("facts").textContent = error.message;
  }
}

at("go").addEventListener("click", () => (models.length ? go() : begin()));
at("model").addEventListener("change", () => { proof(); go(); });
at("key").addEventListener("change", begin);
begin();
