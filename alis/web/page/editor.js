// The state that is edited: the sketch and the locked scenes, with undo and redo. Changes are reported by events.

import { edited, format, mod, reseeded, source } from "./sketch.js";

const MOST_STEPS = 200;

export class Editor {
  // events: shown(), locked(), refused(words).
  constructor(model, sketch, events) {
    Object.assign(this, { model, sketch, events });
    this.locked = new Set();
    this.past = [];
    this.future = [];
  }

  // On a ring, anchors are counted modulo the ring.
  wrap(anchor) {
    return this.sketch.ring ? mod(anchor, this.sketch.ring) : anchor;
  }

  set(next) {
    if (format(next) === format(this.sketch)) return;
    if (next.edits.size > this.model.max_edits) {
      this.events.refused(`At most ${this.model.max_edits} edited scenes; undo some first`);
      return;
    }
    this.past.push(this.state);
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future.length = 0;
    this.show(next, this.locked);
  }

  // Show a state without adding it to the history: from a link, undo or redo.
  show(sketch, locked) {
    this.sketch = sketch;
    this.locked = new Set(locked);
    this.events.shown();
  }

  get state() {
    return { sketch: this.sketch, locked: [...this.locked] };
  }

  undo() { this.step(this.past, this.future); }
  redo() { this.step(this.future, this.past); }
  step(from, to) {
    const state = from.pop();
    if (!state) return;
    to.push(this.state);
    this.show(state.sketch, state.locked);
  }

  redraw(anchor) {
    const at = this.wrap(anchor);
    if (this.locked.has(at)) {
      this.events.refused("This scene is locked; unlock it first");
      return;
    }
    const here = source(this.sketch, at);
    const next = here.name ? { seed: this.sketch.seed, index: at, variant: 1 }
      : { ...here, variant: (here.variant + 1) % (this.model.max_variant + 1) };
    this.set(edited(this.sketch, [[at, next]]));
  }

  // Toggle an anchor's lock; returns whether it is locked now.
  lock(anchor) {
    const at = this.wrap(anchor);
    if (!this.locked.delete(at)) this.locked.add(at);
    this.events.locked();
    return this.locked.has(at);
  }

  shuffle() {
    this.set(reseeded(this.sketch, Math.floor(Math.random() * 1e6), this.locked));
  }
}
