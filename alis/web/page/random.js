// The plane's random numbers, identical to those in Python: codes (alis.plane.anchors.draw_z), noise
// (alis.plane.noise) and local latents (alis.plane.latents).

const WORD = 2 ** 32, MASK64 = (1n << 64n) - 1n, MASK32 = 0xffffffffn;
const STREAM = 0x616c6973n; // of codes
const LATENTS = 0x4c617400; // of local latents
const GOLDEN = 0x9e3779b1;

// ---- codes: Philox4x64-10 and Box–Muller ----
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
function philox(counter, key) {
  let [a, b, c, d] = counter, [k, l] = key;
  for (let round = 0; round < 10; round++) {
    const p = 0xd2e7470ee14c6c93n * a, q = 0xca5a826395121157n * c;
    [a, b, c, d] = [(q >> 64n) ^ b ^ k, q & MASK64, (p >> 64n) ^ d ^ l, p & MASK64];
    k = (k + 0x9e3779b97f4a7c15n) & MASK64;
    l = (l + 0xbb67ae8584caa73bn) & MASK64;
  }
  return [a, b, c, d];
}

// z of {seed, index, variant}, standard normal, Float32Array [size]; attempt: further independent codes of the same draw.
export function drawZ({ seed, index, variant }, size, attempt = 0) {
  const half = Math.ceil(size / 2), unit = new Float64Array(2 * half);
  const key = [BigInt(seed), STREAM], place = BigInt(index) & MASK64;
  for (let at = 0, block = 1n; at < unit.length; block++) {
    for (const word of philox([block, BigInt(attempt), BigInt(variant), place], key)) {
      if (at < unit.length) unit[at++] = (Number(word >> 11n) + 0.5) * 2 ** -53;
    }
  }
  const z = new Float32Array(size);
  for (let i = 0; i < half; i++) {
    const radius = Math.sqrt(-2 * Math.log(unit[i])), angle = 2 * Math.PI * unit[half + i];
    z[i] = radius * Math.cos(angle);
    if (half + i < size) z[half + i] = radius * Math.sin(angle);
  }
  return z;
}

// ---- noise and latents: hashed counters ----
// A bijection of 32-bit words: Wellons' "lowbias32".
function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

const low = (number) => Number(BigInt.asUintN(64, BigInt(number)) & MASK32);
const high = (number) => Number(BigInt.asUintN(64, BigInt(number)) >> 32n);

function columnKey(seed, stream, column) {
  const plane = mix(mix(low(seed) ^ Math.imul(stream, GOLDEN)) ^ high(seed));
  return mix(mix(plane ^ low(column)) ^ high(column));
}

// Standard normal noise of one layer in `columns`: Float32Array [height, columns.length].
export function columnNoise(seed, layer, columns, height) {
  const { fround } = Math, width = columns.length, found = new Float32Array(height * width);
  const turn = fround(2 * Math.PI * 2 ** -32);
  columns.forEach((column, x) => {
    const key = columnKey(seed, layer, column);
    for (let i = 0; i < height / 2; i++) {
      const first = mix(key ^ Math.imul(i, GOLDEN)), second = mix(first ^ 0x68e31da4);
      const unit = fround(fround(fround(first) + 0.5) / WORD);
      const radius = fround(Math.sqrt(fround(-2 * fround(Math.log(unit)))));
      const angle = fround(fround(second) * turn);
      found[2 * i * width + x] = radius * fround(Math.cos(angle));
      found[(2 * i + 1) * width + x] = radius * fround(Math.sin(angle));
    }
  });
  return found;
}

// Local latents of a block: Float32Array [channels, height, columns.length].
// quantiles: of the normal distribution at (i + ½)/65536, Float32Array [65536].
export function localLatents(seed, resolution, columns, channels, height, quantiles) {
  const width = columns.length, pairs = height / 2, found = new Float32Array(channels * height * width);
  columns.forEach((column, x) => {
    const key = columnKey(seed, LATENTS + resolution, column);
    for (let c = 0; c < channels; c++) {
      for (let i = 0; i < pairs; i++) {
        const word = mix(key ^ Math.imul(c * pairs + i, GOLDEN)), at = (c * height + 2 * i) * width + x;
        found[at] = quantiles[word & 0xffff];
        found[at + width] = quantiles[word >>> 16];
      }
    }
  });
  return found;
}
