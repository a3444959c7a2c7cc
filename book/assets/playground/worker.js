// The network, in a thread of its own: the page stays awake while it computes. It answers messages {id, task, …} with
// {id, result} or {id, error}, and says how far it is with {id, progress}. The graphs are those of tools/export_onnx.py.

import * as ort from "./ort/ort.wasm.min.mjs";
import { decode } from "./picture.js";
import { normal } from "./random.js";

const RUNTIME = "ort/ort-wasm-simd-threaded.wasm";
const SAMPLES = 25, NOISE = 0.15; // of SmoothGrad, as in helpers.saliency

let manifest; // what there is to load
let network; // {name, sessions, weights, neighbours}
let image; // Float32Array (3, size, size) in [0, 1]
let latest = 0; // number of the explanation that the page waits for

const tasks = { begin, open, picture, cover, explain, nearest };

onmessage = async ({ data: { id, task, ...rest } }) => {
  try {
    const say = (progress) => postMessage({ id, progress });
    postMessage({ id, result: await tasks[task](rest, say) });
  } catch (error) {
    postMessage({ id, error: error.message ?? String(error) });
  }
};

// ------------------------------------------------------------------------------------------------------------ files

async function begin({ sha256 }) {
  const response = await fetch(new URL("manifest.json", import.meta.url));
  if (!response.ok) throw new Error("The list of files could not be loaded.");
  const data = await response.arrayBuffer();
  await check("manifest.json", data, sha256);
  manifest = JSON.parse(new TextDecoder().decode(data));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
  return manifest;
}

/** The bytes of a file of the manifest: from the browser's cache, else from the site; checked in either case. */
async function load(name, say) {
  const { sha256 } = manifest.files[name];
  const address = new URL(`${name}?${sha256.slice(0, 12)}`, import.meta.url).href; // another version, another address
  const cache = await caches?.open("playground").catch(() => null); // none in a private window
  const kept = await cache?.match(address);
  let data;
  if (kept) {
    data = await kept.arrayBuffer();
  } else {
    const response = await fetch(address).catch(() => null);
    if (!response?.ok) throw new Error(`${name} could not be loaded: is the network there?`);
    const parts = [];
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      say?.(value.length);
    }
    data = await new Blob(parts).arrayBuffer();
  }
  try {
    await check(name, data, sha256);
  } catch (error) {
    await cache?.delete(address);
    throw error;
  }
  if (kept) say?.(data.byteLength);
  else await cache?.put(address, new Response(data)).catch(() => {}); // no room: it will be loaded again
  return new Uint8Array(data);
}

async function check(name, data, sha256) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new Error(`${name} is not the file that this page was built with: load the page again.`);
}

/** Forget what earlier versions of the site have left in the cache. */
async function tidy() {
  const cache = await caches?.open("playground").catch(() => null);
  for (const request of (await cache?.keys()) ?? []) {
    const { pathname, search } = new URL(request.url);
    const name = Object.keys(manifest.files).find((file) => pathname.endsWith(`/${file}`));
    if (!name || search !== `?${manifest.files[name].sha256.slice(0, 12)}`) await cache.delete(request);
  }
}

async function open({ name }, say) {
  let loaded = 0;
  const more = (bytes) => say((loaded += bytes));
  ort.env.wasm.wasmBinary ??= await load(RUNTIME, more);
  const [graph, weights] = [await load(`${name}/forward.onnx`, more), await load(`${name}/weights.bin`, more)];
  const forward = await session(graph, weights);
  for (const old of Object.values(network?.sessions ?? {})) await old.release();
  network = { name, weights, sessions: { forward } };
  tidy();
}

const session = (graph, weights) =>
  ort.InferenceSession.create(graph, { executionProviders: ["wasm"], externalData: [{ path: "weights.bin", data: weights }] });

/** A graph of the present network; the backward ones come when they are first asked for. */
async function graph(name) {
  const of = network;
  of.sessions[name] ??= await session(await load(`${of.name}/${name}.onnx`), of.weights);
  return of.sessions[name];
}

// ---------------------------------------------------------------------------------------------------------- running

let turn = Promise.resolve(); // a session runs one thing at a time

/** The outputs of a graph, from their names to {data, dims}. */
function run(name, pixels, target, outputs) {
  const next = turn.then(async () => {
    const { size, networks } = manifest, inputs = { image: new ort.Tensor("float32", pixels, [1, 3, size, size]) };
    if (target !== undefined) {
      const chosen = new Float32Array(networks[network.name].categories.length);
      chosen[target] = 1;
      inputs.class = new ort.Tensor("float32", chosen, [1, chosen.length]);
    }
    return (await graph(name)).run(inputs, outputs);
  });
  turn = next.catch(() => {});
  return next;
}

function softmax(logits) {
  const top = logits.reduce((a, b) => Math.max(a, b)), parts = Float64Array.from(logits, (value) => Math.exp(value - top));
  const sum = parts.reduce((a, b) => a + b);
  return parts.map((part) => part / sum);
}

const probabilities = async (pixels) => softmax((await run("forward", pixels, undefined, ["logits"])).logits.data);

/** Take a picture, or the present one again where there is no blob, and say what the network sees in it. */
async function picture({ blob }) {
  const { size } = manifest, count = size * size;
  let pixels;
  if (blob) {
    pixels = await decode(blob, size);
    latest++; // what runs for the last picture is of no more use
    image = new Float32Array(3 * count);
    for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) image[c * count + i] = Math.fround(pixels[4 * i + c] / 255);
  }
  return { pixels, probabilities: await probabilities(image) };
}

/** `image` with a grey square, clipped at the border. */
function covered(left, top, window) {
  const { size } = manifest, pixels = image.slice();
  for (let c = 0; c < 3; c++) {
    for (let y = Math.max(top, 0); y < Math.min(top + window, size); y++) {
      const row = (c * size + y) * size;
      pixels.fill(0.5, row + Math.max(left, 0), row + Math.min(left + window, size));
    }
  }
  return pixels;
}

function cover({ left, top, window }) {
  return probabilities(covered(left, top, window));
}

// ----------------------------------------------------------------------------------------------------- explanations

const methods = {
  async occlusion({ target, window }, say) {
    const { size } = manifest, stride = window / 2, places = Math.ceil((size - window) / stride) + 1;
    const whole = (await probabilities(image))[target];
    const total = new Float64Array(size * size), count = new Float64Array(size * size), values = new Float32Array(size * size);
    for (let position = 0; position < places * places; position++) {
      const top = stride * Math.floor(position / places), left = stride * (position % places);
      const drop = whole - (await probabilities(covered(left, top, window)))[target];
      for (let y = top; y < Math.min(top + window, size); y++) {
        for (let x = left; x < Math.min(left + window, size); x++) {
          total[y * size + x] += drop;
          count[y * size + x]++;
        }
      }
      for (let i = 0; i < values.length; i++) values[i] = count[i] ? total[i] / count[i] : 0;
      await say((position + 1) / (places * places), { values, height: size, width: size });
    }
    return { values, height: size, width: size };
  },
  async cam({ target }) {
    return enlarged((await run("backward", image, target, ["cam"])).cam);
  },
  async gradcam({ target, stage }) {
    return enlarged((await run("backward", image, target, [stage]))[stage]);
  },
  async gradient({ target }) {
    return strongest((await run("backward", image, target, ["gradient"])).gradient.data);
  },
  async smoothgrad({ target }, say) {
    const noise = normal(0), jitter = new Float32Array(image.length), total = new Float32Array(image.length);
    let low = Infinity, high = -Infinity;
    for (const value of image) [low, high] = [Math.min(low, value), Math.max(high, value)];
    for (let sample = 0; sample < SAMPLES; sample++) {
      noise(jitter);
      const noisy = image.map((value, i) => value + NOISE * (high - low) * jitter[i]);
      const { data } = (await run("backward", noisy, target, ["gradient"])).gradient;
      data.forEach((value, i) => (total[i] += value / SAMPLES));
      await say((sample + 1) / SAMPLES);
    }
    return strongest(total);
  },
  async guided({ target }) {
    const { size } = manifest;
    return { values: (await run("guided", image, target)).gradient.data, height: size, width: size };
  },
  async guidedgradcam({ target, stage }) {
    const positive = await methods.guided({ target }), { values: where } = await methods.gradcam({ target, stage });
    return { ...positive, values: positive.values.map((value, i) => value * where[i % where.length]) };
  },
  async activations({ stage, channel }) {
    const { data, dims } = (await run("forward", image, undefined, [stage]))[stage];
    const [, , height, width] = dims, length = height * width;
    return { values: data.slice(channel * length, (channel + 1) * length), height, width };
  },
};

/** A map {values, height, width}: one value for each pixel, or three (colours, one after the other). */
async function explain({ method, ...options }, say) {
  const number = ++latest;
  const breathe = async (share, map) => {
    say({ share, map });
    await new Promise((resume) => setTimeout(resume)); // let messages in
    if (number !== latest) throw new Error("superseded");
  };
  return methods[method](options, breathe);
}

/** The largest absolute value over the three colours. */
function strongest(pixels) {
  const { size } = manifest, count = size * size, values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = Math.max(...[0, 1, 2].map((c) => Math.abs(pixels[c * count + i])));
  return { values, height: size, width: size };
}

/** A map (1, h, w) at the size of the image, bilinear, as torch's interpolate with align_corners=False. */
function enlarged({ data, dims: [, height, width] }) {
  const { size } = manifest, values = new Float32Array(size * size);
  const line = (length) =>
    Array.from({ length: size }, (_, i) => {
      const place = Math.max(((i + 0.5) * length) / size - 0.5, 0), first = Math.floor(place);
      return [first, Math.min(first + 1, length - 1), place - first];
    });
  const across = line(width);
  line(height).forEach(([above, below, down], y) =>
    across.forEach(([left, right, over], x) => {
      const row = (at) => data[at * width + left] * (1 - over) + data[at * width + right] * over;
      values[y * size + x] = row(above) * (1 - down) + row(below) * down;
    }),
  );
  return { values, height: size, width: size };
}

// -------------------------------------------------------------------------------------------------------- neighbours

/** The five photographs of the embedded set whose features are most similar, and their cosine similarities. */
async function nearest() {
  network.neighbours ??= halves(await load(`${network.name}/neighbours.bin`));
  const { data } = (await run("forward", image, undefined, ["features"])).features;
  const length = Math.hypot(...data), { neighbours } = network, found = [];
  for (let start = 0; start < neighbours.length; start += data.length) {
    let sum = 0;
    for (let i = 0; i < data.length; i++) sum += neighbours[start + i] * data[i];
    found.push({ index: start / data.length, similarity: sum / length });
  }
  return found.sort((a, b) => b.similarity - a.similarity).slice(0, 5);
}

/** Numbers in half precision as Float32Array. */
function halves(bytes) {
  const parts = new Uint16Array(bytes.buffer);
  return Float32Array.from(parts, (bits) => {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}
