// The redraw and lock buttons below the scenes: a pair at every visible anchor.

import { tileAddress } from "./sketch.js";

const RING = '<svg viewBox="0 0 44 44" aria-hidden="true"><circle class="halo" cx="22" cy="22" r="17"/><circle class="ring" cx="22" cy="22" r="8.5"/><circle class="core" cx="22" cy="22" r="3"/></svg>';
const PADLOCK = '<svg viewBox="0 0 24 24" aria-hidden="true"><rect x="6" y="11" width="12" height="8.5" rx="2.2"/><path class="shackle" d="M8.5 11V8a3.5 3.5 0 0 1 7 0v3"/></svg>';

export class Anchors {
  // does: the callbacks redraw(anchor) and lock(anchor).
  constructor(layer, plane, editor, does) {
    Object.assign(this, { layer, plane, editor, does });
    this.handles = new Map(); // anchor → element
  }

  get nearest() {
    return Math.round(this.plane.x / this.plane.model.anchor_tiles);
  }

  place() {
    const { plane, handles } = this, each = plane.model.anchor_tiles;
    const first = Math.ceil((plane.left - 0.2) / each), last = Math.floor((plane.right + 0.2) / each);
    for (const [anchor, handle] of handles) {
      if ((anchor < first || anchor > last) && !handle.contains(document.activeElement)) {
        handle.remove();
        handles.delete(anchor);
      }
    }
    for (let anchor = first; anchor <= last; anchor++) {
      if (!handles.has(anchor)) handles.set(anchor, this.make(anchor));
    }
    for (const [anchor, handle] of handles) this.dress(anchor, handle);
  }

  dress(anchor, handle) {
    const { plane, editor } = this, { sketch } = editor, own = editor.wrap(anchor), each = plane.model.anchor_tiles;
    const [redraw, lock] = handle.querySelectorAll("button");
    handle.style.transform = `translate3d(${plane.toScreen(anchor * each).toFixed(1)}px, ${plane.top}px, 0)`;
    handle.style.height = `${plane.height}px`;
    handle.classList.toggle("edited", sketch.edits.has(own));
    handle.classList.toggle("low", plane.top + plane.height > innerHeight - 110);
    handle.classList.toggle("busy", [anchor * each - 1, anchor * each].some(
      (k) => plane.loading.has(tileAddress(sketch, k, plane.model))));
    // Locks change by clicks, links and undo: always update what screen readers announce, too.
    const isLocked = editor.locked.has(own);
    handle.classList.toggle("locked", isLocked);
    say(lock, "aria-pressed", String(isLocked));
    say(lock, "title", isLocked ? "Unlock this scene" : "Lock this scene");
    say(lock, "aria-label", `Lock scene ${own}`);
    say(redraw, "aria-label", `Redraw scene ${own}`);
  }

  make(anchor) {
    const { plane } = this, at = anchor * plane.model.anchor_tiles;
    const handle = document.createElement("div");
    handle.className = "anchor";
    handle.dataset.anchor = anchor;
    handle.innerHTML = `<i></i><button class="redraw" title="Redraw this scene">${RING}</button><button class="lock">${PADLOCK}</button>`;
    const [redraw, lock] = handle.querySelectorAll("button");
    redraw.addEventListener("click", () => this.does.redraw(anchor));
    lock.addEventListener("click", () => this.does.lock(anchor));
    handle.addEventListener("focusin", () => {
      const x = plane.toScreen(at);
      if (x < 30 || x > plane.width - 30) plane.glideTo([at], 500);
    });
    this.layer.append(handle);
    return handle;
  }

  pulse(anchor) {
    const handle = this.handles.get(anchor);
    handle?.classList.add("pulse");
    setTimeout(() => handle?.classList.remove("pulse"), 700);
  }
}

function say(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
