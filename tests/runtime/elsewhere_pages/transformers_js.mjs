// What transformers.js makes of a folder: node transformers_js.mjs JOB.json, where JOB is {folder, texts, flat};
// prints the vectors, rows as JSON. `folder` is absolute: it is read as it stands, and no hub is asked.
import fs from 'node:fs';
import { AutoModel, AutoTokenizer, Tensor, env } from '@huggingface/transformers';

env.allowRemoteModels = false;
const { folder, texts, flat } = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const tokenizer = await AutoTokenizer.from_pretrained(folder);
const model = await AutoModel.from_pretrained(folder);
const vectors = [];
for (let from = 0; from < texts.length; from += 8) {
  const some = texts.slice(from, from + 8);
  vectors.push(...(await model(flat ? joined(some) : padded(some))).sentence_embedding.tolist());
}
process.stdout.write(JSON.stringify(vectors));

function padded(some) {
  const inputs = tokenizer(some, { padding: true, truncation: true });
  restoreEnd(inputs);
  return inputs;
}

/** A long text's row of ids is cut behind, special token and all: [SEP], </s> or the like is put back. */
function restoreEnd({ input_ids, attention_mask }) {
  const [bare, whole] = [false, true].map((add_special_tokens) => tokenizer.encode('a', { add_special_tokens }));
  const [rows, columns] = input_ids.dims;
  if (whole.at(-1) === bare.at(-1) || columns < tokenizer.model_max_length) return;
  for (let at = columns - 1; at < rows * columns; at += columns)
    if (attention_mask.data[at] === 1n) input_ids.data[at] = BigInt(whole.at(-1));
}

/** Of static embeddings: the ids of all texts behind each other, and where each text begins. */
function joined(some) {
  const { input_ids } = tokenizer(some, { add_special_tokens: false, return_tensor: false });
  let end = 0;
  const offsets = input_ids.map((row) => (end += row.length) - row.length);
  const tensor = (numbers) => new Tensor('int64', BigInt64Array.from(numbers.map(BigInt)), [numbers.length]);
  return { input_ids: tensor(input_ids.flat()), offsets: tensor(offsets) };
}
