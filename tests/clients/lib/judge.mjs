// What makes a stream good, as assertions on what a viewer wrote down.

import assert from "node:assert/strict";

import { FPS, TONE } from "./encoder.mjs";

/** The pictures a viewer saw from `warmup` ms after its first one on, of source `id`. */
export function settled(report, { warmup = 2000, id } = {}) {
  return report.frames.filter((frame) => frame.at >= report.first + warmup && (id === undefined || frame.id === id));
}

/**
 * Its pictures' timestamps strictly rise, from `warmup` ms on: at the join a cached group comes at once, and the
 * timestamps are the browser's own, of a clock that it learns from when packets come.
 */
export function rising(report, which) {
  const frames = settled(report, which);
  const stuck = frames.flatMap(({ ts }, at) => (at > 0 && ts <= frames[at - 1].ts ? [[at, frames[at - 1].ts, ts]] : []));
  assert.deepEqual(stuck, [], "timestamps strictly rise");
}

/** The longest time, in ms, in which a viewer read no new picture, from `since` on. */
export function longestGap(report, since) {
  const times = report.frames.map((frame) => frame.at).filter((at) => at >= since);
  assert.ok(times.length > 30, `${times.length} pictures`);
  return Math.max(...times.slice(1).map((at, index) => at - times[index]));
}

/** In order, unbroken, nearly all of them, with strictly rising timestamps. */
export function smooth(report, { share = 0.9, seconds = 5, ...which } = {}) {
  const frames = settled(report, which);
  assert.ok(frames.length >= seconds * FPS * 0.5, `only ${frames.length} pictures were read`);
  const numbers = frames.map((frame) => frame.n);
  const backwards = numbers.filter((n, at) => at > 0 && n < numbers[at - 1]);
  assert.deepEqual(backwards, [], `pictures out of order: ${numbers.join(" ")}`);
  const distinct = new Set(numbers).size;
  const sent = numbers.at(-1) - numbers[0] + 1;
  assert.ok(distinct / sent >= share, `${distinct} of ${sent} pictures were seen`);
  rising(report, which);
  const total = report.frames.length + report.damaged;
  assert.ok(report.damaged <= total * 0.01, `${report.damaged} of ${total} pictures are damaged`);
  return distinct / sent;
}

/** The sine is heard, and is the loudest. */
export function tone(report, hertz = TONE) {
  assert.ok(report.tone, `no sound arrived ${report.errors}`);
  assert.ok(Math.abs(report.tone.hertz - hertz) < 8, `heard ${report.tone.hertz} Hz at ${report.tone.decibel} dB`);
  assert.ok(report.tone.decibel > -60, `the tone is at ${report.tone.decibel} dB`);
}

/** Milliseconds by which the sound is late against the picture: median over the flashes that have a beep. */
export function skew(report, after = 3000) {
  const pairs = report.flashes.filter((at) => at > report.first + after).flatMap((flash) => {
    const beep = report.beeps.find((at) => Math.abs(at - flash) < 450);
    return beep === undefined ? [] : [beep - flash];
  });
  assert.ok(pairs.length >= 3, `${report.flashes.length} flashes and ${report.beeps.length} beeps make ${pairs.length} pairs`);
  return pairs.sort((a, b) => a - b)[Math.floor(pairs.length / 2)];
}

/** Milliseconds by which viewer `b` is behind viewer `a`, by pictures both read on the same page. */
export function behind(a, b, from) {
  const seen = new Map(a.frames.map((frame) => [frame.n, frame.at]));
  const gaps = b.frames.filter((frame) => frame.at >= from && seen.has(frame.n)).map((frame) => frame.at - seen.get(frame.n));
  assert.ok(gaps.length >= 10, `only ${gaps.length} pictures in common`);
  return gaps.sort((x, y) => x - y)[Math.floor(gaps.length / 2)];
}

/** The same for the beeps. */
export function soundBehind(a, b, from) {
  const gaps = b.beeps.filter((at) => at >= from).flatMap((at) => {
    const near = a.beeps.filter((other) => Math.abs(other - at) < 500).sort((x, y) => Math.abs(x - at) - Math.abs(y - at))[0];
    return near === undefined ? [] : [at - near];
  });
  assert.ok(gaps.length >= 1, "no beep in common");
  return gaps.sort((x, y) => x - y)[Math.floor(gaps.length / 2)];
}
