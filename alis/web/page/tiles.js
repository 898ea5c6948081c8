// Where tiles come from. The page knows this much of it and no more:
//
//   tile(sketch, k, signal)               → ImageBitmap of patch column k; throws a Missing, or an AbortError
//   strip(sketch, left, right, ending)    → Blob of pixel columns left … right − 1 as "png", "jpg" or "webp"
//   note                                  promise of a word about how it paints, for the brand line; may be empty
//
// A server's tiles come by address (server_tiles.js); a page without one paints in a worker (browser_tiles.js).

export class Missing extends Error {
  // status as in HTTP, 0 = nobody answered; isFinal: asking again won't help; afterMs: when to ask again, at the earliest.
  constructor(message, { status = 0, isFinal = false, afterMs = 0 } = {}) {
    super(message);
    Object.assign(this, { status, isFinal, afterMs });
  }
}

export async function open(model) {
  const where = model.painter === "browser" ? await import("./browser_tiles.js") : await import("./server_tiles.js");
  return where.open(model);
}
