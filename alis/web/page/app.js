// Hands → plane: dragging, keys, handles, sheets, history, links.

import { Plane } from "./plane.js";
import { edited, format, parse, reseeded, sceneSketch, source, tileAddress } from "./sketch.js";

const $ = (id) => document.getElementById(id);
const model = await (await fetch("model.json")).json();
const stage = $("stage");
const locked = new Set();
const past = [], future = [];
let sketch = parse(model.start);

const plane = new Plane($("plane"), $("ambient"), model, {
  moved: () => { placeAnchors(); remember(); },
  rested: () => remember(true),
  reached: () => { if (lost) { lost = false; tell("The painter is back"); } },
  failed: (status) => {
    lost = true;
    tell(status === 503 || status === 429 ? "The painter is busy; tiles arrive as they dry"
      : status ? "These tiles can't be painted" : "The painter can't be reached; trying again");
  },
});
let lost = false;

// ---- state, history, links ----
function set(next, { keep = true } = {}) {
  if (format(next) === format(sketch)) return;
  if (next.edits.size > model.max_edits) {
    tell(`At most ${model.max_edits} edited scenes; undo some first`);
    return;
  }
  if (keep) {
    past.push({ sketch, locked: [...locked] });
    if (past.length > 200) past.shift();
    future.length = 0;
  }
  show(next);
}

function show(next) {
  sketch = next;
  plane.show(sketch);
  $("psi").value = sketch.psi;
  $("psi-value").value = (sketch.psi / 100).toFixed(2);
  const kind = sketch.cluster === null ? 0 : sketch.cluster === "n" ? 1 : sketch.cluster + 2;
  $("cluster").value = kind;
  $("cluster-value").value = kindName(kind);
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
  placeAnchors();
  remember();
}

function step(from, to) {
  const state = from.pop();
  if (!state) return;
  to.push({ sketch, locked: [...locked] });
  locked.clear();
  state.locked.forEach((i) => locked.add(i));
  show(state.sketch);
}

const link = () => `#${format(sketch)}/${plane.x.toFixed(3)}${locked.size ? `/${[...locked].sort((a, b) => a - b).join(",")}` : ""}`;

let remembered = 0;
function remember(now = false) {
  if (!now && performance.now() - remembered < 400) return;
  remembered = performance.now();
  if (location.hash !== link()) history.replaceState(null, "", link());
}

function readLink() {
  const [seed, edits, x, locks] = decodeURIComponent(location.hash.slice(1)).split("/");
  const found = parse(`${seed}/${edits ?? "-"}`);
  if (!location.hash || !found) return false;
  locked.clear();
  (locks ?? "").split(",").filter((i) => /^-?\d+$/.test(i)).forEach((i) => locked.add(Number(i)));
  show(found);
  plane.jump(Number.isFinite(Number(x)) && x ? Number(x) : home());
  return true;
}

// Wide screens begin between two scenes, narrow ones on a scene, so that its ring is in sight.
const home = () => (plane.right - plane.left > model.anchor_tiles + 0.5 ? model.anchor_tiles / 2 : 0);

let told;
function tell(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  clearTimeout(told);
  told = setTimeout(() => $("toast").classList.remove("on"), 2600);
}

// ---- anchors ----
const handles = new Map();
const ring = '<svg viewBox="0 0 44 44"><circle class="halo" cx="22" cy="22" r="17"/><circle class="ring" cx="22" cy="22" r="8.5"/><circle class="core" cx="22" cy="22" r="3"/></svg>';
const padlock = '<svg viewBox="0 0 24 24"><rect x="6" y="11" width="12" height="8.5" rx="2.2"/><path class="shackle" d="M8.5 11V8a3.5 3.5 0 0 1 7 0v3"/></svg>';

const wrap = (anchor) => (sketch.ring ? ((anchor % sketch.ring) + sketch.ring) % sketch.ring : anchor);

function placeAnchors() {
  const each = model.anchor_tiles;
  const first = Math.ceil((plane.left - 0.2) / each), last = Math.floor((plane.right + 0.2) / each);
  for (const [anchor, handle] of handles) {
    if ((anchor < first || anchor > last) && !handle.contains(document.activeElement)) {
      handle.remove();
      handles.delete(anchor);
    }
  }
  for (let anchor = first; anchor <= last; anchor++) {
    if (!handles.has(anchor)) handles.set(anchor, makeHandle(anchor));
  }
  const bottom = plane.top + plane.height;
  for (const [anchor, handle] of handles) {
    const own = wrap(anchor), x = plane.toScreen(anchor * each);
    handle.style.transform = `translate3d(${x.toFixed(1)}px, ${plane.top}px, 0)`;
    handle.style.height = `${plane.height}px`;
    handle.classList.toggle("edited", sketch.edits.has(own));
    handle.classList.toggle("locked", locked.has(own));
    handle.classList.toggle("low", bottom > innerHeight - 110);
    const beside = [anchor * each - 1, anchor * each];
    handle.classList.toggle("busy", beside.some((k) => plane.loading.has(tileAddress(sketch, k, model))));
  }
}

function makeHandle(anchor) {
  const handle = document.createElement("div");
  handle.className = "anchor";
  handle.dataset.anchor = anchor;
  handle.innerHTML = `<i></i><button class="redraw" title="Redraw this scene">${ring}</button><button class="lock" title="Lock this scene">${padlock}</button>`;
  const [redraw, lock] = handle.querySelectorAll("button");
  redraw.setAttribute("aria-label", `Redraw scene ${anchor}`);
  lock.setAttribute("aria-label", `Lock scene ${anchor}`);
  redraw.addEventListener("click", () => redrawAnchor(anchor));
  lock.addEventListener("click", () => lockAnchor(anchor));
  handle.addEventListener("focusin", () => {
    const x = plane.toScreen(anchor * model.anchor_tiles);
    if (x < 30 || x > plane.width - 30) plane.glideTo([anchor * model.anchor_tiles], 500);
  });
  $("anchors").append(handle);
  return handle;
}

function redrawAnchor(anchor) {
  if ($("drift").getAttribute("aria-pressed") !== "true") setDrift(false);
  anchor = wrap(anchor);
  if (locked.has(anchor)) return tell("This scene is locked; open its lock first");
  const here = source(sketch, anchor);
  const next = here.name ? { seed: sketch.seed, index: anchor, variant: 1 } : { ...here, variant: here.variant + 1 };
  greeted();
  handles.get(anchor)?.classList.add("pulse");
  setTimeout(() => handles.get(anchor)?.classList.remove("pulse"), 700);
  set(edited(sketch, [[anchor, next]]));
}

function lockAnchor(anchor) {
  anchor = wrap(anchor);
  if (!locked.delete(anchor)) locked.add(anchor);
  handles.get(anchor)?.querySelector(".lock").setAttribute("aria-pressed", locked.has(anchor));
  tell(locked.has(anchor) ? "Locked: it survives a new plane" : "Unlocked");
  placeAnchors();
  remember(true);
}

const nearest = () => Math.round(plane.x / model.anchor_tiles);

function shuffle() {
  greeted();
  const seed = Math.floor(Math.random() * 1e6);
  set(reseeded(sketch, seed, locked));
}

// ---- pan: pointer, wheel, keys ----
const touches = new Map();
let pinch = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button") || event.button > 0) return;
  stage.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, { x: event.clientX, time: event.timeStamp });
  plane.stop();
  plane.held = true;
  setDrift(false);
  if (touches.size === 2) {
    const [a, b] = [...touches.values()];
    pinch = { apart: Math.abs(a.x - b.x) + 1, zoom: plane.zoom };
  }
});
stage.addEventListener("pointermove", (event) => {
  const last = touches.get(event.pointerId);
  if (!last) return;
  greeted();
  if (touches.size === 1) {
    const by = (last.x - event.clientX) / plane.tile, seconds = Math.max((event.timeStamp - last.time) / 1000, 0.001);
    plane.x += by;
    plane.v = plane.v * 0.6 + (by / seconds) * 0.4;
  }
  touches.set(event.pointerId, { x: event.clientX, time: event.timeStamp });
  if (pinch && touches.size === 2) {
    const [a, b] = [...touches.values()];
    zoomTo((pinch.zoom * (Math.abs(a.x - b.x) + 1)) / pinch.apart);
  }
  plane.wake();
});
const letGo = (event) => {
  const last = touches.get(event.pointerId);
  touches.delete(event.pointerId);
  if (touches.size < 2) pinch = null;
  if (touches.size) return;
  plane.held = false;
  if (last && event.timeStamp - last.time > 90) plane.v = 0;
  plane.v = Math.max(-40, Math.min(40, plane.v));
  plane.wake();
};
stage.addEventListener("pointerup", letGo);
stage.addEventListener("pointercancel", letGo);
stage.addEventListener("lostpointercapture", letGo);

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  greeted();
  setDrift(false);
  if (event.ctrlKey) return zoomTo(plane.zoom * Math.exp(-event.deltaY / 300));
  const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? plane.width : 1;
  const by = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.deltaY;
  plane.glide = null;
  plane.v = Math.max(-40, Math.min(40, plane.v + (by * unit * 2.6) / plane.tile));
  plane.wake();
}, { passive: false });

function zoomTo(zoom) {
  plane.zoom = Math.max(0.3, Math.min(3, zoom));
  plane.wake();
}

const held = new Set();
const pushed = () => {
  const way = (held.has("ArrowRight") ? 1 : 0) - (held.has("ArrowLeft") ? 1 : 0);
  plane.push = way * (held.has("Shift") ? 3 : 1);
  plane.wake();
};
const KEYS = {
  " ": toggleDrift, r: () => redrawAnchor(nearest()), l: () => lockAnchor(nearest()), s: shuffle,
  c: openConnect, k: share, d: openSave, "?": () => $("help-sheet").showModal(), z: () => step(past, future),
  "+": () => zoomTo(plane.zoom * 1.15), "=": () => zoomTo(plane.zoom * 1.15), "-": () => zoomTo(plane.zoom / 1.15),
  Home: () => plane.glideTo([home()]),
};
addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const inSlider = event.target.matches("input");
  if (event.key === "Shift" || (event.key.startsWith("Arrow") && !inSlider && /Left|Right/.test(event.key))) {
    if (event.key !== "Shift") { plane.glide = null; setDrift(false); greeted(); event.preventDefault(); }
    held.add(event.key);
    return pushed();
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "z" && event.shiftKey) { event.preventDefault(); return step(future, past); }
  if ((event.ctrlKey || event.metaKey) && key !== "z") return;
  if (key === " " && event.target.closest("button")) return;
  if (KEYS[key] && !(inSlider && key === "Home")) { event.preventDefault(); KEYS[key](); }
});
addEventListener("keyup", (event) => { held.delete(event.key); pushed(); });
addEventListener("blur", () => { held.clear(); pushed(); });

function setDrift(on) {
  plane.drift = on ? 0.22 : 0; // tiles a second
  $("drift").setAttribute("aria-pressed", on);
  if (on) greeted();
  plane.wake();
}

function toggleDrift() {
  setDrift($("drift").getAttribute("aria-pressed") !== "true");
}

function greeted() {
  $("hint").classList.add("gone");
}

// ---- dock ----
$("dock").addEventListener("pointerdown", greeted);
$("shuffle").onclick = shuffle;
$("drift").onclick = toggleDrift;
$("undo").onclick = () => step(past, future);
$("redo").onclick = () => step(future, past);
$("help").onclick = KEYS["?"];
$("share").onclick = share;
$("save").onclick = openSave;
$("connect").onclick = openConnect;
$("tune").onclick = () => {
  const open = $("mood").classList.toggle("open");
  $("tune").setAttribute("aria-expanded", open);
};
stage.addEventListener("pointerdown", () => { $("mood").classList.remove("open"); $("tune").setAttribute("aria-expanded", false); });

const kindName = (kind) => (kind === 0 ? "any" : kind === 1 ? "nearest" : `${kind - 1} of ${model.num_clusters}`);
if (model.num_clusters) {
  $("kinds").hidden = false;
  $("cluster").max = model.num_clusters + 1;
}
let settling, before = null;
function mood() {
  const kind = Number($("cluster").value);
  $("psi-value").value = ($("psi").value / 100).toFixed(2);
  $("cluster-value").value = kindName(kind);
  before ??= sketch;
  clearTimeout(settling);
  settling = setTimeout(() => {
    const next = { ...sketch, psi: Number($("psi").value), cluster: kind === 0 ? null : kind === 1 ? "n" : kind - 2 };
    before = null;
    set(next);
  }, 120);
}
$("psi").oninput = mood;
$("cluster").oninput = mood;

async function share() {
  remember(true);
  try {
    await navigator.clipboard.writeText(location.href);
    tell("Link copied: it shows exactly this");
  } catch {
    tell("The link to exactly this is in the address bar");
  }
}

// ---- connect ----
let offered = [], chosen = [];
function offer() {
  const here = source(sketch, wrap(nearest()));
  const named = model.codes.map((name) => ({ name }));
  const drawn = Array.from({ length: 12 - Math.min(named.length + 1, 8) }, () => (
    { seed: Math.floor(Math.random() * 1e5), index: 0, variant: 0 }));
  offered = [here, ...named, ...drawn];
  chosen = [];
  $("scenes").replaceChildren(...offered.map((it, n) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "scene";
    const from = Math.max(0, Math.floor((model.anchor_tiles - model.grid) / 2));
    const scene = sceneSketch(sketch, it, model);
    for (let k = from; k < from + model.grid; k++) {
      const image = new Image();
      image.alt = "";
      image.onload = () => image.classList.add("dry");
      image.src = tileAddress(scene, k, model);
      button.append(image);
    }
    const label = n === 0 ? "here" : it.name ?? `seed ${it.seed}`;
    button.insertAdjacentHTML("beforeend", `<em></em><b></b>`);
    button.querySelector("em").textContent = label;
    button.setAttribute("aria-label", `Scene ${label}`);
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => choose(n);
    return button;
  }));
  choose(null);
}
function choose(n) {
  if (n !== null) {
    if (chosen.includes(n)) chosen = chosen.filter((m) => m !== n);
    else chosen = [...chosen.slice(-1), n];
  }
  [...$("scenes").children].forEach((button, m) => {
    const at = chosen.indexOf(m);
    button.setAttribute("aria-pressed", at >= 0);
    button.querySelector("b").textContent = at < 0 ? "" : "AB"[at];
  });
  $("join").disabled = chosen.length < 2;
}
function openConnect() {
  setDrift(false);
  offer();
  $("connect-sheet").showModal();
}
$("more").onclick = offer;
$("gap").oninput = () => { $("gap-value").value = $("gap").value; };
$("join").onclick = () => {
  const gap = Number($("gap").value), at = nearest(), other = at + 2 + gap;
  const [a, b] = chosen.map((n) => offered[n]);
  $("connect-sheet").close();
  const blank = Array.from({ length: gap }, (_, n) => [at + 2 + n, { seed: sketch.seed, index: at + 2 + n, variant: 0 }]);
  const spots = [[at, a], [at + 1, a], ...blank, [other, b], [other + 1, b]].filter(([i]) => !locked.has(wrap(i)));
  set(edited(sketch, spots.map(([i, it]) => [wrap(i), it])));
  greeted();
  plane.glideTo([(at + 0.5) * model.anchor_tiles, (other + 0.5) * model.anchor_tiles]);
};

// ---- take home ----
function span() {
  const px = (x) => Math.round(x * model.tile_px), wide = $("save-sheet").querySelector("[name=span]:checked").value;
  const left = px(plane.left);
  return wide === "view" ? [left, px(plane.right)] : [left, left + Number($("frames").value) * model.resolution];
}
function saveSize() {
  const [left, right] = span();
  $("frames-value").value = `${$("frames").value} frames`;
  $("save-size").value = `${(right - left).toLocaleString("en")} × ${model.resolution} px`;
  $("wide").hidden = $("save-sheet").querySelector("[name=span]:checked").value === "view";
  $("save-error").hidden = true;
}
function openSave() {
  setDrift(false);
  plane.stop();
  $("frames").max = model.max_frames;
  saveSize();
  $("save-sheet").showModal();
}
$("save-sheet").oninput = saveSize;
$("take").onclick = async () => {
  const [left, right] = span(), ending = $("save-sheet").querySelector("[name=format]:checked").value;
  $("take").disabled = true;
  $("take").textContent = "Painting…";
  $("save-error").hidden = true;
  try {
    const answer = await fetch(`strip/${format(sketch)}/${left}/${right}.${ending}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `panorama-${sketch.seed}-${left}-${right}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    $("save-sheet").close();
    tell("Saved; the picture knows how it was painted");
  } catch (error) {
    // In the sheet itself: a toast would lie below it. A TypeError is the browser's word for no answer.
    $("save-error").textContent = `Not saved: ${error instanceof TypeError ? "the painter can't be reached" : error.message}. Try again in a moment.`;
    $("save-error").hidden = false;
  } finally {
    $("take").disabled = false;
    $("take").textContent = "Paint and save";
  }
};

// ---- begin ----
for (const sheet of document.querySelectorAll("dialog")) {
  sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
  sheet.addEventListener("close", () => stage.focus());
}
addEventListener("resize", () => plane.resize());
addEventListener("hashchange", () => { if (location.hash !== link()) readLink(); });
$("name").textContent = model.name;
if (!readLink()) {
  show(sketch);
  plane.jump(home());
  // It moves: so one sees that it is endless. The first touch stops it.
  if (!plane.calm) plane.drift = 0.1;
}
setTimeout(greeted, 14000);
stage.focus();
document.body.classList.add("ready");
// For tests and the curious: the plane, and what is drawn on it.
window.alis = { plane, model, get sketch() { return format(sketch); }, get link() { return link(); } };
