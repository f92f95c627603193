// The picture that carries its own number (see encoder.mjs), and the ear for a tone: what parties in pages and in Node
// share.

export const COLUMNS = 20;

/** Reads the two rows of columns out of luma samples; null for a picture that is not ours or damaged. */
export function readCode(luma) {
  let [n, id] = [0, 0];
  for (let column = 0; column < COLUMNS; column++) {
    const bit = luma(column, 0) > 128;
    if (bit === luma(column, 1) > 128) return null;
    if (bit) column < 16 ? (n |= 1 << column) : (id |= 1 << (column - 16));
  }
  return { n, id };
}

/** Draws picture `n` of source `id` with `box(x, y, width, height, luma)`. */
export function draw({ n, id, width, height }, box) {
  const [column, row] = [width / COLUMNS, Math.round(height / 22.5) * 2];
  box(0, 2 * row, width, height - 2 * row, 60 + (n % 120));
  box((n * 4) % (width - 40), height / 2, 40, 40, 200);
  for (let at = 0; at < COLUMNS; at++) {
    const bit = at < 16 ? (n >> at) & 1 : (id >> (at - 16)) & 1;
    box(at * column, 0, column, row, bit ? 235 : 16);
    box(at * column, row, column, row, bit ? 16 : 235);
  }
}

/** The loudest frequency below 1500 Hz, in hertz, and how loud it is. */
export function loudest(samples, rate) {
  let best = { hertz: 0, power: 0 };
  for (let hertz = 60; hertz < 1500; hertz += 4) {
    const k = 2 * Math.cos((2 * Math.PI * hertz) / rate);
    let [s1, s2] = [0, 0];
    for (const sample of samples) [s1, s2] = [sample + k * s1 - s2, s1];
    const power = s1 * s1 + s2 * s2 - k * s1 * s2;
    if (power > best.power) best = { hertz, power };
  }
  return { hertz: best.hertz, decibel: 10 * Math.log10((4 * best.power) / samples.length ** 2 + 1e-12) };
}
