// The source of tiles, with this interface:
//
//   tile(sketch, k, signal)               → ImageBitmap of patch column k; throws a Missing, or an AbortError
//   strip(sketch, left, right, ending)    → Blob of pixel columns left … right − 1 as "png", "jpg" or "webp"
//   note                                  promise of a text about how tiles are painted, for the header; may be empty
//
// Tiles come from a server (server_tiles.js), or are painted in a worker of a static page (browser_tiles.js).

export class Missing extends Error {
  // status: as in HTTP, 0 = no response; isFinal: retrying won't help; afterMs: earliest time to retry.
  constructor(message, { status = 0, isFinal = false, afterMs = 0 } = {}) {
    super(message);
    Object.assign(this, { status, isFinal, afterMs });
  }
}

export async function open(model) {
  const where = model.painter === "browser" ? await import("./browser_tiles.js") : await import("./server_tiles.js");
  return where.open(model);
}
