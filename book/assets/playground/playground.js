// The playground's page: what the reader chooses goes to worker.js, what comes back is drawn and said.

const root = document.querySelector(".playground");
const find = (selector) => root.querySelector(selector);
const all = (selector) => [...root.querySelectorAll(selector)];
const begin = find(".playground-begin"), fault = find(".playground-fault"), says = find(".demo-says");
const pad = find(".demo-pad"), photograph = find(".playground-photograph"), map = find(".playground-map");
const classes = find(".playground-class"), stages = find(".playground-layer"), channel = find(".playground-channel");

// What each method can be told, and how its map is drawn: over the photograph, alone, or in the colours of the pixels
const METHODS = {
  cam: { options: ["class"], drawn: over },
  gradcam: { options: ["class", "stage"], drawn: over },
  occlusion: { options: ["class"], drawn: over },
  gradient: { options: ["class"], drawn: alone },
  smoothgrad: { options: ["class"], drawn: alone },
  guided: { options: ["class"], drawn: coloured },
  guidedgradcam: { options: ["class", "stage"], drawn: coloured },
  activations: { options: ["stage", "channel"], drawn: alone },
  similar: { options: [] },
};

let manifest, size;
let pixels; // of the present picture, RGBA
let title; // what it shows
let whole; // the probabilities for all of it
let best = []; // its five most probable classes
let square; // [left, top] of the grey square, or undefined
let wanted = 0; // number of the explanation that was asked for last

// ------------------------------------------------------------------------------------------------------- the worker

let worker;
const open = new Map(); // questions without an answer
let questions = 0;

function ask(task, details = {}, progress = () => {}) {
  return new Promise((resolve, reject) => {
    open.set(++questions, { resolve, reject, progress });
    worker.postMessage({ id: questions, task, ...details });
  });
}

function hear({ data: { id, result, error, progress } }) {
  const question = open.get(id);
  if (progress !== undefined) return question.progress(progress);
  open.delete(id);
  error === undefined ? question.resolve(result) : question.reject(new Error(error));
}

const complain = (error) => {
  if (error.message !== "superseded") fault.textContent = error.message;
};

// ------------------------------------------------------------------------------------------------------------- start

const missing = {
  "The playground needs an address that begins with https:// (or localhost).": !window.isSecureContext,
  "This browser is too old for the playground: it needs WebAssembly and OffscreenCanvas.": !window.WebAssembly || !window.OffscreenCanvas,
};
fault.textContent = Object.keys(missing).find((reason) => missing[reason]) ?? "";
begin.disabled = fault.textContent !== "";
find(".playground-stuck").hidden = true;
begin.addEventListener("click", start);

async function start() {
  begin.disabled = true;
  fault.textContent = "";
  try {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = hear;
    worker.onerror = () => complain(new Error("The script that runs the network could not be loaded."));
    manifest = await ask("begin", { sha256: root.dataset.manifest });
    size = manifest.size;
    await use(find(".playground-network").value);
    find(".playground-start").hidden = true;
    find(".playground-all").disabled = false;
    root.dataset.ready = "";
    await choose();
    find("[name=playground-picture]:checked")?.focus(); // the button that had the focus is gone
  } catch (error) {
    begin.disabled = false;
    complain(error);
  }
}

async function use(name) {
  const bar = find(".playground-loading");
  const needed = ["ort/ort-wasm-simd-threaded.wasm", `${name}/forward.onnx`, `${name}/weights.bin`];
  bar.max = needed.reduce((sum, file) => sum + manifest.files[file].bytes, 0);
  bar.hidden = false;
  try {
    await ask("open", { name }, (bytes) => (bar.value = bytes));
  } finally {
    bar.hidden = true;
  }
  const network = manifest.networks[name];
  fill(stages, Object.entries(network.stages).map(([stage, [channels, height, width]]) => [stage, `${stage}: ${channels} maps of ${height} × ${width}`]));
  stages.selectedIndex = stages.options.length - 1;
  limit();
}

const network = () => manifest.networks[find(".playground-network").value];
const label = (index) => network().categories[index];
const chance = (value) => (value < 0.005 ? "< 0.01" : value.toFixed(2));

function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

function limit() {
  const [channels] = network().stages[stages.value];
  channel.max = channels - 1;
  channel.value = Math.min(channel.value, channels - 1);
  channel.previousElementSibling.textContent = `Channel (0 to ${channels - 1})`;
}

// ----------------------------------------------------------------------------------------------------------- pictures

/** Take the chosen photograph of the book. */
async function choose() {
  const name = find("[name=playground-picture]:checked").value;
  const response = await fetch(new URL(`photographs/${name}.png`, import.meta.url)).catch(() => null);
  if (!response?.ok) return complain(new Error("The photograph could not be loaded."));
  await take(await response.blob(), manifest.photographs[name]);
}

/** Take a picture of the reader's. */
async function own(blob, what) {
  if (!blob) return;
  if (await take(blob, what)) all("[name=playground-picture]").forEach((input) => (input.checked = false));
}

let pictures = 0;

async function take(blob, what) {
  const number = ++pictures;
  fault.textContent = "";
  try {
    const seen = await ask("picture", { blob });
    if (number !== pictures) return false; // another one has been chosen since
    ({ pixels } = seen);
    title = what;
    square = undefined;
    answer(seen.probabilities);
    await explain();
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

/** Show what the network says to all of the picture. */
function answer(probabilities) {
  whole = probabilities;
  best = Array.from(whole.keys()).sort((a, b) => whole[b] - whole[a]).slice(0, 5);
  const group = (name, indices) => {
    const part = document.createElement("optgroup");
    part.label = name;
    part.append(...indices.map((index) => new Option(label(index), index)));
    return part;
  };
  const rest = Array.from(whole.keys()).sort((a, b) => label(a).localeCompare(label(b)));
  classes.replaceChildren(group("The five most probable", best), group("All, by name", rest));
  find("tbody").replaceChildren(
    ...best.map((index) => {
      const row = document.createElement("tr");
      row.innerHTML = '<th scope="row"></th><td class="demo-bar"></td><td></td>';
      row.children[0].textContent = label(index);
      return row;
    }),
  );
  show(whole);
  paint();
}

/** Bars for `probabilities`; a mark where they were for all of the picture. */
function show(probabilities) {
  all("tbody tr").forEach((row, i) => {
    const [, bar, number] = row.children;
    bar.style.setProperty("--share", probabilities[best[i]]);
    bar.style.setProperty("--mark", whole[best[i]]);
    number.textContent = chance(probabilities[best[i]]);
  });
}

function paint() {
  const context = photograph.getContext("2d");
  context.putImageData(new ImageData(pixels.slice(), size), 0, 0);
  photograph.setAttribute("aria-label", `${title}${square ? ", a part of it covered with grey" : ""}`);
  if (!square) return;
  context.fillStyle = "rgb(128 128 128)";
  context.fillRect(...square, side(), side());
}

// -------------------------------------------------------------------------------------------------- covering a part

const side = () => Number(find(".playground-window").value);

let covering = false, again = false;

async function cover() {
  paint();
  const [left, top] = square ?? [];
  const across = square ? Math.round((100 * (left + side() / 2)) / size) : 0;
  pad.setAttribute("aria-valuenow", across);
  const place = square ? `square ${across} % from the left, ${Math.round((100 * (top + side() / 2)) / size)} % from the top` : "nothing is covered";
  pad.setAttribute("aria-valuetext", place);
  if (covering) return void (again = true); // the last place counts
  covering = true;
  try {
    do {
      again = false;
      const probabilities = square ? await ask("cover", { left: square[0], top: square[1], window: side() }) : whole;
      show(probabilities);
      const index = Number(classes.value);
      says.textContent = square
        ? `With the ${pad.getAttribute("aria-valuetext")}: ${label(index)} ${chance(probabilities[index])} (uncovered ${chance(whole[index])}).`
        : `Nothing is covered: ${label(index)} ${chance(whole[index])}.`;
    } while (again);
  } catch (error) {
    complain(error);
  } finally {
    covering = false;
  }
}

function move(left, top) {
  const limit = (value) => Math.max(0, Math.min(size - side(), Math.round(value)));
  square = [limit(left), limit(top)];
  cover();
}

for (const name of ["pointerdown", "pointermove"]) {
  pad.addEventListener(name, (event) => {
    if (!pixels || (name === "pointermove" && !event.buttons)) return;
    const box = pad.getBoundingClientRect();
    if (name === "pointerdown") pad.setPointerCapture(event.pointerId);
    move(((event.clientX - box.left) / box.width) * size - side() / 2, ((event.clientY - box.top) / box.height) * size - side() / 2);
  });
}
pad.addEventListener("keydown", (event) => {
  if (!pixels) return;
  if (event.key === "Escape" && square) {
    square = undefined;
    return void cover();
  }
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  if (!way) return;
  event.preventDefault();
  const step = event.shiftKey ? side() : 8, [left, top] = square ?? [(size - side()) / 2, (size - side()) / 2];
  square ? move(left + step * way[0], top + step * way[1]) : move(left, top);
});
find(".playground-window").addEventListener("change", () => {
  if (square) move(...square);
  if (method() === "occlusion") explain();
});

// ------------------------------------------------------------------------------------------------------ explanations

const method = () => find("[name=playground-method]:checked").value;

/** Show the options of the chosen method alone. */
function chosen() {
  all(".playground-option").forEach((one) => (one.hidden = !METHODS[method()].options.includes(one.dataset.for)));
}

async function explain() {
  if (!pixels) return;
  const number = ++wanted, name = method(), { options, drawn } = METHODS[name], bar = find(".playground-working");
  const words = find(`#try-${name}`).textContent, target = Number(classes.value);
  const about = [words];
  if (options.includes("stage")) about.push(options.includes("channel") ? `${stages.value}, channel ${channel.value}` : stages.value);
  if (options.includes("class")) about.push(`for ${label(target)} (probability ${chance(whole[target])})`);
  find(".playground-similar").hidden = name !== "similar";
  map.hidden = name === "similar";
  const progress = ({ share, map: part }) => {
    if (number !== wanted) return;
    bar.hidden = false;
    bar.value = share;
    if (part) drawn(part);
  };
  try {
    if (name === "similar") return await similar(number);
    const found = await ask("explain", { method: name, target, stage: stages.value, channel: Number(channel.value), window: side() }, progress);
    if (number !== wanted) return;
    drawn(found);
    const heading = capital(about.join(", ").replace(", for", " for"));
    map.setAttribute("aria-label", `${heading}, of ${title}`);
    says.textContent = `${heading}: ${where(found)}.`;
  } catch (error) {
    if (number === wanted) complain(error);
  } finally {
    if (number === wanted) bar.hidden = true;
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

async function similar(number) {
  const found = await ask("nearest");
  if (number !== wanted) return;
  find(".playground-similar").replaceChildren(
    ...found.map(({ index, similarity }) => {
      const item = document.createElement("li"), picture = new Image(160, 160);
      picture.src = new URL(`groceries/${index}.webp`, import.meta.url);
      picture.alt = "";
      item.append(picture, `${manifest.groceries[index]}, ${similarity.toFixed(2)}`);
      return item;
    }),
  );
  find(".playground-scale").textContent = "The five nearest of 730 photographs of groceries, by the cosine similarity of their features.";
  says.textContent = `Similar photographs: ${found.map(({ index, similarity }) => `${manifest.groceries[index]} ${similarity.toFixed(2)}`).join(", ")}.`;
}

/** In words, where a map is strongest. */
function where({ values, height, width }) {
  const count = height * width;
  let place = 0, top = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values.length > count ? Math.abs(values[i]) : values[i];
    if (value > top) [top, place] = [value, i % count];
  }
  if (top <= 0) return values.length > count ? "it is zero everywhere" : "nothing in the picture speaks for it";
  const third = (value, length, names) => names[Math.min(2, Math.floor((3 * value) / length))];
  const row = third(Math.floor(place / width), height, ["upper", "middle", "lower"]), column = third(place % width, width, ["left", "middle", "right"]);
  if (row === column) return "strongest in the middle";
  if (row === "middle") return `strongest on the ${column}`;
  return column === "middle" ? `strongest in the ${row} middle` : `strongest at the ${row} ${column}`;
}

// ----------------------------------------------------------------------------------------------------------- drawing

function put(height, width, colour, caption) {
  const picture = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) picture.data.set(colour(i), 4 * i);
  [map.width, map.height] = [width, height];
  map.classList.toggle("playground-coarse", width < size / 2); // one square for each unit
  map.getContext("2d").putImageData(picture, 0, 0);
  find(".playground-scale").textContent = caption;
}

const shade = (share) => {
  const place = 3 * Math.round(255 * Math.max(0, Math.min(1, share)));
  return manifest.colours.heat.slice(place, place + 3);
};

/** What is positive, over the pale photograph: the stronger, the more of it is seen (as helpers.figures.draw). */
function over({ values, height, width }) {
  const top = Math.max(values.reduce((a, b) => Math.max(a, b), 0), 1e-12);
  put(height, width, (i) => {
    const share = Math.max(values[i], 0) / top, alpha = 0.15 + 0.6 * share, heat = shade(share);
    const grey = (pixels[4 * i] + pixels[4 * i + 1] + pixels[4 * i + 2]) / 3;
    return [0, 1, 2].map((c) => alpha * heat[c] + (1 - alpha) * (0.75 * grey + 0.25 * pixels[4 * i + c])).concat(255);
  }, "What speaks for the class, over the picture in grey.");
}

function quantile(values, share) {
  return Math.max(Float32Array.from(values, Math.abs).sort()[Math.floor(share * (values.length - 1))], 1e-12);
}

/** 2 × 2 pixels averaged: less grain. */
function halved({ values, height, width }) {
  const half = new Float32Array(values.length / 4);
  for (let i = 0; i < half.length; i++) {
    const place = 2 * width * Math.floor((2 * i) / width) + ((2 * i) % width);
    half[i] = (values[place] + values[place + 1] + values[place + width] + values[place + width + 1]) / 4;
  }
  return { values: half, height: height / 2, width: width / 2 };
}

function alone(found) {
  const fine = found.width === size, { values, height, width } = fine ? halved(found) : found;
  const top = fine ? quantile(values, 0.99) : Math.max(values.reduce((a, b) => Math.max(a, b)), 1e-12);
  put(height, width, (i) => [...shade(values[i] / top), 255], fine ? "The brighter, the more a change of the pixel changes the class's logit." : "The brighter, the more the unit at this place is active.");
}

function coloured(found) {
  const { values, height, width } = halved(found), count = height * width, top = quantile(values, 0.99);
  put(height, width, (i) => [0, 1, 2].map((c) => 127.5 * (1 + Math.max(-1, Math.min(1, values[c * count + i] / top)))).concat(255), "Grey: zero. Lighter and darker: positive and negative, for each colour.");
}

// ---------------------------------------------------------------------------------------------------------- controls

all("[name=playground-picture]").forEach((input) => input.addEventListener("change", choose));
all("[name=playground-method]").forEach((input) =>
  input.addEventListener("change", () => {
    chosen();
    explain();
  }),
);
for (const control of [classes, channel]) control.addEventListener("change", () => control.reportValidity() && explain());
stages.addEventListener("change", () => {
  limit();
  explain();
});
find(".playground-network").addEventListener("change", async () => {
  fault.textContent = "";
  find(".playground-all").disabled = true;
  try {
    wanted++;
    await use(find(".playground-network").value);
    square = undefined;
    answer((await ask("picture")).probabilities);
    await explain();
  } catch (error) {
    complain(error);
  } finally {
    find(".playground-all").disabled = false;
    find(".playground-network").focus();
  }
});

find(".playground-file").addEventListener("change", ({ target }) => {
  own(target.files[0], "your picture");
  target.value = ""; // the same file may be chosen again
});
root.addEventListener("dragover", (event) => event.preventDefault());
root.addEventListener("drop", (event) => {
  event.preventDefault();
  if (manifest) own(event.dataTransfer.files[0], "your picture");
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (manifest && file) own(file, "the pasted picture");
});
find(".playground-paste").addEventListener("click", async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((one) => one.startsWith("image/"));
      if (type) return own(await item.getType(type), "the pasted picture");
    }
    complain(new Error("There is no picture in the clipboard."));
  } catch {
    complain(new Error("The browser does not let this button read the clipboard: press Ctrl+V instead."));
  }
});

// The camera: its picture is taken here and goes nowhere else
const live = find(".playground-live"), video = find("video");
find(".playground-camera").hidden = !navigator.mediaDevices?.getUserMedia;
find(".playground-camera").addEventListener("click", async () => {
  fault.textContent = "";
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    live.hidden = false;
    await video.play();
    find(".playground-take").focus();
  } catch {
    complain(new Error("There is no camera, or the browser was not allowed to use it."));
  }
});
find(".playground-take").addEventListener("click", async () => {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  close();
  own(await canvas.convertToBlob(), "the camera's picture");
});
find(".playground-close").addEventListener("click", close);

function close() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  live.hidden = true;
  find(".playground-camera").focus();
}

// playground.html#try-occlusion: with this method
function follow() {
  const input = document.getElementById(location.hash.slice(1))?.querySelector("[name=playground-method]");
  if (!input) return;
  input.checked = true;
  chosen();
  if (pixels) explain();
}
window.addEventListener("hashchange", follow);
follow();
chosen();
