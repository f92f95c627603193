// Simulcast from a real browser over WHIP to real players over WHEP: each gets the best layer its path takes, and goes
// over to another without a break.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { longestGap } from "./lib/judge.mjs";
import { Network } from "./lib/network.mjs";
import { Server, until } from "./lib/server.mjs";

const LIMIT = { timeout: 180_000 };
// Chromium sends three layers of a picture from 960 by 540 on.
const SIZE = { width: 960, height: 540, fps: 15, id: 5 };
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 120_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 350_000 },
  { rid: "f", maxBitrate: 900_000 },
];
const WIDTHS = { q: 240, h: 480, f: 960 };

/** What Chromium makes that has several sizes, and how wide the picture is on a narrow path and on a wide one. */
const CODINGS = {
  "vp8, three streams": { codec: "vp8", widths: [WIDTHS.h, WIDTHS.f] },
  "vp9, three sizes in one stream": { codec: "vp9", mode: "L3T3_KEY", widths: [WIDTHS.h, WIDTHS.f] },
};

/** Publishes one stream of several sizes. */
async function publishScalable(t, browser, server, room, { codec, mode }) {
  const encodings = [{ scalabilityMode: mode, maxBitrate: 1_200_000 }];
  const publisher = await browser.publish(server.url(`${room}/whip`), server.key, { ...SIZE, codec, encodings, noise: 0.2 });
  t.after(() => publisher.page.close());
  await server.live(room);
  return publisher;
}

/** Publishes three layers, and waits until all are sent. */
async function publish(t, browser, server, room, options) {
  const publisher = await browser.publish(server.url(`${room}/whip`), server.key, { ...SIZE, ...options, encodings: LAYERS });
  t.after(() => publisher.page.close());
  await server.live(room);
  let layers;
  await until("three layers are sent", async () => {
    ({ layers } = await publisher.report());
    return layers && LAYERS.every(({ rid }) => layers[rid]?.framesEncoded > 30);
  }, 60_000).catch((error) => {
    const state = ({ framesEncoded, qualityLimitationReason, targetBitrate }) => ({ framesEncoded, qualityLimitationReason, targetBitrate });
    throw new Error(`${error.message}: ${JSON.stringify(Object.entries(layers ?? {}).map(([rid, layer]) => [rid, state(layer)]))}`);
  });
  const bytes = async () => Object.values((await publisher.report()).layers).map(({ rid, bytesSent }) => [rid, bytesSent]);
  const before = Object.fromEntries(await bytes());
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const rates = Object.fromEntries((await bytes()).map(([rid, sent]) => [rid, ((sent - before[rid]) * 8) / 3000]));
  t.diagnostic(`kbit/s: ${JSON.stringify(rates)}`);
  return publisher;
}

/** Waits until the newest picture a viewer read has this width, and answers when. */
async function width(viewer, wanted, ms = 40_000) {
  let last;
  return until(`a picture ${wanted} wide`, async () => {
    const { frames, now } = await viewer.report();
    last = frames.at(-1);
    return last?.width === wanted && now;
  }, ms).catch((error) => {
    throw new Error(`${error.message}; the last one is ${JSON.stringify(last)}`);
  });
}

describe("layers", { timeout: 900_000 }, () => {
  let browser;
  before(async () => {
    browser = await Browser.start();
  });
  after(() => browser?.stop());

  for (const codec of ["vp8", "h264"]) {
    test(`a player gets the best of three layers, ${codec}`, LIMIT, async (t) => {
      const server = await Server.start({ set: { demo: false }, workers: 2 });
      t.after(() => server.stop());
      await publish(t, browser, server, "three", { codec });
      const viewer = await browser.watch(server.url("three/whep"));
      t.after(() => viewer.page.close());
      const since = await width(viewer, WIDTHS.f);
      const report = await viewer.run(5);
      const frames = report.frames.filter((frame) => frame.at >= since);
      assert.ok(frames.every((frame) => frame.width === WIDTHS.f), "it stays there");
      assert.ok(frames.length >= 0.7 * 5 * SIZE.fps, `${frames.length} pictures in five seconds`);
    });
  }

  test("AV1 of three sizes in one stream: the largest where frames are described, else the smallest, which is read all the same", LIMIT, async (t) => {
    const server = await Server.start({ set: { demo: false } });
    t.after(() => server.stop());
    await publishScalable(t, browser, server, "sizes", { codec: "av1", mode: "L3T3_KEY" });
    for (const [described, wanted] of [[true, WIDTHS.f], [false, WIDTHS.q]]) {
      const viewer = await browser.watch(server.url("sizes/whep"), { described });
      await width(viewer, wanted);
      await viewer.page.close();
    }
  });

  test("a player that says how much it takes gets no more", LIMIT, async (t) => {
    const server = await Server.start({ set: { demo: false } });
    t.after(() => server.stop());
    await publish(t, browser, server, "less", { codec: "vp8", noise: 0.2 });
    const viewer = await browser.watch(server.url("less/whep"), { bandwidth: 300 });
    t.after(() => viewer.page.close());
    await width(viewer, WIDTHS.h);
    const before = await viewer.report();
    const report = await viewer.run(8);
    const rate = (8 * (report.stats.video.bytesReceived - before.stats.video.bytesReceived)) / (report.now - before.now);
    t.diagnostic(`${Math.round(rate)} kbit/s`);
    assert.ok(rate < 1.15 * 300, `${rate} kbit/s`);
    const widths = new Set(report.frames.filter((frame) => frame.at > before.now).map((frame) => frame.width));
    assert.deepEqual([...widths], [WIDTHS.h]);
  });

  for (const [name, coding] of Object.entries(CODINGS)) test(`a path that becomes narrow gets a smaller picture without a break, and the large one when it is wide again: ${name}`, LIMIT, async (t) => {
    const network = Network.start();
    if (!network) return t.skip("network namespaces cannot be made here");
    t.after(() => network.stop());
    const server = await Server.start({ set: { demo: false }, network });
    t.after(() => server.stop());
    const [narrow, wide] = coding.widths;
    if (coding.mode) await publishScalable(t, browser, server, "narrow", coding);
    else await publish(t, browser, server, "narrow", { codec: coding.codec, noise: 0.2 });
    const viewer = await browser.watch(server.url("narrow/whep"), { via: network.narrow });
    t.after(() => viewer.page.close());
    await width(viewer, wide);
    // The cached group is through, and the picture runs evenly.
    await viewer.run(3);
    const since = await width(viewer, wide);
    network.limit(500);
    await width(viewer, narrow);
    await viewer.run(3);
    network.free();
    await width(viewer, wide, 60_000);
    const report = await viewer.run(2);
    const frames = report.frames.filter((frame) => frame.at >= since);
    // A change of the layer shows again the few pictures that came since the new layer's keyframe.
    const again = (frame, before) => frame.width !== before.width && before.n - frame.n < 2 * SIZE.fps;
    const pairs = frames.slice(1).map((frame, at) => [frames[at], frame]);
    const backwards = pairs.filter(([before, frame]) => frame.n <= before.n && !again(frame, before));
    assert.equal(backwards.length, 0, JSON.stringify(backwards.slice(0, 5)));
    const longest = longestGap(report, since);
    const at = frames.findIndex((frame, at) => at > 0 && frame.at - frames[at - 1].at >= longest - 1);
    t.diagnostic(`around the longest break: ${JSON.stringify(frames.slice(at - 8, at + 8).map(({ n, width, at, ts }) => [n, width, Math.round(at), Math.round(ts / 1000)]))}`);
    const turns = pairs.filter(([before, frame]) => before.width !== frame.width);
    t.diagnostic(`changes: ${JSON.stringify(turns.map(([before, { n, width, at }]) => [before.n, n, width, Math.round(at - since), Math.round(at - before.at)]))}`);
    const pauses = pairs.filter(([before, frame]) => frame.at - before.at > 200);
    t.diagnostic(`breaks: ${JSON.stringify(pauses.map(([before, { n, width, at, ts }]) => [before.n, n, width, Math.round(at - since), Math.round(at - before.at), Math.round((ts - before.ts) / 1000)]))}`);
    const { pliCount, nackCount, keyFramesDecoded, framesDropped, packetsLost } = report.stats.video;
    t.diagnostic(JSON.stringify({ pliCount, nackCount, keyFramesDecoded, framesDropped, packetsLost }));
    t.diagnostic(`longest break ${Math.round(longest)} ms, ${report.stats.video.freezeCount} freezes`);
    // A quarter of a second where the machine has nothing else to do; virtual time tests it to the millisecond.
    assert.ok(longest < 1500, `${Math.round(longest)} ms without a picture`);
  });
});
