// Tiles without a server: painted in a worker of this page. `?painter=wasm` in the page's URL turns the GPU off.

import { Missing } from "./tiles.js";

export function open() {
  const backend = new URLSearchParams(location.search).get("painter") ?? "";
  const worker = new Worker(new URL(`tile_worker.js?painter=${backend}`, import.meta.url), { type: "module" });
  const waiting = new Map(); // id → {resolve, reject}
  let last = 0, broken = null, ready;
  const note = new Promise((resolve) => { ready = resolve; });

  const fail = (message) => {
    broken = new Missing(message, { status: 500, isFinal: true });
    for (const { reject } of waiting.values()) reject(broken);
    waiting.clear();
    ready("");
  };
  worker.addEventListener("error", (event) => fail(event.message || "the painter's worker can't be started"));
  worker.addEventListener("message", ({ data }) => {
    if (data.kind === "ready") return ready(data.note);
    if (data.kind === "broken") return fail(data.error);
    const request = waiting.get(data.id);
    if (!request) return data.bitmap?.close();
    waiting.delete(data.id);
    if (data.error) request.reject(new Missing(data.error, { status: 500 }));
    else request.resolve(data.bitmap ?? data.blob);
  });

  const ask = (request, signal) => new Promise((resolve, reject) => {
    if (broken) return reject(broken);
    const id = ++last;
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      if (!waiting.delete(id)) return;
      worker.postMessage({ id, kind: "cancel" });
      reject(signal.reason);
    });
    worker.postMessage({ id, ...request });
  });

  return {
    note,
    tile: (sketch, k, signal) => ask({ kind: "tile", sketch, k }, signal),
    strip: (sketch, left, right, ending) => ask({ kind: "strip", sketch, left, right, ending }),
  };
}
