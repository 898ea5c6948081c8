// The view ↔ the part of the URL after #:
//
//   #seed/edits/place/z<zoom>/m<model>/locks      e.g. #7/p70_a3v2/12.500/z1.25/m0123456789abcdef/3,4
//
// The place is in tiles. Everything after `edits` may be missing (older links end with the place and the locks). Whatever
// can't be used is left out and reported: a link always opens something.

import { format, adapted, parse } from "./sketch.js";

export const MOST_ZOOM = 3, LEAST_ZOOM = 0.3;

export const fingerprint = (model) => model.model.split("-")[0];
export const furthest = (model) => model.max_anchor * model.anchor_tiles - 64;
export const clampZoom = (zoom) => Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, zoom));

export function write({ sketch, x, zoom, locked }, model) {
  const parts = [format(sketch), x.toFixed(3), `z${Number(zoom.toFixed(3))}`, `m${fingerprint(model)}`];
  if (locked.size) parts.push([...locked].sort((a, b) => a - b).join(","));
  return `#${parts.join("/")}`;
}

// {sketch, x, zoom, locked, complaint}: x is null if the link has no place, sketch is null if it can't be read.
export function read(hash, model) {
  const found = { sketch: null, x: null, zoom: 1, locked: new Set(), complaint: "" };
  if (hash.length < 2) return found;
  let text;
  try {
    text = decodeURIComponent(hash.slice(1));
  } catch {
    return { ...found, complaint: "This link is damaged; showing the start of the plane" };
  }
  const [seed, edits, place, ...rest] = text.split("/");
  const spelled = parse(`${seed}/${edits || "-"}`);
  if (!spelled) return { ...found, complaint: "This link can't be read; showing the start of the plane" };
  const { sketch, lost } = adapted(spelled, model);
  found.sketch = sketch;
  if (place) readPlace(place, found, lost, model);
  let other = false;
  for (const part of rest) {
    if (/^m[0-9a-f]{16}$/.test(part)) other = part.slice(1) !== fingerprint(model);
    else if (/^z/.test(part)) readZoom(part.slice(1), found, lost);
    else readLocks(part, found, lost, model);
  }
  if (other) found.complaint = "This link was made with another model; this one paints other scenes";
  else if (lost.length) found.complaint = `This page does not have all of this link: ${[...new Set(lost)].slice(0, 3).join(", ")}`;
  return found;
}

function readPlace(place, found, lost, model) {
  const x = Number(place);
  found.x = Number.isFinite(x) ? Math.max(-furthest(model), Math.min(furthest(model), x)) : null;
  if (found.x !== x) lost.push(`the place ${place.slice(0, 20)}`);
}

function readZoom(text, found, lost) {
  const zoom = /^\d{1,3}(\.\d{1,6})?$/.test(text) ? Number(text) : NaN;
  if (Number.isFinite(zoom)) found.zoom = clampZoom(zoom);
  if (found.zoom !== zoom) lost.push(`the zoom ${text.slice(0, 20)}`);
}

function readLocks(part, found, lost, model) {
  for (const word of part.split(",")) {
    const anchor = Number(word);
    if (/^-?\d{1,13}$/.test(word) && Math.abs(anchor) <= model.max_anchor && found.locked.size < model.max_edits) {
      found.locked.add(anchor);
    } else if (word) lost.push(`the lock ${word.slice(0, 20)}`);
  }
}
