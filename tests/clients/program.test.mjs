// The program: what a viewer and a telephone see and hear of a room in which several speak in turn.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { Encoder } from "./lib/encoder.mjs";
import { longestGap, rising, skew } from "./lib/judge.mjs";
import { Phone, hangUpAll } from "./lib/phone.mjs";
import { until } from "./lib/server.mjs";
import { ROOMS, TRUSTED, gateway } from "./lib/telephony.mjs";

const LIMIT = { timeout: 120_000 };

/** Sources in the order in which they were seen, each once in a row. */
function order(report, since) {
  const ids = report.frames.filter((frame) => frame.at >= since).map((frame) => frame.id);
  return ids.filter((id, at) => id !== ids[at - 1]);
}

describe("the program of a room", { timeout: 600_000 }, () => {
  let server, publishers, browser;
  before(async () => {
    server = await gateway({ trunks: [TRUSTED], dispatch: [ROOMS] });
    // Chromium gives a tab's sound to all its connections; viewers have a browser of their own.
    publishers = await Browser.start();
    browser = await Browser.start();
  });
  after(async () => {
    hangUpAll();
    await publishers?.stop();
    await browser?.stop();
    await server?.stop();
  });

  /** Two browsers that publish to a room: pictures 5 and 6, tones of 500 and 700 Hz, both silent at first. */
  async function pair(room) {
    const both = [];
    for (const [name, id, hz] of [["anna", 5, 500], ["berta", 6, 700]]) {
      both.push(await publishers.publish(server.url(`${room}/whip?name=${name}`), server.key, { id, hz, silent: true, codec: "h264" }));
    }
    await server.live(room);
    return both;
  }

  test("two browsers speak in turn: a viewer and a phone hear both, and the viewer sees who speaks", LIMIT, async (t) => {
    const [anna, berta] = await pair("turns");
    const phone = await Phone.start({ user: "alice", hz: 0 });
    t.after(() => phone.stop());
    assert.ok(await phone.call(`sip:room-turns@127.0.0.1:${server.sip}`));
    const viewer = await browser.watch(server.url("turns/whep"));
    await viewer.frames(30);
    const heard = (hz) => async () => Math.abs(((await viewer.report()).tone?.hertz ?? 0) - hz) < 8;
    const begun = await viewer.now();
    for (const [speaker, other, id, hz] of [[anna, berta, 5, 500], [berta, anna, 6, 700], [anna, berta, 5, 500]]) {
      await other.speak(false);
      await speaker.speak(true);
      await viewer.frames(15, { id, since: await viewer.now() });
      await until(`the viewer hears ${hz} Hz`, heard(hz));
      await until(`the phone hears ${hz} Hz`, async () => (await phone.lately(hz)) > 0.8);
    }
    const report = await viewer.report();
    t.diagnostic(`longest without a new picture: ${longestGap(report, begun).toFixed(0)} ms`);
    assert.ok(longestGap(report, begun) < 1000, "no picture froze");
    assert.deepEqual(order(report, begun).slice(-3), [5, 6, 5]);
    assert.ok(report.damaged < 3, `${report.damaged} damaged pictures`);
    rising(report, { warmup: 1000 });
    for (const publisher of [anna, berta]) await publisher.page.close();
    await viewer.page.close();
  });

  test("a publisher that cannot be asked for a keyframe is shown at once, in step with its sound", LIMIT, async (t) => {
    // One keyframe in ten seconds: whoever waited for the next would see nothing for long.
    const encoder = Encoder.rtmp(server.rtmpUrl("cached"), { id: 9, video: ["-bf", "0", "-preset", "veryfast", "-g", "300", "-keyint_min", "300"] });
    t.after(() => encoder.stop());
    await server.live("cached");
    const anna = await publishers.publish(server.url("cached/whip?name=anna"), server.key, { id: 5, hz: 500, silent: true, loud: 0.9, codec: "h264" });
    const phone = await Phone.start({ user: "alice", hz: 0 });
    t.after(() => phone.stop());
    assert.ok(await phone.call(`sip:room-cached@127.0.0.1:${server.sip}`));
    const viewer = await browser.watch(server.url("cached/whep"));
    await viewer.frames(30, { id: 9 });
    await anna.speak(true);
    await viewer.frames(60, { id: 5, since: await viewer.now() });
    const silent = await viewer.now();
    await anna.speak(false);
    await viewer.frames(30, { id: 9, since: silent });
    const switched = await viewer.page.evaluate((n, since) => {
      const { frames } = window.viewers[n];
      const first = frames.findIndex((frame) => frame.at >= since && frame.id === 9);
      return { gap: frames[first].at - frames[first - 1].at, numbers: frames.slice(first, first + 20).map((frame) => frame.n) };
    }, viewer.number, silent);
    t.diagnostic(`${switched.gap.toFixed(0)} ms from the last picture of one to the first of the other`);
    assert.ok(switched.gap < 1000, `frozen for ${switched.gap} ms`);
    // Sound and picture of the encoder, whose sound goes through the mix: as the page shows them, less what Chromium
    // itself, on a busy machine, has not brought together yet of what it was told belongs together.
    const apart = [];
    await viewer.run(5);
    const from = (await viewer.now()) - (await viewer.report()).first;
    for (let second = 0; second < 20; second++) {
      const { audio, video } = (await viewer.run(1)).stats;
      apart.push(video.estimatedPlayoutTimestamp - audio.estimatedPlayoutTimestamp);
    }
    const shown = skew(await viewer.report(), from);
    const own = apart.reduce((sum, gap) => sum + gap, 0) / apart.length;
    t.diagnostic(`sound ${shown.toFixed(0)} ms behind the picture, ${own.toFixed(0)} ms of them the browser's own`);
    assert.ok(Math.abs(shown - own) < 80, `sound and picture are ${shown - own} ms apart`);
    await until("the phone hears the encoder", async () => (await phone.lately(440)) > 0.3);
    await anna.page.close();
    await viewer.page.close();
  });
});
