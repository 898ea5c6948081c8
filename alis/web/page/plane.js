// The canvas: a few tiles wider than the screen and moved as a whole; only changed tiles are redrawn.
// Tiles are put side by side at their own size, then scaled to the screen together, so there are no seams. A tile is a
// whole number of device pixels wide, so the canvas can be shifted by whole tiles without loss.
// Motion is integrated over real time; when nothing moves, nothing is drawn.

import { clampZoom, furthest } from "./links.js";
import { tileAddress } from "./sketch.js";

const MOST_LOADING = 6;
const MOST_KEPT = 600;
const BESIDE = 1; // tiles drawn beyond the left and right edge of the screen
const GLOW = 4; // columns per tile of the blurred background above and below the strip
const FADE_MS = 650;
const FRICTION = 2.6; // 1/s
const GLIDE_MS = 1500;

export class Plane {
  // painter: see tiles.js. events: moved(), rested(), reached(), failed(missing).
  constructor(canvas, ambient, model, painter, events) {
    Object.assign(this, { canvas, ambient, model, painter, events });
    this.context = canvas.getContext("2d", { alpha: false });
    this.soft = ambient.getContext("2d", { alpha: false });
    this.native = document.createElement("canvas");
    this.paper = this.native.getContext("2d", { alpha: false });
    this.x = 0; // centre of the view, in tiles
    this.v = 0; // tiles per second
    this.push = 0; // from held keys: -1, 0, 1 or more
    this.drift = 0;
    this.zoom = 1;
    this.kept = new Map(); // address → bitmap, least recently used first
    this.slots = new Map(); // k → the tile shown there
    this.loading = new Map(); // address → AbortController
    this.waits = new Map(); // address → {until, tries}, for tiles that failed and are needed
    this.alarm = 0; // when the next retry is due
    this.drawn = new Map(); // k → what is on the canvas there
    this.frames = [];
    this.calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.resize();
  }

  // ---- size ----
  resize() {
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.width = innerWidth;
    this.screen = innerHeight;
    this.wake();
  }

  // Tall screens show a strip across, with a blurred background above and below; small models are not enlarged too far.
  get tileDots() {
    const fit = Math.min(this.screen, Math.max(this.width * 1.15, 320), Math.max(this.model.resolution * 5, 320));
    const high = Math.max(80, Math.min(this.screen, fit * this.zoom)) * this.ratio;
    return Math.max(1, Math.ceil(high / this.model.grid - 0.01));
  }
  get height() { return (this.tileDots * this.model.grid) / this.ratio; }
  get top() { return Math.round((this.screen - this.height) / 2); }
  get tile() { return this.tileDots / this.ratio; }
  get left() { return this.x - this.width / 2 / this.tile; }
  get right() { return this.x + this.width / 2 / this.tile; }
  isOnScreen(k) { return k + 1 > this.left && k < this.right; }
  toScreen(x) { return (x - this.x) * this.tile + this.width / 2; }
  toPlane(px) { return this.x + (px - this.width / 2) / this.tile; }

  // ---- what is shown ----
  show(sketch) {
    this.sketch = sketch;
    this.wake();
  }
  jump(x) {
    this.glide = null;
    this.x = x;
    this.v = 0;
    this.wake();
  }
  glideTo(stops, ms = GLIDE_MS) {
    this.v = 0;
    if (this.calm) return this.jump(stops[stops.length - 1]);
    this.glide = { from: this.x, stops: [...stops], start: performance.now(), ms };
    this.wake();
  }
  stop() {
    this.glide = null;
    this.v = 0;
  }
  zoomTo(zoom) {
    this.zoom = clampZoom(zoom);
    this.wake();
  }
  get isMoving() {
    return Math.abs(this.v) > 0.003 || this.push !== 0 || this.drift !== 0 || Boolean(this.glide) || this.held;
  }
  get isSettled() {
    if (this.frame || this.isMoving || this.loading.size) return false;
    return this.wanted().visible.every((k) => this.slots.get(k)?.settled);
  }

  wake() {
    if (!this.frame) {
      this.before = performance.now();
      this.frame = requestAnimationFrame((now) => this.step(now));
    }
  }

  step(now) {
    this.frame = 0;
    const passed = Math.min(Math.max(now - this.before, 0), 100);
    if (this.isMoving) {
      this.frames.push(now - this.before);
      if (this.frames.length > 2000) this.frames.splice(0, 1000);
    }
    this.before = now;
    this.move(passed / 1000, now);
    this.fetchTiles(now);
    const busy = this.paint(now);
    this.events.moved();
    if (busy || this.isMoving) this.frame = requestAnimationFrame((next) => this.step(next));
    else {
      this.sleep(now);
      this.events.rested();
    }
  }

  // Nothing moves: sleep until a tile arrives, or until the retry of a failed one is due.
  sleep(now) {
    clearTimeout(this.alarm);
    const due = Math.min(...[...this.waits.values()].map((wait) => wait.until));
    this.alarm = Number.isFinite(due) ? setTimeout(() => this.wake(), Math.max(due - now, 0) + 1) : 0;
  }

  move(seconds, now) {
    if (this.glide) {
      const way = Math.min((now - this.glide.start) / this.glide.ms, 1);
      const eased = way < 0.5 ? 4 * way ** 3 : 1 - (2 - 2 * way) ** 3 / 2;
      this.x = this.glide.from + (this.glide.stops[0] - this.glide.from) * eased;
      if (way === 1) {
        this.glide.stops.shift();
        this.glide = this.glide.stops.length
          ? { ...this.glide, from: this.x, start: now, ms: this.glide.ms * 2.2 } : null;
      }
    } else if (!this.held) {
      this.v += this.push * 9 * seconds;
      const kept = Math.exp(-FRICTION * seconds);
      this.x += (this.v * (1 - kept)) / FRICTION + this.drift * seconds;
      this.v *= kept;
      if (!this.push && Math.abs(this.v) < 0.003) this.v = 0;
    }
    const most = furthest(this.model);
    this.x = Math.max(-most, Math.min(most, this.x));
  }

  // Request tiles on the canvas from the centre outwards, then those that will be needed next.
  wanted() {
    const first = Math.floor(this.left) - BESIDE, last = Math.ceil(this.right) - 1 + BESIDE;
    const visible = [];
    for (let k = first; k <= last; k++) visible.push(k);
    visible.sort((a, b) => Math.abs(a + 0.5 - this.x) - Math.abs(b + 0.5 - this.x));
    const ahead = [], speed = this.v + this.drift + this.push;
    const reach = Math.min(24, Math.ceil((last - first + 1) * 1.2) + 2);
    for (let step = 1; step <= reach; step++) {
      if (speed >= 0) ahead.push(last + step);
      if (speed <= 0) ahead.push(first - step);
    }
    return { visible, ahead };
  }

  fetchTiles(now) {
    const { visible, ahead } = this.wanted();
    const addresses = new Map([...visible, ...ahead].map((k) => [tileAddress(this.sketch, k, this.model), k]));
    for (const [address, control] of this.loading) {
      if (!addresses.has(address)) control.abort();
    }
    for (const address of this.waits.keys()) {
      if (!addresses.has(address)) this.waits.delete(address);
    }
    for (const [address, k] of addresses) {
      const slot = this.slots.get(k);
      const bitmap = this.kept.get(address);
      if (bitmap) {
        if (slot?.address !== address) this.place(k, address, bitmap, now);
        this.kept.delete(address);
        this.kept.set(address, bitmap);
      } else if (!this.loading.has(address) && this.loading.size < MOST_LOADING) {
        if ((this.waits.get(address)?.until ?? 0) <= now) this.fetchTile(address, k);
      }
    }
    for (const k of this.slots.keys()) {
      if (k < Math.floor(this.left) - 64 || k > this.right + 64) this.slots.delete(k);
    }
    for (const [address, bitmap] of this.kept) {
      if (this.kept.size <= MOST_KEPT) break;
      this.kept.delete(address);
      if (![...this.slots.values()].some((slot) => slot.bitmap === bitmap || slot.old === bitmap)) bitmap.close();
    }
  }

  place(k, address, bitmap, now) {
    const before = this.slots.get(k);
    const fades = before?.bitmap !== bitmap && this.isOnScreen(k) && !this.calm; // fade only what was visible before
    this.slots.set(k, { address, bitmap, old: fades ? before?.bitmap : null, since: fades ? now : 0 });
  }

  async fetchTile(address, k) {
    const control = new AbortController();
    this.loading.set(address, control);
    try {
      this.kept.set(address, await this.painter.tile(this.sketch, k, control.signal));
      this.waits.delete(address);
      this.events.reached();
    } catch (error) {
      if (error.name !== "AbortError") {
        const tries = (this.waits.get(address)?.tries ?? 0) + 1;
        const pause = error.isFinal ? 60000 : Math.max(error.afterMs || 0, Math.min(8000, 400 * 2 ** tries));
        this.waits.set(address, { until: performance.now() + pause, tries });
        if (tries > 1 || error.isFinal) this.events.failed(error);
      }
    } finally {
      this.loading.delete(address);
      this.wake();
    }
  }

  // ---- drawing ----
  paint(now) {
    const { canvas, ratio } = this, dots = this.tileDots;
    const count = Math.ceil((this.width * ratio) / dots) + 1 + 2 * BESIDE, first = Math.floor(this.left) - BESIDE;
    this.fit(first, count, dots);
    const changed = [];
    let busy = false;
    for (let k = first - 1; k <= first + count; k++) {
      const isInside = k >= first && k < first + count;
      const slot = this.slots.get(k), way = slot ? Math.min(1, (now - slot.since) / FADE_MS) : 0;
      const moves = way < 1 && (Boolean(slot) || this.isOnScreen(k)) && !(this.calm && !slot);
      const shows = `${isInside}${slot ? slot.address : ""}${way === 1}`;
      if (slot) slot.settled = way === 1 && slot.address === tileAddress(this.sketch, k, this.model);
      if (moves || this.drawn.get(k) !== shows) {
        this.paintTile(k, (k - first + 1) * this.model.tile_px, slot, way, now);
        this.drawn.set(k, shows);
        changed.push(k - first);
      }
      busy = busy || moves;
    }
    if (changed.length) this.enlarge(changed, count, dots);
    const offset = (this.left - first) * dots;
    // At rest, align to device pixels for sharpness; in motion, use fractions for smoothness.
    const shift = (this.isMoving ? offset : Math.round(offset)) / ratio;
    canvas.style.transform = `translate3d(${-shift}px, 0, 0)`;
    return busy;
  }

  // Make the canvas show tiles first … first + count − 1; tiles already on it are shifted, not drawn again.
  fit(first, count, dots) {
    const { canvas, native, ambient, ratio, drawn } = this, { resolution, tile_px: wide } = this.model;
    const size = [count * dots, Math.round(this.screen * ratio), dots].join();
    if (this.size !== size) {
      this.size = size;
      canvas.width = count * dots;
      canvas.height = Math.round(this.screen * ratio);
      canvas.style.width = `${canvas.width / ratio}px`;
      canvas.style.height = `${canvas.height / ratio}px`;
      native.width = (count + 2) * wide;
      native.height = resolution;
      ambient.width = (count + 2) * GLOW;
      ambient.height = 8;
      drawn.clear();
    } else if (this.first !== first) {
      const by = this.first - first;
      if (Math.abs(by) < count) {
        this.context.drawImage(canvas, by * dots, 0);
        this.paper.drawImage(native, by * wide, 0);
      }
      for (const k of drawn.keys()) {
        if (k < first || k >= first + count || k < this.first || k >= this.first + count) drawn.delete(k);
      }
    }
    this.first = first;
  }

  // Draw the changed columns at the screen's scale, with a margin for the browser's smoothing.
  enlarge(changed, count, dots) {
    const { context, canvas, native, ratio } = this, { tile_px: wide } = this.model;
    const top = Math.round(this.top * ratio), high = Math.round(this.height * ratio);
    const hasSky = top > 0, spill = hasSky ? 2 * dots : Math.ceil((3 * dots) / wide);
    context.save();
    context.beginPath();
    for (const n of changed) context.rect(n * dots - spill, 0, dots + 2 * spill, canvas.height);
    context.clip();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (hasSky) this.bleed(top, high, count, dots);
    context.drawImage(native, -dots, top, (count + 2) * dots, high);
    if (hasSky) this.feather(top, high);
    context.restore();
  }

  // Beyond the strip, sky and ground continue blurred and fade into the dark.
  bleed(top, high, count, dots) {
    const { context, canvas, soft, ambient, native } = this, rows = Math.max(2, this.model.resolution * 0.16);
    soft.imageSmoothingEnabled = true;
    soft.imageSmoothingQuality = "high";
    for (const isSky of [true, false]) {
      const from = isSky ? 0 : this.model.resolution - rows;
      soft.setTransform(1, 0, 0, -1, 0, ambient.height); // mirrored at the edge
      soft.drawImage(native, 0, from, native.width, rows, 0, 0, ambient.width, ambient.height);
      const y = isSky ? 0 : top + high, tall = isSky ? top : canvas.height - top - high;
      if (tall > 0) context.drawImage(ambient, -dots, y, (count + 2) * dots, Math.ceil(tall) + 1);
    }
    const dark = context.createLinearGradient(0, 0, 0, canvas.height);
    const edge = top / canvas.height;
    dark.addColorStop(0, "rgba(8, 10, 16, .9)");
    dark.addColorStop(edge, "rgba(8, 10, 16, .18)");
    dark.addColorStop(1 - edge, "rgba(8, 10, 16, .18)");
    dark.addColorStop(1, "rgba(8, 10, 16, .92)");
    context.fillStyle = dark;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  feather(top, high) {
    const { context, canvas, ratio } = this, soft = 26 * ratio;
    for (const [edge, inner] of [[top, top + soft], [top + high, top + high - soft]]) {
      const veil = context.createLinearGradient(0, edge, 0, inner);
      veil.addColorStop(0, "rgba(8, 10, 16, .2)");
      veil.addColorStop(1, "rgba(8, 10, 16, 0)");
      context.fillStyle = veil;
      context.fillRect(0, Math.min(edge, inner), canvas.width, soft);
    }
  }

  paintTile(k, at, slot, way, now) {
    const { resolution: high, tile_px: wide } = this.model;
    if (way < 1) {
      if (slot?.old) this.paper.drawImage(slot.old, at, 0);
      else this.shimmer(k, at, wide, high, now);
    }
    if (slot) {
      this.paper.globalAlpha = way < 1 ? way * way * (3 - 2 * way) : 1;
      this.paper.drawImage(slot.bitmap, at, 0);
      this.paper.globalAlpha = 1;
    }
  }

  // A slow light that moves along the plane, over all tiles that are still being painted.
  shimmer(k, at, wide, high, now) {
    const phase = this.calm ? 0.5 : (Math.sin(k * 0.9 - now / 420) + 1) / 2;
    const next = this.calm ? 0.5 : (Math.sin((k + 1) * 0.9 - now / 420) + 1) / 2;
    const light = this.paper.createLinearGradient(at, 0, at + wide, 0);
    const tone = (p) => `hsl(${222 - 14 * p} 24% ${11 + 9 * p}%)`;
    light.addColorStop(0, tone(phase));
    light.addColorStop(1, tone(next));
    this.paper.fillStyle = light;
    this.paper.fillRect(at, 0, wide, high);
  }
}
