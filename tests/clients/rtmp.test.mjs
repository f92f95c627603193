// RTMP to browsers: ffmpeg and OBS as they come out of the box.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { Encoder, nginxRelay } from "./lib/encoder.mjs";
import { rising, settled, skew, smooth, tone } from "./lib/judge.mjs";
import { Obs } from "./lib/obs.mjs";
import { Server, freePorts, until } from "./lib/server.mjs";

// Milliseconds one test may take on a slow machine.
const LIMIT = { timeout: 120_000 };

describe("RTMP", { timeout: 600_000 }, () => {
  let server, browser;
  before(async () => {
    server = await Server.start({ set: { demo: false } });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  // Chromium brings sound and picture together over the first 20 seconds, in small steps; the longer run sees the end.
  for (const [audioRate, seconds, apart] of [[44100, 14, 120], [48000, 32, 40]]) {
    test(`ffmpeg with default libx264 and AAC at ${audioRate} Hz plays in Chromium`, LIMIT, async (t) => {
      const room = `ffmpeg-${audioRate}`;
      const encoder = Encoder.rtmp(server.rtmpUrl(room), { audioRate });
      t.after(() => encoder.stop());
      await server.live(room);
      const viewer = await browser.watch(server.url(`${room}/whep`));
      await viewer.frames(30);
      const report = await viewer.run(seconds);
      const share = smooth(report, { seconds: 10 });
      tone(report);
      const late = skew(report, (seconds - 8) * 1000);
      t.diagnostic(`${(share * 100).toFixed(1)} % of the pictures, sound ${late.toFixed(0)} ms behind the picture`);
      assert.ok(Math.abs(late) < apart, `sound and picture are ${late} ms apart`);
      assert.match(server.log, /B-frames/, "the log says what was done about B-frames");
      await viewer.page.close();
      await encoder.stop();
    });
  }

  test("without B-frames the picture passes through untouched", LIMIT, async (t) => {
    const encoder = Encoder.rtmp(server.rtmpUrl("plain"), { video: ["-bf", "0", "-preset", "veryfast"] });
    t.after(() => encoder.stop());
    await server.live("plain");
    const viewer = await browser.watch(server.url("plain/whep"));
    await viewer.frames(30);
    const report = await viewer.run(8);
    smooth(report, { seconds: 5, share: 0.95 });
    tone(report);
    assert.equal(report.size[0], 640);
    await viewer.page.close();
  });

  test("the room may stand in the stream key", LIMIT, async (t) => {
    const encoder = Encoder.rtmp(`rtmp://127.0.0.1:${server.rtmp}/live/in-key?key=${server.key}`, { video: ["-bf", "0"] });
    t.after(() => encoder.stop());
    await server.live("in-key");
  });

  test("a wrong key is turned away", LIMIT, async () => {
    const encoder = Encoder.rtmp(`rtmp://127.0.0.1:${server.rtmp}/stranger/not-the-key`);
    const { code } = await encoder.ended;
    assert.notEqual(code, 0);
    assert.equal((await server.room("stranger"))?.live ?? false, false);
    assert.ok(!server.log.includes("not-the-key"), "the log holds no stream key");
  });

  test("another name publishes beside, another server's relay publishes too", LIMIT, async (t) => {
    const port = await freePorts();
    const relay = await nginxRelay(port, `rtmp://127.0.0.1:${server.rtmp}/relayed/${server.key}`);
    t.after(() => relay.stop());
    const encoder = Encoder.rtmp(`rtmp://127.0.0.1:${port}/in/x`, { video: ["-bf", "0", "-preset", "veryfast"] });
    t.after(() => encoder.stop());
    await server.live("relayed");
    const viewer = await browser.watch(server.url("relayed/whep"));
    await viewer.frames(90);
    const report = await viewer.run(5);
    smooth(report, { seconds: 3 });
    tone(report);
    await viewer.page.close();
  });

  test("a viewer goes on when the encoder is killed and started again", LIMIT, async (t) => {
    const options = { video: ["-bf", "0", "-preset", "veryfast", "-g", "60"] };
    const first = Encoder.rtmp(server.rtmpUrl("again"), { ...options, id: 1 });
    t.after(() => first.stop());
    await server.live("again");
    const viewer = await browser.watch(server.url("again/whep"));
    await viewer.frames(60, { id: 1 });
    await first.stop("SIGKILL");
    const second = Encoder.rtmp(server.rtmpUrl("again"), { ...options, id: 2 });
    t.after(() => second.stop());
    await viewer.frames(90, { id: 2 });
    const report = await viewer.run(3);
    assert.ok(report.frames.at(-1).id === 2);
    assert.equal(report.state, "connected");
    tone(report);
    await viewer.page.close();
  });

  test("an encoder that connects again takes over while a viewer watches", LIMIT, async (t) => {
    const options = { video: ["-bf", "0", "-preset", "veryfast", "-g", "60"] };
    const first = Encoder.rtmp(server.rtmpUrl("taken"), { ...options, id: 1 });
    t.after(() => first.stop());
    await server.live("taken");
    const viewer = await browser.watch(server.url("taken/whep"));
    await viewer.frames(60, { id: 1 });
    const second = Encoder.rtmp(server.rtmpUrl("taken"), { ...options, id: 3 });
    t.after(() => second.stop());
    await viewer.frames(90, { id: 3 });
    await until("the first encoder is gone", () => !first.running);
    const report = await viewer.run(1);
    const lastOfFirst = report.frames.findLastIndex((frame) => frame.id === 1);
    const firstOfSecond = report.frames.findIndex((frame) => frame.id === 3);
    assert.ok(lastOfFirst < firstOfSecond, "one after the other, never mixed");
    rising(report);
    assert.equal((await server.room("taken")).publishers.length, 1);
    await viewer.page.close();
  });

  test("OBS with B-frames plays in Chromium", LIMIT, async (t) => {
    const obs = await Obs.start({ server: `rtmp://127.0.0.1:${server.rtmp}/obs`, key: server.key, bframes: 2 });
    t.after(() => obs.stop());
    await server.live("obs", 60000);
    const viewer = await browser.watch(server.url("obs/whep"));
    await viewer.frames(60);
    const report = await viewer.run(12);
    // OBS paints the clip on a clock of its own, so a picture of the clip may be painted twice or not at all.
    const frames = settled(report);
    const numbers = frames.map((frame) => frame.n);
    assert.ok(numbers.every((n, at) => at === 0 || n >= numbers[at - 1]), `out of order: ${numbers.join(" ")}`);
    assert.ok(new Set(numbers).size >= 0.8 * (numbers.at(-1) - numbers[0] + 1), `gaps: ${numbers.join(" ")}`);
    assert.ok(frames.length >= 0.9 * 30 * ((frames.at(-1).at - frames[0].at) / 1000), `${frames.length} pictures`);
    tone(report);
    const status = await obs.status();
    assert.equal(status.outputActive, true);
    await obs.stop();
    await until("OBS has left", async () => !(await server.room("obs"))?.live);
    await viewer.page.close();
  });
});

describe("RTMP in Firefox", { timeout: 180_000 }, () => {
  test("ffmpeg plays in Firefox", LIMIT, async (t) => {
    const server = await Server.start({ set: { demo: false } });
    t.after(() => server.stop());
    const browser = await Browser.start("firefox");
    t.after(() => browser.stop());
    const encoder = Encoder.rtmp(server.rtmpUrl("fox"), { size: [640, 360] });
    t.after(() => encoder.stop());
    await server.live("fox");
    const viewer = await browser.watch(server.url("fox/whep"));
    await viewer.frames(30, { ms: 40000 });
    const report = await viewer.run(10);
    // Firefox shows the page only what it presents, so pictures that arrive between two presentations are missed.
    const numbers = settled(report).map((frame) => frame.n);
    assert.ok(numbers.every((n, at) => at === 0 || n >= numbers[at - 1]), `out of order: ${numbers.join(" ")}`);
    assert.ok(new Set(numbers).size >= 60, `${new Set(numbers).size} pictures`);
    assert.ok(report.stats.video.framesDecoded >= 0.9 * 30 * 8, `${report.stats.video.framesDecoded} decoded`);
    assert.ok(report.stats.audio.totalAudioEnergy > 0, "sound has energy");
    tone(report);
  });
});
