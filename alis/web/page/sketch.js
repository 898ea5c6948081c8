// The sketch: everything besides the model that determines a plane, and its canonical text as in
// alis.plane.anchors.Sketch.text.
// {seed, psi (percent), cluster (null | "n" | number), noise (null | "n" | "c"), ring, edits: Map(anchor → source)};
// a source is {seed, index, variant} or {name}.

const TERM = new RegExp(
  "^(?:p(\\d{1,3})|c(n|\\d{1,4})|n(n|c)|r(\\d{1,13})" +
    "|a(-?\\d{1,13})(?:f([A-Za-z0-9.-]{1,40})|(?:s(\\d{1,16})i(-?\\d{1,13}))?v(\\d{1,10})))$",
);

// Parse any well-formed seed/edits text, whatever its numbers; null if it is not. `adapted` fits it to a model.
export function parse(text) {
  const [seed, edits] = text.split("/");
  const sketch = { seed: Number(seed), psi: 100, cluster: null, noise: null, ring: null, edits: new Map() };
  if (!/^\d{1,16}$/.test(seed) || !edits) return null;
  for (const term of edits === "-" ? [] : edits.split("_")) {
    const got = TERM.exec(term);
    if (!got) return null;
    const [, psi, cluster, noise, ring, at, name, from, index, variant] = got;
    if (psi) sketch.psi = Number(psi);
    else if (cluster) sketch.cluster = cluster === "n" ? "n" : Number(cluster);
    else if (noise) sketch.noise = noise;
    else if (ring) sketch.ring = Number(ring);
    else if (name) sketch.edits.set(Number(at), { name });
    else sketch.edits.set(Number(at), { seed: Number(from ?? seed), index: Number(index ?? at), variant: Number(variant) });
  }
  return sketch;
}

// The nearest sketch that this model can paint, and descriptions of what had to be left out.
export function adapted(sketch, model) {
  const found = { ...sketch, edits: new Map() }, lost = [];
  if (!Number.isSafeInteger(sketch.seed) || sketch.seed > model.max_seed) {
    found.seed = parse(model.start).seed;
    lost.push("its seed");
  }
  if (sketch.psi > model.max_psi) {
    found.psi = model.max_psi;
    lost.push(`boldness ${(sketch.psi / 100).toFixed(2)}`);
  }
  if (sketch.cluster !== null && (!model.num_clusters || Number(sketch.cluster) >= model.num_clusters)) {
    found.cluster = null;
    lost.push(`kind ${sketch.cluster === "n" ? "nearest" : sketch.cluster}`);
  }
  const { ring } = sketch;
  if (ring !== null && (ring < model.shortest_ring || ring > model.max_anchor || ring % model.ring_step)) {
    found.ring = null;
    lost.push(`a ring of ${ring}`);
  }
  for (const [anchor, it] of sketch.edits) {
    const at = found.ring ? mod(anchor, found.ring) : anchor;
    const isHere = it.name ? model.codes.includes(it.name)
      : Number.isSafeInteger(it.seed) && it.seed <= model.max_seed && Math.abs(it.index) <= model.max_anchor
        && it.variant <= model.max_variant;
    if (!isHere || Math.abs(at) > model.max_anchor) lost.push(it.name ? `the scene ${it.name}` : `scene ${anchor}`);
    else if (found.edits.size >= model.max_edits) lost.push(`scene ${anchor}`);
    else if (!isPlain(found, at, it)) found.edits.set(at, it);
  }
  return { sketch: found, lost };
}

export const mod = (number, by) => ((number % by) + by) % by;

export function source(sketch, anchor) {
  return sketch.edits.get(anchor) ?? { seed: sketch.seed, index: anchor, variant: 0 };
}

function isPlain(sketch, anchor, it) {
  return !it.name && it.seed === sketch.seed && it.index === anchor && it.variant === 0;
}

export function format(sketch, only = null) {
  const terms = [];
  if (sketch.psi !== 100) terms.push(`p${sketch.psi}`);
  if (sketch.cluster !== null) terms.push(`c${sketch.cluster}`);
  if (sketch.noise) terms.push(`n${sketch.noise}`);
  if (sketch.ring) terms.push(`r${sketch.ring}`);
  const anchors = [...sketch.edits.keys()].filter((i) => !only || only.includes(i)).sort((a, b) => a - b);
  for (const i of anchors) {
    const it = sketch.edits.get(i);
    if (isPlain(sketch, i, it)) continue;
    if (it.name) terms.push(`a${i}f${it.name}`);
    else if (it.seed === sketch.seed && it.index === i) terms.push(`a${i}v${it.variant}`);
    else terms.push(`a${i}s${it.seed}i${it.index}v${it.variant}`);
  }
  return `${sketch.seed}/${terms.join("_") || "-"}`;
}

// The anchors that a tile depends on, modulo the ring.
export function anchorsOf(sketch, k, model) {
  const each = model.anchor_tiles * model.tile_px, [before, after] = model.reach_px;
  const first = Math.floor((k * model.tile_px - after) / each) + 1;
  const last = Math.ceil(((k + 1) * model.tile_px - before) / each) - 1;
  const found = new Set();
  for (let i = first; i <= last; i++) found.add(sketch.ring ? mod(i, sketch.ring) : i);
  return [...found];
}

// A tile's URL contains only what it depends on: tiles out of an edit's reach keep their URL, and their pixels.
export function tileAddress(sketch, k, model) {
  return `${format(sketch, anchorsOf(sketch, k, model))}/${k}`;
}

export function edited(sketch, changes) {
  const edits = new Map(sketch.edits);
  for (const [anchor, it] of changes) {
    if (isPlain(sketch, anchor, it)) edits.delete(anchor);
    else edits.set(anchor, it);
  }
  return { ...sketch, edits };
}

export function reseeded(sketch, seed, locked) {
  const edits = new Map([...locked].map((i) => [i, source(sketch, i)]));
  return { ...sketch, seed, edits };
}

// A plane that is one scene everywhere: all anchors have the same source.
export function sceneSketch(sketch, it, model) {
  const base = { ...sketch, ring: model.shortest_ring, edits: new Map() };
  for (let i = 0; i < model.shortest_ring; i++) base.edits.set(i, it);
  return base;
}
