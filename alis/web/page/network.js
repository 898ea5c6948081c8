// Runs the exported graphs with onnxruntime-web in a worker: by WebGPU if available, else by WASM, with threads if the
// page's headers allow them.

const MOST_THREADS = 4;

async function file(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.arrayBuffer();
}

const floats = async (address) => new Float32Array(await file(address));

// {ort, providers, note}
async function runtime(model, wish) {
  const base = new URL("ort/", import.meta.url).href;
  if (wish !== "wasm" && model.network.webgpu && (await navigator.gpu?.requestAdapter())) {
    const ort = await import("./ort/ort.webgpu.min.mjs");
    ort.env.wasm.wasmPaths = base;
    ort.env.wasm.numThreads = 1;
    return { ort, providers: ["webgpu", "wasm"], note: "painted here by WebGPU" };
  }
  const ort = await import("./ort/ort.wasm.min.mjs");
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = threads;
  return { ort, providers: ["wasm"], note: `painted here by WASM${threads > 1 ? `, ${threads} threads` : ""}` };
}

export async function openNetwork(model, wish = "") {
  const { network } = model, [{ ort, providers, note }, graphs] = await Promise.all([
    runtime(model, wish), Promise.all([file("model/mapping.onnx"), file("model/tile.onnx")])]);
  // The mapping network is small and its precision matters: it always runs by WASM.
  const mapping = await ort.InferenceSession.create(graphs[0], { executionProviders: ["wasm"] });
  const tile = await ort.InferenceSession.create(graphs[1], { executionProviders: providers });
  const rows = async (name, size) => {
    const all = await floats(`model/${name}.f32`);
    return Array.from({ length: all.length / size }, (_, i) => all.slice(i * size, (i + 1) * size));
  };
  const saved = new Map();
  for (const [name, size] of network.codes) saved.set(name, await floats(`model/code-${name}.f32`).then((w) => w.slice(0, size)));
  return {
    note,
    mean: await floats("model/mean.f32"),
    centres: model.num_clusters ? await rows("centres", network.w_dim) : [],
    quantiles: network.latents.length ? await floats("model/quantiles.f32") : null,
    saved,
    stored: () => Promise.all(network.noise.map((it) => floats(`model/stored-${it.stream}.f32`))),
    map: async (z, count) => {
      const { w } = await mapping.run({ z: new ort.Tensor("float32", z, [count, network.z_dim]) });
      return w.data.slice();
    },
    // feed: name → [type, values, sizes]
    paint: async (feed) => {
      const tensors = Object.fromEntries(Object.entries(feed).map(([name, it]) => [name, new ort.Tensor(...it)]));
      return (await tile.run(tensors)).tile.data; // [3, R, R/g]
    },
  };
}
