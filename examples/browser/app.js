// Draws images with a generator in the browser. The address may have these parameters:
//   ?model=FILE    another file of a generator; without it digits.onnx
//   ?seed=NUMBER   the seed of the first batch; each later batch takes the next number
//   ?record        the drawn grid also stands in the page, as a PNG, for tests

import * as ort from "./ort/ort.wasm.bundle.min.mjs";

const [COLUMNS, ROWS] = [10, 6];
const COUNT = COLUMNS * ROWS;
const GAP = 2; // pixels between images
const CLASSES = 10; // of a class-conditional generator: a column each
const LOWEST = -1; // range of the outputs of the generator: a tanh
const HIGHEST = 1;

const settings = new URLSearchParams(location.search);
const byId = (id) => document.getElementById(id);

// --- random numbers -------------------------------------------------------------------------------

// Mulberry32: numbers in [0, 1) from a seed. The same seed gives the same images everywhere.
function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Box-Muller: numbers with a standard normal distribution.
function latents(count, seed) {
  const draw = uniform(seed);
  return Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - draw()));
    return radius * Math.cos(2 * Math.PI * draw());
  });
}

// --- the network ----------------------------------------------------------------------------------

async function load(path) {
  // More threads need headers that a plain static server does not send.
  ort.env.wasm.numThreads = 1;
  const answer = await fetch(path);
  if (!answer.ok) {
    throw new Error(`${path} is not beside this page. Export a generator, as README.md says.`);
  }
  const bytes = new Uint8Array(await answer.arrayBuffer());
  return { session: await ort.InferenceSession.create(bytes), size: bytes.length };
}

// Returns the input for latent vectors, its length, and the input for class numbers, if there is one.
function inputsOf(session) {
  const inputs = session.inputMetadata;
  const vectors = inputs.filter((each) => each.type === "float32" && each.shape.length === 2);
  const labels = inputs.filter((each) => each.type === "int32" && each.shape.length === 1);
  if (vectors.length !== 1 || labels.length > 1 || inputs.length > 1 + labels.length) {
    const names = inputs.map((each) => each.name).join(", ");
    throw new Error(`This page draws from latent vectors and class numbers only. Inputs: ${names}.`);
  }
  return { vectors: vectors[0].name, length: vectors[0].shape[1], labels: labels[0]?.name };
}

function feeds(inputs, seed, chosen) {
  const values = latents(COUNT * inputs.length, seed);
  const found = { [inputs.vectors]: new ort.Tensor("float32", values, [COUNT, inputs.length]) };
  if (inputs.labels) {
    const label = (n) => (chosen === "" ? n % CLASSES : Number(chosen));
    const labels = Int32Array.from({ length: COUNT }, (_, n) => label(n));
    found[inputs.labels] = new ort.Tensor("int32", labels, [COUNT]);
  }
  return found;
}

// --- the picture ----------------------------------------------------------------------------------

function show(canvas, images) {
  const [, height, width, depth] = images.dims;
  canvas.width = COLUMNS * (width + GAP) - GAP;
  canvas.height = ROWS * (height + GAP) - GAP;
  canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  const context = canvas.getContext("2d");
  // ImageData rounds to whole numbers from 0 to 255.
  const level = (value) => (255 * (value - LOWEST)) / (HIGHEST - LOWEST);
  for (let n = 0; n < COUNT; n++) {
    const picture = context.createImageData(width, height);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const start = (n * width * height + pixel) * depth;
      for (let colour = 0; colour < 3; colour++) {
        picture.data[4 * pixel + colour] = level(images.data[start + (colour % depth)]);
      }
      picture.data[4 * pixel + 3] = 255;
    }
    const [x, y] = [n % COLUMNS, Math.floor(n / COLUMNS)];
    context.putImageData(picture, x * (width + GAP), y * (height + GAP));
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

// --- the page -------------------------------------------------------------------------------------

async function start() {
  const { session, size } = await load(settings.get("model") ?? "digits.onnx");
  const inputs = inputsOf(session);
  const times = [];
  let seed = Number(settings.get("seed") ?? Math.floor(Math.random() * 1e6));

  async function draw() {
    const batch = feeds(inputs, seed, byId("class").value);
    const begin = performance.now();
    const images = Object.values(await session.run(batch))[0];
    times.push(performance.now() - begin);
    show(byId("digits"), images);
    byId("images").textContent = COUNT;
    byId("time").textContent = `${times.at(-1).toFixed(1)} ms`;
    byId("batches").textContent = times.length === 1 ? "1 batch" : `${times.length} batches`;
    byId("median").textContent = `${median(times).toFixed(1)} ms`;
    byId("bytes").textContent = `${Math.round(size / 1000).toLocaleString()} kB`;
    byId("seed").textContent = seed;
    if (settings.has("record")) {
      document.body.dataset.png = byId("digits").toDataURL();
    }
    seed += 1;
  }

  await session.run(feeds(inputs, seed, "")); // the first call also sets the runtime up
  for (let n = 0; inputs.labels && n < CLASSES; n++) {
    byId("class").append(new Option(n, n));
  }
  byId("class-field").hidden = !inputs.labels;
  await draw();
  byId("status").textContent = "";
  byId("facts").hidden = false;
  const button = document.querySelector("button");
  button.disabled = false;
  byId("controls").addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true; // a session runs one batch at a time
    await draw().catch(fail);
    button.disabled = false;
  });
}

function fail(error) {
  byId("status").textContent = error.message;
  byId("status").className = "error";
  byId("digits").hidden = byId("controls").hidden = true;
}

start().catch(fail);
