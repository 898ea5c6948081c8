// Requests → tiles, one after the other, in a worker, so that the page never stalls while a tile is painted.
//
//   in   {id, kind: "tile", sketch, k} · {id, kind: "strip", sketch, left, right, ending} · {id, kind: "cancel"}
//   out  {kind: "ready", note} · {id, bitmap} · {id, blob} · {id, error} · {kind: "broken", error}

import { AnchorCodes } from "./anchor_codes.js";
import { columnNoise, localLatents } from "./random.js";
import { openNetwork } from "./network.js";
import { noted } from "./pictures.js";
import { format, mod, source } from "./sketch.js";

const TYPES = { png: "image/png", jpg: "image/jpeg", webp: "image/webp" };
const QUALITY = 0.92;
const { fround } = Math;

let model, network, anchorCodes, stored = null;

async function begin(wish) {
  model = await (await fetch("model.json")).json();
  network = await openNetwork(model, wish);
  const { mean, centres, saved, map } = network;
  anchorCodes = new AnchorCodes({ map, mean, centres, saved, size: model.network.w_dim, zSize: model.network.z_dim });
}

// The absolute columns of a random map for tile k, modulo the ring.
function columns(sketch, k, it) {
  const { step, anchor_columns } = model.network, scale = it.height / 4;
  const first = k * step * scale + it.first, round = sketch.ring ? sketch.ring * anchor_columns * scale : 0;
  return Array.from({ length: it.width }, (_, i) => (round ? mod(first + i, round) : first + i));
}

async function noiseOf(sketch, k, it) {
  if (sketch.noise === "n") return new Float32Array(it.height * it.width);
  const wanted = columns({ ring: sketch.noise === "c" ? null : sketch.ring }, k, it);
  if (sketch.noise !== "c") return columnNoise(sketch.seed, it.stream, wanted, it.height);
  stored ??= await network.stored();
  const map = stored[it.stream];
  return Float32Array.from({ length: it.height * it.width }, (_, n) => (
    map[Math.floor(n / it.width) * it.height + mod(wanted[n % it.width], it.height)]));
}

// RGBA pixels of tile k, Uint8ClampedArray [R, R/g, 4].
async function paint(sketch, k) {
  const at = sketch.ring ? mod(k, sketch.ring * model.anchor_tiles) : k, { network: plan } = model;
  const place = mod(at, plan.places), turn = Math.floor(at / plan.places);
  const first = plan.first_anchors[place] + turn * plan.turn_anchors;
  const ws = new Float32Array(plan.num_anchors * plan.num_ws * plan.w_dim);
  for (let i = 0; i < plan.num_anchors; i++) {
    const anchor = sketch.ring ? mod(first + i, sketch.ring) : first + i;
    const code = await anchorCodes.code(source(sketch, anchor), sketch.psi / 100, sketch.cluster);
    for (let layer = 0; layer < plan.num_ws; layer++) {
      const own = code.length > plan.w_dim ? code.subarray(layer * plan.w_dim, (layer + 1) * plan.w_dim) : code;
      ws.set(own, (i * plan.num_ws + layer) * plan.w_dim);
    }
  }
  const feed = {
    ws: ["float32", ws, [plan.num_anchors, plan.num_ws, plan.w_dim]],
    place: ["int64", BigInt64Array.of(BigInt(place)), [1]],
  };
  for (const it of plan.noise) {
    feed[it.name] = ["float32", await noiseOf(sketch, at, it), [1, 1, it.height, it.width]];
  }
  for (const it of plan.latents) {
    const drawn = localLatents(sketch.seed, it.stream, columns(sketch, at, it), it.channels, it.height, network.quantiles);
    feed[it.name] = ["float32", drawn, [1, it.channels, it.height, it.width]];
  }
  return pixels(await network.paint(feed));
}

function pixels(x) {
  const size = x.length / 3, found = new Uint8ClampedArray(4 * size).fill(255);
  for (let n = 0; n < size; n++) {
    for (let c = 0; c < 3; c++) found[4 * n + c] = halfEven(fround(fround(x[c * size + n] * 127.5) + 127.5));
  }
  return found;
}

// Rounded as torch does; the array clamps to 0 … 255.
function halfEven(value) {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2) ? floor + 1 : floor;
}

async function imageOf(sketch, k) {
  return new ImageData(await paint(sketch, k), model.tile_px, model.resolution);
}

async function strip({ sketch, left, right, ending }) {
  const canvas = new OffscreenCanvas(right - left, model.resolution), paper = canvas.getContext("2d", { alpha: false });
  for (let k = Math.floor(left / model.tile_px); k * model.tile_px < right; k++) {
    paper.putImageData(await imageOf(sketch, k), k * model.tile_px - left, 0);
  }
  const blob = await canvas.convertToBlob({ type: TYPES[ending], quality: QUALITY });
  const note = JSON.stringify({
    alis: 1, model: model.model.split("-")[0], sketch: format(sketch), start: left, width: right - left,
    precision: "float32",
  });
  const bytes = noted(new Uint8Array(await blob.arrayBuffer()), ending, note);
  return new Blob([bytes], { type: TYPES[ending] });
}

// ---- one after the other ----
const waiting = [];
let isBusy = false;

async function work() {
  if (isBusy) return;
  isBusy = true;
  await begun;
  while (waiting.length) {
    const wish = waiting.shift();
    try {
      if (wish.kind === "strip") postMessage({ id: wish.id, blob: await strip(wish) });
      else {
        const bitmap = await createImageBitmap(await imageOf(wish.sketch, wish.k));
        postMessage({ id: wish.id, bitmap }, [bitmap]);
      }
    } catch (error) {
      postMessage({ id: wish.id, error: String(error.message ?? error) });
    }
  }
  isBusy = false;
}

addEventListener("message", ({ data }) => {
  if (data.kind === "cancel") {
    const at = waiting.findIndex((wish) => wish.id === data.id);
    if (at >= 0) waiting.splice(at, 1);
    return;
  }
  waiting.push(data);
  work();
});

const begun = begin(new URL(self.location.href).searchParams.get("painter"));
begun.then(
  () => postMessage({ kind: "ready", note: network.note }),
  (error) => postMessage({ kind: "broken", error: String(error.message ?? error) }),
);
begun.catch(() => {});
