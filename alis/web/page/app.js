// The page: creates its parts and connects them.

import { Anchors } from "./anchors.js";
import { Connect } from "./connect.js";
import { Editor } from "./editor.js";
import { listen } from "./input.js";
import * as links from "./links.js";
import { Plane } from "./plane.js";
import { Save } from "./save.js";
import { format, mod, parse } from "./sketch.js";
import { open } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const model = await (await fetch("model.json")).json();
const painter = await open(model);
const stage = $("stage");
let lost = false;

const plane = new Plane($("plane"), $("ambient"), model, painter, {
  moved: () => { anchors.place(); remember(); },
  rested: () => remember(true),
  reached: () => { if (lost) { lost = false; tell("The painter is back"); } },
  failed: ({ status, isFinal }) => {
    lost = true;
    tell(status === 503 || status === 429 ? "The painter is busy; tiles will appear when they are ready"
      : isFinal || status ? "These tiles can't be painted" : "The painter can't be reached; trying again");
  },
});
const editor = new Editor(model, parse(model.start), { shown, locked: () => { anchors.place(); remember(true); }, refused: tell });
const anchors = new Anchors($("anchors"), plane, editor, { redraw, lock });
const connecting = new Connect(plane, painter, editor, anchors);
const saving = new Save(plane, painter, editor, tell);

// ---- what is shown, and its link ----
function shown() {
  const { sketch } = editor;
  plane.show(sketch);
  $("psi").max = Math.max(130, sketch.psi);
  $("psi").step = sketch.psi % 5 ? 1 : 5;
  $("psi").value = sketch.psi;
  const kind = sketch.cluster === null ? 0 : sketch.cluster === "n" ? 1 : sketch.cluster + 2;
  $("cluster").value = kind;
  sayMood();
  $("undo").disabled = !editor.past.length;
  $("redo").disabled = !editor.future.length;
  anchors.place();
  remember();
}

const link = () => links.write({ sketch: editor.sketch, x: plane.x, zoom: plane.zoom, locked: editor.locked }, model);

let remembered = 0;
function remember(now = false) {
  if (!now && performance.now() - remembered < 400) return;
  remembered = performance.now();
  if (location.hash !== link()) history.replaceState(null, "", link());
}

// Show what the URL's link says; false if there is none. What can't be used is reported.
function readLink() {
  const found = links.read(location.hash, model);
  if (found.complaint) tell(found.complaint, 8000);
  if (!found.sketch) return false;
  plane.zoomTo(found.zoom);
  editor.show(found.sketch, [...found.locked].map((i) => (found.sketch.ring ? mod(i, found.sketch.ring) : i)));
  plane.jump(found.x ?? home());
  return true;
}

// Wide screens start between two scenes, narrow ones at a scene, so that its buttons are visible.
function home() {
  return plane.right - plane.left > model.anchor_tiles + 0.5 ? model.anchor_tiles / 2 : 0;
}

let toastTimer;
function tell(text, ms = 2600) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").classList.remove("on"), ms);
}

// ---- actions ----
function redraw(anchor) {
  if ($("drift").getAttribute("aria-pressed") !== "true") setDrift(false);
  greeted();
  if (!editor.locked.has(editor.wrap(anchor))) anchors.pulse(anchor);
  editor.redraw(anchor);
}

function lock(anchor) {
  tell(editor.lock(anchor) ? "Locked: it stays on another plane" : "Unlocked");
}

function shuffle() {
  greeted();
  editor.shuffle();
}

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

async function share() {
  remember(true);
  try {
    await navigator.clipboard.writeText(location.href);
    tell("Link copied: it opens exactly this view");
  } catch {
    tell("The link to exactly this view is in the address bar");
  }
}

function openSheet(sheet) {
  setDrift(false);
  greeted();
  sheet.open();
}

const help = () => $("help-sheet").showModal();
const connect = () => openSheet(connecting), save = () => openSheet(saving);
const undo = () => editor.undo(), redo = () => editor.redo();

listen(stage, plane, {
  " ": toggleDrift, r: () => redraw(anchors.nearest), l: () => lock(anchors.nearest), s: shuffle,
  c: connect, k: share, d: save, "?": help, z: undo, Z: redo,
  "+": () => plane.zoomTo(plane.zoom * 1.15), "=": () => plane.zoomTo(plane.zoom * 1.15),
  "-": () => plane.zoomTo(plane.zoom / 1.15), Home: () => plane.glideTo([home()]),
}, { touched: greeted, stopped: () => setDrift(false) });

for (const [id, does] of Object.entries({ shuffle, drift: toggleDrift, undo, redo, help, share, save, connect })) {
  $(id).onclick = does;
}
$("dock").addEventListener("pointerdown", greeted);
$("tune").onclick = () => openMood(!$("mood").classList.contains("open"));
stage.addEventListener("pointerdown", () => openMood(false));
function openMood(on) {
  $("mood").classList.toggle("open", on);
  $("tune").setAttribute("aria-expanded", on);
}

// ---- boldness and kind ----
if (model.num_clusters) {
  $("kinds").hidden = false;
  $("cluster").max = model.num_clusters + 1;
}
function sayMood() {
  const kind = Number($("cluster").value), psi = ($("psi").value / 100).toFixed(2);
  const name = kind === 0 ? "any" : kind === 1 ? "nearest" : `${kind - 1} of ${model.num_clusters}`;
  $("psi-value").value = psi;
  $("cluster-value").value = name;
  $("psi").setAttribute("aria-valuetext", psi);
  $("cluster").setAttribute("aria-valuetext", name);
}
let settling;
function mood() {
  sayMood();
  clearTimeout(settling);
  settling = setTimeout(() => {
    const kind = Number($("cluster").value);
    editor.set({ ...editor.sketch, psi: Number($("psi").value), cluster: kind === 0 ? null : kind === 1 ? "n" : kind - 2 });
  }, 120);
}
$("psi").oninput = mood;
$("cluster").oninput = mood;

// ---- start ----
for (const sheet of document.querySelectorAll("dialog")) {
  sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
  sheet.addEventListener("close", () => stage.focus());
}
addEventListener("resize", () => plane.resize());
addEventListener("hashchange", () => {
  if (location.hash === link()) return;
  if (!readLink()) remember(true);
});
$("name").textContent = model.name;
painter.note.then((words) => { $("place").value = words; });
if (!readLink()) {
  editor.show(editor.sketch, []);
  plane.jump(home());
  // Drift at first, which shows that the plane is endless; the first input stops it.
  if (!plane.calm) plane.drift = 0.1;
}
setTimeout(greeted, 14000);
stage.focus();
document.body.classList.add("ready");
// For tests and debugging.
window.alis = { plane, model, painter, editor, get sketch() { return format(editor.sketch); }, get link() { return link(); } };
