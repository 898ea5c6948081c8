// Tiles by URL, from `alis serve`.

import { format, tileAddress } from "./sketch.js";
import { Missing } from "./tiles.js";

// A request without an answer for this long counts as lost, and its tile is asked for again.
const PATIENCE_MS = 120000;

export function open(model) {
  return { note: Promise.resolve(""), tile: (...request) => tile(model, ...request), strip };
}

async function tile(model, sketch, k, signal) {
  const patient = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  const answer = await ask(`tile/${tileAddress(sketch, k, model)}.webp?m=${model.model}`, patient);
  return createImageBitmap(await answer.blob());
}

async function strip(sketch, left, right, ending) {
  return (await ask(`strip/${format(sketch)}/${left}/${right}.${ending}`)).blob();
}

async function ask(address, signal) {
  let answer;
  try {
    answer = await fetch(address, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Missing("the painter can't be reached"); // fetch throws a TypeError if there is no response, a TimeoutError after PATIENCE_MS
  }
  if (answer.ok) return answer;
  const { status } = answer, body = await answer.json().catch(() => ({}));
  throw new Missing(body.error ?? answer.statusText, {
    status,
    isFinal: status < 500 && status !== 429,
    afterMs: Number(answer.headers.get("Retry-After")) * 1000 || 0,
  });
}
