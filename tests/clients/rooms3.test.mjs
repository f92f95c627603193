// Current mediasoup-client, unmodified, in rooms of the server: in Node, Chromium and Firefox; and the room page, which
// speaks the same dialect.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { Encoder } from "./lib/encoder.mjs";
import { NodeParty, PageParty } from "./lib/parties.mjs";
import { roomUrl } from "./lib/rooms3.mjs";
import { event, pictures, still, tone, watched } from "./lib/seen.mjs";
import { Server, until } from "./lib/server.mjs";

const LIMIT = { timeout: 90_000 };

describe("mediasoup-client 3.24 in a room", { timeout: 600_000 }, () => {
  let server, alice, bob;
  before(async () => {
    // The pages of the tests are another server's.
    server = await Server.start({ set: { demo: false, "http.origins": '["*"]' } });
    alice = await NodeParty.start(null, { hertz: 440, id: 1 });
    bob = await NodeParty.start(null, { hertz: 660, id: 2 });
  });
  after(async () => {
    await alice?.stop();
    await bob?.stop();
    await server?.stop();
  });

  test("two in Node see and hear each other", LIMIT, async () => {
    assert.deepEqual(await alice.do("join", roomUrl(server, "call", "alice"), "Alice"), { peers: [], canSend: ["audio", "video"] });
    await alice.do("produce", "video", { appData: { source: "camera" } });
    await alice.do("produce", "audio");
    assert.deepEqual(await bob.do("join", roomUrl(server, "call", "bob"), "Bob"), { peers: ["Alice"], canSend: ["audio", "video"] });
    await bob.do("produce", "audio");
    await bob.do("produce", "video");
    await pictures(bob, "alice/video", 1, 20);
    await pictures(alice, "bob/video", 2, 20);
    await tone(bob, "alice/audio", 440);
    await tone(alice, "bob/audio", 660);
    const told = await event(alice, "newPeer");
    assert.deepEqual([told[1].id, told[1].displayName, told[1].device.flag], ["bob", "Bob", "test"]);
    assert.deepEqual((await event(bob, "consumer", "new", "alice/video"))[4], { source: "camera" });
  });

  test("pauses on either side, statistics, a keyframe", LIMIT, async () => {
    await bob.do("ask", "pauseConsumer", "consumer", "alice/video");
    await still(bob, "alice/video");
    await bob.do("ask", "resumeConsumer", "consumer", "alice/video");
    await pictures(bob, "alice/video", 1);
    await alice.do("ask", "pauseProducer", "producer", "video");
    await event(bob, "consumerPaused");
    await still(bob, "alice/video");
    await alice.do("ask", "resumeProducer", "producer", "video");
    await event(bob, "consumerResumed");
    await pictures(bob, "alice/video", 1);
    await bob.do("ask", "requestConsumerKeyFrame", "consumer", "alice/video");
    const [stats] = await alice.do("ask", "getProducerStats", "producer", "video");
    assert.equal(stats.kind, "video");
    assert.ok(stats.packetCount > 20, JSON.stringify(stats));
  });

  test("a consumer is weighed", LIMIT, async () => {
    assert.deepEqual(await bob.do("ask", "setConsumerPriority", "consumer", "alice/video", { priority: 200 }), {});
    await assert.rejects(bob.do("ask", "setConsumerPriority", "consumer", "alice/video", { priority: 0 }), /priority|nonzero/);
  });

  test("an ICE restart on either transport", LIMIT, async () => {
    await bob.do("restart", "recv");
    await alice.do("restart", "send");
    await pictures(bob, "alice/video", 1);
    await tone(alice, "bob/audio", 660);
  });

  test("somebody leaves and comes back under the same name", LIMIT, async () => {
    await bob.do("leave");
    assert.deepEqual((await event(alice, "peerClosed"))[1], { peerId: "bob" });
    assert.deepEqual(await bob.do("join", roomUrl(server, "call", "bob"), "Bobby"), { peers: ["Alice"], canSend: ["audio", "video"] });
    await pictures(bob, "alice/video", 1);
  });

  test("without a key one may listen and not speak", LIMIT, async () => {
    const guest = await NodeParty.start(null);
    try {
      await guest.do("join", roomUrl(server, "call", "guest", ""), "Guest");
      await pictures(guest, "alice/video", 1);
      await assert.rejects(guest.do("produce", "audio"), /does not allow sending/);
    } finally {
      await guest.stop();
    }
  });

  for (const name of ["chromium", "firefox"]) {
    test(`${name} sends and receives over TCP alone, and over IPv6 alone`, LIMIT, async () => {
      const browser = await Browser.start(name);
      try {
        for (const [id, way] of [{ tcp: true }, { ipv6: true }].entries()) {
          const [dave, key] = [await PageParty.start(browser, null, { hertz: 880, id: 6 + id }), `dave-${name}-${id}`];
          await dave.do("join", roomUrl(server, "call", key), "Dave", way);
          await dave.do("produce", "video");
          await pictures(alice, `${key}/video`, 6 + id);
          await pictures(dave, "alice/video", 1);
          await tone(dave, "alice/audio", 440);
          for (const direction of ["send", "recv"]) {
            const { protocol, remoteIP } = await dave.do("tuple", direction);
            if (way.tcp) assert.equal(protocol, "tcp");
            else assert.ok(remoteIP.includes(":"), remoteIP);
          }
          await dave.stop();
        }
      } finally {
        await browser.stop();
      }
    });

    test(`${name} sends and receives, from an RTMP encoder with B-frames and AAC, too`, LIMIT, async () => {
      const browser = await Browser.start(name);
      const encoder = Encoder.rtmp(server.rtmpUrl("call"), { id: 5 });
      try {
        const carol = await PageParty.start(browser, null, { hertz: 880, id: 3 });
        await carol.do("join", roomUrl(server, "call", `carol-${name}`), "Carol");
        await pictures(carol, "alice/video", 1);
        await tone(carol, "alice/audio", 440);
        await carol.do("produce", "audio");
        const layers = name === "chromium" ? { encodings: [{ scaleResolutionDownBy: 4, maxBitrate: 150_000 }, { scaleResolutionDownBy: 2, maxBitrate: 400_000 }, { maxBitrate: 1_500_000 }] } : {};
        await carol.do("produce", "video", layers);
        // Firefox sounds as its stand-in for a microphone does.
        await tone(alice, `carol-${name}/audio`, name === "firefox" ? 1000 : 880);
        await pictures(alice, `carol-${name}/video`, 3);
        if (name === "chromium") {
          assert.equal((await event(alice, "consumer", "new", `carol-${name}/video`))[3], "simulcast");
          await alice.do("ask", "setConsumerPreferredLayers", "consumer", `carol-${name}/video`, { spatialLayer: 0 });
          await until("the lowest layer", async () => (await watched(alice, `carol-${name}/video`)).frames.slice(-5).every((frame) => frame.width === 160), 30_000);
        }
        const [, joined] = await until("the encoder", async () => (await alice.do("report")).events.find(([what, data]) => what === "newPeer" && data.device.flag === "rtmp"));
        assert.equal(joined.device.name, "RTMP encoder");
        await pictures(carol, `${joined.id}/video`, 5);
        await tone(carol, `${joined.id}/audio`, 440);
      } finally {
        await encoder.stop();
        await browser.stop();
      }
    });
  }
});

describe("a room of several doors, seen by mediasoup-client 3.24 in Chromium", { timeout: 300_000 }, () => {
  let server, browser, carol, dave;
  before(async () => {
    server = await Server.start({ set: { demo: false, "http.origins": '["*"]' } });
    browser = await Browser.start("chromium");
    carol = await PageParty.start(browser, null, { hertz: 880, id: 3 });
    await carol.do("join", roomUrl(server, "doors", "carol"), "Carol");
    dave = await PageParty.start(browser, null, { hertz: 660, id: 4 });
    await dave.do("join", roomUrl(server, "doors", "dave"), "Dave");
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  test("it sees and hears a WHIP publisher", LIMIT, async () => {
    // Another browser: Chromium gives a page's sound to all its connections.
    const other = await Browser.start("chromium");
    try {
      await other.publish(server.url("doors/whip?name=camera"), server.key, { codec: "h264", id: 6, hz: 500 });
      const [, joined] = await until("the publisher", async () => (await carol.do("report")).events.find(([what, data]) => what === "newPeer" && data.device.flag === "whip"));
      await pictures(carol, `${joined.id}/video`, 6, 20);
      await tone(carol, `${joined.id}/audio`, 500);
    } finally {
      await other.stop();
    }
  });

  test("VP9 of several sizes in one stream: each receiver has the size it asks for", LIMIT, async () => {
    await carol.do("produce", "video", { mime: "video/VP9", encodings: [{ scalabilityMode: "L3T3_KEY", maxBitrate: 1_500_000 }] });
    await pictures(dave, "carol/video", 3, 20);
    assert.equal((await event(dave, "consumer", "new", "carol/video"))[3], "svc");
    const width = (wanted) => until(`a width of ${wanted}`, async () => (await watched(dave, "carol/video")).frames.slice(-5).every((frame) => frame.width === wanted), 30_000);
    await width(640);
    await dave.do("ask", "setConsumerPreferredLayers", "consumer", "carol/video", { spatialLayer: 0, temporalLayer: 2 });
    // Chromium makes two sizes of a picture as small as this, whatever it is asked for.
    await width(320);
    await pictures(dave, "carol/video", 3, 20);
    await dave.do("ask", "setConsumerPreferredLayers", "consumer", "carol/video", { spatialLayer: 2, temporalLayer: 2 });
    await width(640);
  });
});

describe("the room page", { timeout: 300_000 }, () => {
  let server, browser;
  const pages = [];
  before(async () => {
    server = await Server.start({ set: { demo: true } });
    browser = await Browser.start("chromium");
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
  });

  /** Somebody joins by the page's own buttons. */
  async function enter(name, { key = server.key, viewport = { width: 1000, height: 700 } } = {}) {
    const page = await (await browser.puppet.createBrowserContext()).newPage();
    pages.push(page);
    await page.setViewport(viewport);
    page.faults = [];
    page.on("pageerror", (error) => page.faults.push(error.message));
    await page.goto(server.url("demo/join"));
    // The browser has allowed both before: the page opens them by itself.
    await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
    await page.type("#name", name);
    await page.$eval("#token", (field, key) => { field.value = key; }, key);
    await page.click("#go");
    await page.waitForSelector("#meeting:not([hidden])");
    return page;
  }

  const tiles = (page) => page.$$eval(".tile:not(.dark)", (all) => all.map((tile) => [tile.querySelector(".who").textContent, tile.querySelector("video").currentTime]));

  /** Resolves once the tile of `who` moves. */
  async function moves(page, who) {
    let first;
    await until(`${who} moves`, async () => {
      const tile = (await tiles(page)).find(([name]) => name.startsWith(who));
      first ??= tile?.[1];
      return tile && tile[1] > first + 0.5;
    }, 30_000).catch(async (error) => {
      throw new Error(`${error.message}: ${JSON.stringify(await tiles(page))} ${page.faults}`);
    });
  }

  test("people see each other and what comes by other doors", LIMIT, async () => {
    const ann = await enter("Ann");
    await moves(ann, "clip");
    const ben = await enter("Ben");
    for (const [page, who] of [[ann, "Ben"], [ben, "Ann"], [ben, "clip"]]) {
      await page.bringToFront();
      await moves(page, who);
    }
    assert.equal(await ann.$eval("#count", (element) => element.textContent), "3 here");
    const heard = await ben.$$eval("audio", (all) => all.map((element) => [element.paused, element.srcObject.getAudioTracks()[0].readyState]));
    assert.deepEqual(heard, [[false, "live"], [false, "live"]]);
  });

  test("a muted microphone is marked, a camera that is off is dark, and both come back", LIMIT, async () => {
    const [ann, ben] = pages;
    await ann.bringToFront();
    await ann.click("#mic");
    await ben.waitForFunction(() => [...document.querySelectorAll(".tile.is-muted .who")].some((who) => who.textContent === "Ann"));
    await ann.click("#mic");
    await ben.waitForFunction(() => [...document.querySelectorAll(".tile:not(.is-muted) .who")].some((who) => who.textContent === "Ann"));
    await ann.click("#cam");
    await ben.waitForFunction(() => [...document.querySelectorAll(".tile.dark .who")].some((who) => who.textContent === "Ann"));
    await ann.click("#cam");
    await ben.bringToFront();
    await moves(ben, "Ann");
  });

  test("people write to each other, one of them on a telephone's screen", LIMIT, async () => {
    const [ann] = pages;
    const phone = await enter("Kim", { viewport: { width: 390, height: 760, deviceScaleFactor: 2, isMobile: true, hasTouch: true } });
    pages.pop();
    const said = (page) => page.$$eval("#messages li", (all) => all.map((line) => [line.className, line.querySelector(".from").textContent.split(" · ")[0], line.querySelector(".text").textContent]));
    const heard = (page, ...line) => until(`${line} is read`, async () => (await said(page)).some((found) => line.every((word, at) => found[at] === word)));
    const say = async (page, text) => {
      await page.bringToFront();
      await page.waitForSelector("#chat:not([hidden])");
      if ((await page.$eval("#chat", (button) => button.ariaExpanded)) !== "true") await page.click("#chat");
      await page.type("#text", text);
      await page.keyboard.press("Enter");
    };
    await moves(phone, "Ann");
    await say(phone, "Can you <b>hear</b> me?");
    await heard(ann, "", "Kim", "Can you <b>hear</b> me?");
    await say(ann, "Quite well.");
    await heard(phone, "", "Ann", "Quite well.");
    assert.equal((await said(phone))[0][0], "own");
    await phone.bringToFront();
    if (process.env.SCREENSHOTS) await phone.screenshot({ path: `${process.env.SCREENSHOTS}/chat.png` });
    const fits = () => phone.evaluate(() => {
      const inside = ({ left, right, top, bottom }) => left >= 0 && right <= innerWidth + 0.5 && top >= 0 && bottom <= innerHeight + 0.5;
      const shown = [...document.querySelectorAll("footer button:not([hidden]), #text, .tile:not(.dark) video")].filter((it) => it.checkVisibility());
      return { wide: document.documentElement.scrollWidth > innerWidth, outside: shown.filter((it) => !inside(it.getBoundingClientRect())).map((it) => it.id || it.tagName) };
    });
    assert.deepEqual(await fits(), { wide: false, outside: [] });
    await phone.click("#chat");
    if (process.env.SCREENSHOTS) await phone.screenshot({ path: `${process.env.SCREENSHOTS}/room.png` });
    assert.deepEqual(await fits(), { wide: false, outside: [] });
    assert.deepEqual(phone.faults, []);
    await phone.close();
    await ann.waitForFunction(() => document.getElementById("count").textContent === "3 here");
  });

  test("who leaves is gone, and a wrong key is said to be one", LIMIT, async () => {
    const [ann, ben] = pages;
    await ann.bringToFront();
    await ann.click("#leave");
    await ann.waitForSelector("#lobby:not([hidden])");
    await ben.waitForFunction(() => document.getElementById("count").textContent === "2 here");
    await ann.$eval("#token", (field) => { field.value = "wrong"; });
    await ann.click("#go");
    await ann.waitForFunction(() => /does not know this key/.test(document.getElementById("problem").textContent));
    for (const page of pages) assert.deepEqual(page.faults, []);
  });
});
