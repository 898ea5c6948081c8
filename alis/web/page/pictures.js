// A picture's file → the same file with a note of how it was painted, as alis.formats reads it: an iTXt chunk in PNG, the
// EXIF image description in JPEG and WebP.

const text = (value) => new TextEncoder().encode(value);
const big = (value, size) => Uint8Array.from({ length: size }, (_, i) => (value / 256 ** (size - 1 - i)) & 255);
const small = (value, size) => big(value, size).reverse();

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function noted(bytes, ending, note) {
  return ending === "png" ? inPng(bytes, note) : ending === "jpg" ? inJpeg(bytes, note) : inWebp(bytes, note);
}

function inPng(bytes, note) {
  const kind = text("iTXt"), body = joined(text("alis"), new Uint8Array(5), text(note));
  const chunk = joined(big(body.length, 4), kind, body, big(crc(joined(kind, body)), 4));
  const header = 8 + 25; // signature and IHDR
  return joined(bytes.subarray(0, header), chunk, bytes.subarray(header));
}

function inJpeg(bytes, note) {
  const body = joined(text("Exif\0\0"), exif(note));
  return joined(bytes.subarray(0, 2), [0xff, 0xe1], big(body.length + 2, 2), body, bytes.subarray(2));
}

// The extended file format: VP8X with its EXIF flag, the picture's own chunks, EXIF.
function inWebp(bytes, note) {
  const view = new DataView(bytes.buffer, bytes.byteOffset), kind = new TextDecoder().decode(bytes.subarray(12, 16));
  let extended, rest;
  if (kind === "VP8X") {
    extended = bytes.slice(12, 30);
    rest = bytes.subarray(30);
  } else {
    const lossy = kind === "VP8 ";
    const bits = lossy ? 0 : view.getUint32(21, true);
    const width = lossy ? view.getUint16(26, true) & 0x3fff : (bits & 0x3fff) + 1;
    const height = lossy ? view.getUint16(28, true) & 0x3fff : ((bits >>> 14) & 0x3fff) + 1;
    extended = joined(text("VP8X"), small(10, 4), [0, 0, 0, 0], small(width - 1, 3), small(height - 1, 3));
    rest = bytes.subarray(12);
  }
  extended[8] |= 0x08;
  const body = exif(note), chunk = joined(text("EXIF"), small(body.length, 4), body, new Uint8Array(body.length % 2));
  const all = joined(text("WEBP"), extended, rest, chunk);
  return joined(text("RIFF"), small(all.length, 4), all);
}

// TIFF, big-endian, one entry: ImageDescription.
function exif(note) {
  const body = joined(text(note), [0]);
  return joined(text("MM"), big(42, 2), big(8, 4), big(1, 2), big(0x010e, 2), big(2, 2), big(body.length, 4), big(26, 4),
    big(0, 4), body);
}

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return (value ^ 0xffffffff) >>> 0;
}
