// An anchor's source → its code, as alis.painting.anchor_codes: random (truncated, or of a cluster), or saved by name.

import { drawZ } from "./random.js";

const ATTEMPTS = 32, ROUNDS = 8, MOST_KEPT = 1024;
const { fround } = Math;

export class AnchorCodes {
  // map(z, count) → w: the mapping network on `count` codes, both Float32Array.
  // mean: [S]. centres: array of [S]. saved: name → [S] or [L · S].
  constructor({ map, mean, centres, saved, size, zSize }) {
    Object.assign(this, { map, mean, centres, saved, size, zSize });
    this.kept = new Map();
  }

  // Float32Array [S], or [L · S] for a saved W+ code.
  async code(source, psi, cluster) {
    if (source.name) return this.saved.get(source.name);
    const key = [source.seed, source.index, source.variant, psi, cluster].join();
    if (!this.kept.has(key)) {
      this.kept.set(key, await this.draw(source, psi, cluster));
      if (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(key);
  }

  async draw(source, psi, cluster) {
    if (cluster === null) {
      const w = await this.map(drawZ(source, this.zSize), 1);
      return psi === 1 ? w : w.map((value, i) => lerp(this.mean[i], value, psi));
    }
    let w, centre;
    if (cluster === "n") {
      w = await this.map(drawZ(source, this.zSize), 1);
      centre = this.centres[this.nearest(w).kind];
    } else {
      w = await this.ofKind(source, cluster);
      centre = this.centres[cluster];
    }
    return w.map((value, i) => fround(centre[i] + fround(psi * fround(value - centre[i]))));
  }

  // The first of a draw's codes that falls into a cluster; if none does, the nearest to its centre.
  async ofKind(source, kind) {
    let best = null, least = Infinity;
    for (let round = 0; round < ROUNDS; round++) {
      const z = new Float32Array(ATTEMPTS * this.zSize);
      for (let i = 0; i < ATTEMPTS; i++) z.set(drawZ(source, this.zSize, round * ATTEMPTS + i), i * this.zSize);
      const w = await this.map(z, ATTEMPTS);
      for (let i = 0; i < ATTEMPTS; i++) {
        const one = w.slice(i * this.size, (i + 1) * this.size);
        if (this.nearest(one).kind === kind) return one;
        const far = distance(one, this.centres[kind]);
        if (far < least) [best, least] = [one, far];
      }
    }
    return best;
  }

  nearest(w) {
    let kind = 0, least = Infinity;
    this.centres.forEach((centre, k) => {
      const far = distance(w, centre);
      if (far < least) [kind, least] = [k, far];
    });
    return { kind, least };
  }
}

function distance(a, b) {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}

// In float32, like torch's lerp.
function lerp(from, to, way) {
  const apart = fround(to - from);
  return way < 0.5 ? fround(from + fround(fround(way) * apart)) : fround(to - fround(apart * fround(1 - way)));
}
