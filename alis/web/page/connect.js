// The dialog that connects two chosen scenes.

import { edited, sceneSketch, source } from "./sketch.js";

const $ = (id) => document.getElementById(id);
const MOST_OFFERED = 12;

export class Connect {
  constructor(plane, painter, editor, anchors) {
    Object.assign(this, { plane, painter, editor, anchors });
    this.offered = [];
    this.chosen = [];
    this.asking = new AbortController();
    $("more").onclick = () => this.offer();
    $("gap").oninput = () => { $("gap-value").value = $("gap").value; };
    $("join").onclick = () => this.join();
    $("connect-sheet").addEventListener("close", () => this.asking.abort());
  }

  open() {
    this.offer();
    $("connect-sheet").showModal();
  }

  offer() {
    const { editor, anchors, plane: { model } } = this;
    this.asking.abort();
    this.asking = new AbortController();
    const named = model.codes.map((name) => ({ name }));
    const drawn = Array.from({ length: MOST_OFFERED - Math.min(named.length + 1, 8) }, () => (
      { seed: Math.floor(Math.random() * 1e5), index: 0, variant: 0 }));
    this.offered = [source(editor.sketch, editor.wrap(anchors.nearest)), ...named, ...drawn];
    this.chosen = [];
    $("scenes").replaceChildren(...this.offered.map((it, n) => {
      const label = n === 0 ? "here" : it.name ?? `seed ${it.seed}`;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "scene";
      button.insertAdjacentHTML("beforeend", "<em></em><b></b>");
      button.querySelector("em").textContent = label;
      button.setAttribute("aria-label", `Scene ${label}`);
      button.onclick = () => this.choose(n);
      this.portray(button, it);
      return button;
    }));
    this.choose(null);
  }

  // Paint the frame midway between two anchors with the scene's code.
  portray(button, it) {
    const { painter, editor, plane: { model } } = this, scene = sceneSketch(editor.sketch, it, model);
    const from = Math.max(0, Math.floor((model.anchor_tiles - model.grid) / 2));
    for (let n = 0; n < model.grid; n++) {
      const paper = document.createElement("canvas");
      paper.width = model.tile_px;
      paper.height = model.resolution;
      paper.setAttribute("aria-hidden", "true");
      button.insertBefore(paper, button.querySelector("em"));
      painter.tile(scene, from + n, this.asking.signal).then((bitmap) => {
        paper.getContext("2d").drawImage(bitmap, 0, 0);
        paper.classList.add("dry");
        bitmap.close();
      }, () => {}); // a scene can be chosen without its picture
    }
  }

  choose(n) {
    if (n !== null) {
      if (this.chosen.includes(n)) this.chosen = this.chosen.filter((m) => m !== n);
      else this.chosen = [...this.chosen.slice(-1), n];
    }
    [...$("scenes").children].forEach((button, m) => {
      const at = this.chosen.indexOf(m);
      button.setAttribute("aria-pressed", at >= 0);
      button.querySelector("b").textContent = at < 0 ? "" : "AB"[at];
    });
    $("join").disabled = this.chosen.length < 2;
  }

  join() {
    const { plane, editor, anchors } = this, each = plane.model.anchor_tiles;
    const gap = Number($("gap").value), at = anchors.nearest, other = at + 2 + gap;
    const [a, b] = this.chosen.map((n) => this.offered[n]), { seed } = editor.sketch;
    $("connect-sheet").close();
    const blank = Array.from({ length: gap }, (_, n) => [at + 2 + n, { seed, index: at + 2 + n, variant: 0 }]);
    const spots = [[at, a], [at + 1, a], ...blank, [other, b], [other + 1, b]];
    const free = spots.map(([i, it]) => [editor.wrap(i), it]).filter(([i]) => !editor.locked.has(i));
    editor.set(edited(editor.sketch, free));
    plane.glideTo([(at + 0.5) * each, (other + 0.5) * each]);
  }
}
