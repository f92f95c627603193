// WHIP and WHEP between real clients: Chromium and ffmpeg publish, Chromium and Firefox watch.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { Encoder } from "./lib/encoder.mjs";
import { rising, settled, smooth, tone } from "./lib/judge.mjs";
import { Server, until } from "./lib/server.mjs";

// Milliseconds one test may take on a slow machine.
const LIMIT = { timeout: 120_000 };

describe("WHIP and WHEP", { timeout: 600_000 }, () => {
  let server, browser;
  before(async () => {
    server = await Server.start({ set: { demo: false }, workers: 2 });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  for (const codec of ["h264", "vp8", "vp9", "av1"]) {
    test(`Chromium to Chromium, ${codec}`, LIMIT, async (t) => {
      const room = `chromium-${codec}`;
      const publisher = await browser.publish(server.url(`${room}/whip`), server.key, { codec, id: 4, fps: codec === "av1" ? 15 : 30 });
      t.after(() => publisher.page.close());
      await server.live(room);
      const viewer = await browser.watch(server.url(`${room}/whep`));
      t.after(() => viewer.page.close());
      await viewer.frames(30, { id: 4 });
      const before = (await publisher.report()).video.framesEncoded;
      const report = await viewer.run(8);
      const sent = await publisher.report();
      const numbers = settled(report).map((frame) => frame.n);
      rising(report);
      // Chromium's AV1 encoder smears numbers when it is short of time; its order is seen in the timestamps.
      const smeared = codec === "av1" ? 0.3 * numbers.length : 0;
      const backwards = numbers.filter((n, at) => at > 0 && n <= numbers[at - 1]).length;
      assert.ok(backwards <= smeared, `out of order: ${numbers.join(" ")}`);
      const seen = report.frames.filter((frame) => frame.at > report.now - 8000).length;
      const encoded = sent.video.framesEncoded - before;
      assert.ok(seen >= 0.9 * encoded - 3, `${seen} of ${encoded} pictures`);
      tone(report);
      assert.ok(report.stats.codecs.some((name) => name.toLowerCase() === `video/${codec}`), String(report.stats.codecs));
      assert.ok(sent.report_video, "the publisher gets receiver reports");
      t.diagnostic(`${seen} of ${encoded} pictures, ${report.stats.transport?.srtpCipher}`);
      await publisher.stop();
      await until("the publisher has left", async () => !(await server.room(room))?.live);
    });
  }

  test("ffmpeg 9 over WHIP to Chromium", LIMIT, async (t) => {
    const encoder = Encoder.whip(server.url("ffmpeg/whip"), server.key);
    t.after(() => encoder.stop());
    await until("the room is live", async () => {
      if (!encoder.running) throw new Error(encoder.log);
      return (await server.room("ffmpeg"))?.live;
    });
    const viewer = await browser.watch(server.url("ffmpeg/whep"));
    t.after(() => viewer.page.close());
    await viewer.frames(60);
    const report = await viewer.run(8);
    smooth(report, { seconds: 5 });
    tone(report);
  });

  test("Chromium over ICE-TCP alone", LIMIT, async (t) => {
    const publisher = await browser.publish(server.url("tcp/whip"), server.key, { codec: "h264", id: 4 });
    t.after(() => publisher.page.close());
    await server.live("tcp");
    const viewer = await browser.watch(server.url("tcp/whep"), { tcpOnly: true });
    t.after(() => viewer.page.close());
    await viewer.frames(90);
    const report = await viewer.run(4);
    assert.equal(report.protocol, "tcp");
    tone(report);
  });

  test("Firefox watches what Chromium publishes", LIMIT, async (t) => {
    const firefox = await Browser.start("firefox");
    t.after(() => firefox.stop());
    const publisher = await browser.publish(server.url("fox/whip"), server.key, { codec: "vp8", id: 4 });
    t.after(() => publisher.page.close());
    await server.live("fox");
    const viewer = await firefox.watch(server.url("fox/whep"));
    await viewer.frames(60, { ms: 40000 });
    const report = await viewer.run(5);
    assert.ok(report.stats.video.framesDecoded > 60);
    tone(report);
  });

  test("a publisher that comes back takes over, viewers go on", LIMIT, async (t) => {
    const first = await browser.publish(server.url("back/whip"), server.key, { codec: "h264", id: 1 });
    t.after(() => first.page.close());
    await server.live("back");
    const viewer = await browser.watch(server.url("back/whep"));
    t.after(() => viewer.page.close());
    await viewer.frames(60, { id: 1 });
    const second = await browser.publish(server.url("back/whip"), server.key, { codec: "vp8", id: 2 });
    t.after(() => second.page.close());
    await viewer.frames(90, { id: 2 });
    const report = await viewer.run(1);
    assert.equal(report.state, "connected");
    rising(report);
    await until("the first publisher is told", async () => (await first.report()).dtls === "closed", 2000);
  });

  test("doors ask for a key, and say no in words", LIMIT, async () => {
    const page = await browser.page();
    const post = (path, token) => page.evaluate(async (url, token) => {
      const pc = new RTCPeerConnection();
      pc.addTransceiver("video", { direction: url.endsWith("whip") ? "sendonly" : "recvonly" });
      await pc.setLocalDescription(await pc.createOffer());
      const headers = { "Content-Type": "application/sdp", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
      const response = await fetch(url, { method: "POST", headers, body: pc.localDescription.sdp });
      return { status: response.status, text: await response.text() };
    }, server.url(path), token);
    const nobody = await post("door/whip");
    assert.equal(nobody.status, 401);
    assert.equal((await post("door/whip", "wrong")).status, 401);
    assert.equal((await post("api/whip", server.key)).status >= 400, true);
    const empty = await post("door/whep");
    assert.equal(empty.status, 409);
    assert.ok(empty.text.length > 10, empty.text);
    await page.close();
  });
});

describe("closed rooms", { timeout: 120_000 }, () => {
  test("watching needs the room's token", LIMIT, async (t) => {
    const server = await Server.start({ set: { demo: false, "auth.rooms.board.watch": "0123" } });
    t.after(() => server.stop());
    const browser = await Browser.start();
    t.after(() => browser.stop());
    await browser.publish(server.url("board/whip"), server.key, { codec: "vp8", id: 1 });
    await until("the room is live", async () => {
      const response = await fetch(server.url("api/rooms/board"), { headers: { Authorization: "Bearer 0123" } });
      return response.ok && (await response.json()).live;
    });
    assert.equal(await server.room("board"), null, "strangers do not see the room");
    await assert.rejects(browser.watch(server.url("board/whep")), /401/);
    await assert.rejects(browser.watch(server.url("board/whep"), { token: "123" }), /401/);
    const viewer = await browser.watch(server.url("board/whep"), { token: "0123" });
    await viewer.frames(30);
  });
});
