// Encoders, browsers and viewers that are moved to another room with the connections they have, over two workers.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { Encoder } from "./lib/encoder.mjs";
import { until } from "./lib/server.mjs";
import { gateway } from "./lib/telephony.mjs";

const LIMIT = { timeout: 120_000 };
const BOSS = "the-boss-of-the-test";

describe("members are moved to another room", { timeout: 300_000 }, () => {
  let server, browser;
  before(async () => {
    server = await gateway({}, { "auth.keys": `[{ name: boss, key: ${BOSS}, actions: [control] }]` }, { workers: 2 });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  const peers = async (room) => (await server.api("GET", `rooms/${room}/peers`, undefined, BOSS)).body;

  /** Moves the one of that kind. */
  async function move(from, kind, room) {
    const { conn } = (await peers(from)).find((peer) => peer.kind === kind);
    const moved = await server.api("POST", `rooms/${from}/peers/${conn}/move`, { room }, BOSS);
    assert.equal(moved.status, 200, JSON.stringify(moved.body));
    assert.equal(moved.body.conn, conn);
    assert.ok((await peers(room)).some((peer) => peer.conn === conn));
  }

  test("a publisher, an RTMP encoder and a viewer: pictures and sound go on with whoever is there", LIMIT, async (t) => {
    const publisher = await browser.publish(server.url("left/whip?name=camera"), server.key, { id: 1, codec: "vp8", hz: 700 });
    const encoder = Encoder.rtmp(server.rtmpUrl("right"), { id: 5 });
    t.after(() => encoder.stop());
    // Whoever sees nothing is shown a slate.
    for (const room of ["left", "right"]) {
      await until(`sound and picture in ${room}`, async () => (await server.room(room))?.publishers[0]?.tracks.length === 2);
    }
    const viewer = await browser.watch(server.url("left/whep"));
    await viewer.frames(15, { id: 1 });
    const hears = (hz, least = 0.5) => until(`it hears ${hz} Hz`, async () => (await viewer.share(hz)) > least, 20_000);
    await hears(700);

    // The viewer goes to the encoder.
    await move("left", "whep", "right");
    await viewer.frames(15, { id: 5, since: await viewer.now() });
    await hears(440);
    // The publisher follows, and its picture is that of who came last.
    await move("left", "whip", "right");
    await viewer.frames(15, { id: 1, since: await viewer.now() });
    for (const hz of [440, 700]) await hears(hz, 0.1);
    assert.equal((await server.api("GET", "rooms/left")).status, 404, "nobody is there any more");
    // All but the encoder go back, one after the other.
    await move("right", "whip", "left");
    await viewer.frames(15, { id: 5, since: await viewer.now() });
    await move("right", "whep", "left");
    await viewer.frames(15, { id: 1, since: await viewer.now() });
    // The encoder comes, too, and is shown as soon as it is the only one who is heard.
    await move("right", "rtmp", "left");
    await publisher.speak(false);
    await viewer.frames(15, { id: 5, since: await viewer.now() });
    await hears(440);
    assert.equal((await viewer.report()).damaged, 0);
    const { states, errors } = await viewer.report();
    assert.deepEqual([states.filter((state) => state === "connected").length, errors], [1, []], "the connection was the same all the time");
    await publisher.stop();
    await viewer.stop();
  });
});
