// A reader's picture as helpers.photos.decode returns it: the central square, resized as Pillow does (bicubic, with the
// filter widened where the picture is made smaller), 8 bits a channel, what is transparent on white.

export const MAX_BYTES = 20_000_000;
export const MAX_PIXELS = 89_478_485; // Pillow's limit, beyond which a small file may fill the memory

const STRIP = 2 ** 21; // pixels that are taken from the picture at once

/** The pixels (RGBA, size × size) of a picture file; an Error with a message for the reader where it is none. */
export async function decode(blob, size) {
  if (blob.size > MAX_BYTES) throw new Error(`The file has more than ${MAX_BYTES / 1e6} MB: make it smaller first.`);
  const [width, height] = dimensions(new Uint8Array(await blob.arrayBuffer()));
  if (!width || !height) throw new Error("The file is no picture that can be read: it says that it has no pixels.");
  if (width * height > MAX_PIXELS) {
    throw new Error(`The picture has ${Math.round((width * height) / 1e6)} million pixels: make it smaller first.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("The file is no picture that can be read: it is damaged, or of a kind that this browser does not know.");
  }
  try {
    return resize(bitmap, size);
  } finally {
    bitmap.close();
  }
}

/** Width and height, from the first bytes of the file, before a browser takes memory for its pixels. */
export function dimensions(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (start, length) => String.fromCharCode(...bytes.subarray(start, start + length));
  try {
    if (text(1, 3) === "PNG") return [view.getUint32(16), view.getUint32(20)];
    if (text(0, 4) === "GIF8") return [view.getUint16(6, true), view.getUint16(8, true)];
    if (text(0, 2) === "BM") return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
    if (text(0, 4) === "RIFF" && text(8, 4) === "WEBP") return webp(view, bytes, text(12, 4));
    if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpeg(view, bytes);
    if (text(4, 4) === "ftyp") {
      for (let place = 8; place < Math.min(bytes.length, 4096); place++) {
        if (text(place, 4) === "ispe") return [view.getUint32(place + 8), view.getUint32(place + 12)];
      }
    }
  } catch {
    throw new Error("The file is no picture that can be read: it ends too early.");
  }
  if (/<svg|<\?xml/.test(text(0, Math.min(bytes.length, 300)))) {
    throw new Error("The file is a drawing without pixels (SVG): save it as PNG first.");
  }
  throw new Error("The file is no picture that can be read: give a PNG, JPEG, WebP, GIF, BMP or AVIF.");
}

function webp(view, bytes, kind) {
  const three = (place) => bytes[place] + 256 * bytes[place + 1] + 65536 * bytes[place + 2];
  if (kind === "VP8X") return [1 + three(24), 1 + three(27)];
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
  }
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

function jpeg(view, bytes) {
  let place = 2;
  for (;;) {
    while (bytes[place] === 0xff && bytes[place + 1] === 0xff) place++; // padding
    const marker = view.getUint16(place) & 0xff;
    // The start of a frame, C0 to CF but for three that are something else
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return [view.getUint16(place + 7), view.getUint16(place + 5)];
    }
    place += 2 + view.getUint16(place + 2);
  }
}

function resize(bitmap, size) {
  const side = Math.min(bitmap.width, bitmap.height);
  const left = (bitmap.width - side) / 2, top = (bitmap.height - side) / 2; // may end in a half
  const across = taps(left, side, bitmap.width, size), down = taps(top, side, bitmap.height, size);
  const first = across[0].start, last = across[size - 1].start + across[size - 1].weights.length;
  const begin = down[0].start, end = down[size - 1].start + down[size - 1].weights.length;

  // First every row, strip by strip, then every column: Pillow's order, with its rounding between the two.
  const rows = new Uint8ClampedArray((end - begin) * size * 4);
  const height = Math.max(1, Math.min(end - begin, Math.floor(STRIP / (last - first))));
  const context = new OffscreenCanvas(last - first, height).getContext("2d", { willReadFrequently: true });
  for (let y = begin; y < end; y += height) {
    const count = Math.min(height, end - y);
    context.fillStyle = "white";
    context.fillRect(0, 0, last - first, height);
    context.drawImage(bitmap, -first, -y);
    const strip = context.getImageData(0, 0, last - first, count).data;
    for (let row = 0; row < count; row++) {
      const from = 4 * row * (last - first), to = 4 * (y - begin + row) * size;
      across.forEach((tap, x) => mix(strip, from + 4 * (tap.start - first), 4, tap.weights, rows, to + 4 * x));
    }
  }
  const pixels = new Uint8ClampedArray(size * size * 4);
  down.forEach((tap, y) => {
    for (let x = 0; x < size; x++) mix(rows, 4 * ((tap.start - begin) * size + x), 4 * size, tap.weights, pixels, 4 * (y * size + x));
  });
  return pixels;
}

const UNIT = 2 ** 22; // weights are whole numbers of this size, as in Pillow

function mix(source, place, step, weights, target, to) {
  let red = UNIT / 2, green = UNIT / 2, blue = UNIT / 2;
  for (let i = 0; i < weights.length; i++, place += step) {
    red += weights[i] * source[place];
    green += weights[i] * source[place + 1];
    blue += weights[i] * source[place + 2];
  }
  target[to] = Math.floor(red / UNIT); // clamped to 0 … 255
  target[to + 1] = Math.floor(green / UNIT);
  target[to + 2] = Math.floor(blue / UNIT);
  target[to + 3] = 255;
}

/** For each of `size` pixels where it looks in a line of `length` pixels, of which `side` from `offset` on count. */
function taps(offset, side, length, size) {
  const scale = side / size, wide = Math.max(scale, 1), support = 2 * wide;
  return Array.from({ length: size }, (_, pixel) => {
    const centre = offset + (pixel + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), length);
    const raw = Array.from({ length: end - start }, (_, i) => bicubic((start + i - centre + 0.5) / wide));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { start, weights: raw.map((value) => Math.trunc((value / sum) * UNIT + (value < 0 ? -0.5 : 0.5))) };
  });
}

function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}
