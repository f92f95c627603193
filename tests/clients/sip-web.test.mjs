// Telephones and browsers in one room: JsSIP in Chromium over WebSocket, baresip, mediasoup-client, a WHEP viewer. Who
// hears whom is told by the frequencies they sing at.

import assert from "node:assert/strict";
import fs from "node:fs";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { PageParty } from "./lib/parties.mjs";
import { Phone, hangUpAll } from "./lib/phone.mjs";
import { roomUrl } from "./lib/rooms3.mjs";
import { event, tone, watched } from "./lib/seen.mjs";
import { binary, until } from "./lib/server.mjs";
import { ROOMS, TRUSTED, certificate, folder, gateway, users } from "./lib/telephony.mjs";
import { WebPhone } from "./lib/webphone.mjs";

const LIMIT = { timeout: 120_000 };
const REALM = "gw.test";
const BOSS = "the-boss-of-the-test";

describe("telephones and browsers", { timeout: 600_000 }, () => {
  let server, files, browser, web;
  before(async () => {
    files = folder();
    server = await gateway({
      realm: REALM,
      users_file: users(files, binary, REALM, "web", "desk"),
      trunks: [TRUSTED],
      dispatch: [
        { name: "conference", number: "pin", pins: { 1234: "hall", 77: "vault" }, from: ["local", "phones"] },
        { ...ROOMS, from: ["local", "phones"] },
      ],
      outbound: [{ number: "*", trunk: "phones", principals: ["publish-key"] }],
    }, { "http.origins": '["*"]', "auth.keys": `[{ name: boss, key: ${BOSS}, actions: [control] }]` });
    browser = await Browser.start();
    web = await WebPhone.start(browser, server, { user: "web", host: REALM, hz: 1300 });
  });
  after(async () => {
    hangUpAll();
    await browser?.stop();
    await server?.stop();
    fs.rmSync(files, { recursive: true, force: true });
  });

  const address = (name) => `sip:${name}@127.0.0.1:${server.sip}`;

  /** Resolves once a share of what somebody hears lies at a frequency: `ask` says which. */
  async function hears(what, ask, least) {
    let best = 0;
    await until(what, async () => (best = Math.max(best, await ask())) > least, 20_000).catch((error) => {
      throw new Error(`${error.message}; at most ${best}`);
    });
  }

  const silent = (what, ask) => until(what, async () => (await ask()) < 0.02, 20_000);
  const noCalls = () => until("no call is left", async () => (await server.calls()).length === 0);

  test("a browser behind a PIN, two phones and a viewer hear each other and not themselves; hold, and who hangs up", LIMIT, async () => {
    const [alice, bob] = [await Phone.start({ user: "alice", hz: 440 }), await Phone.start({ user: "bob", hz: 1000, codecs: ["g722"] })];
    for (const phone of [alice, bob]) assert.ok(await phone.call(address("room-hall")), "answered");
    await web.call(`sip:pin@${REALM}`);
    // The question comes over the DTLS connection that stays.
    await until("the question is heard", async () => (await web.share(440)) + (await web.share(1000)) > 0);
    await web.do("keys", "1234#", "RFC2833");
    await until("the PIN is taken", () => /the PIN is right.*room="hall"/.test(server.log));
    await hears("the browser hears alice", () => web.share(440), 0.2);
    await hears("the browser hears bob", () => web.share(1000), 0.2);
    assert.ok((await web.share(1300)) < 0.02, `the browser hears itself: ${await web.share(1300)}`);
    await hears("alice hears the browser", () => alice.lately(1300), 0.2);
    await hears("bob hears the browser", () => bob.lately(1300), 0.2);
    const viewer = await browser.watch(server.url("hall/whep"), { video: false });
    for (const hz of [440, 1000, 1300]) await hears(`the viewer hears ${hz} Hz`, () => viewer.share(hz), 0.1);
    await viewer.stop();

    await web.do("hold");
    await until("the hold is seen", () => server.log.includes("held=true"));
    await silent("alice does not hear who holds", () => alice.lately(1300));
    await web.do("resume");
    await until("it is taken back", () => server.log.includes("held=false"));
    await hears("alice hears the browser again", () => alice.lately(1300), 0.2);
    await hears("the browser hears alice again", () => web.share(440), 0.2);

    const [own, bobs, webs] = await alice.stop(440, 1000, 1300);
    assert.ok(own < 0.05 && bobs > 0.2 && webs > 0.2, `alice heard herself ${own}, bob ${bobs}, the browser ${webs}`);
    await hears("the browser hears bob alone", () => web.share(1000), 0.8);
    const [mine, alices] = await bob.stop(1000, 440);
    assert.ok(mine < 0.05 && alices > 0.2, `bob heard himself ${mine}, alice ${alices}`);
    await web.do("hangUp");
    await web.event("ended");
    await noCalls();
  });

  test("keys by INFO are a PIN, too; and the browser is let go", LIMIT, async () => {
    await web.call(`sip:pin@${REALM}`);
    await web.do("keys", "77#", "INFO");
    await until("the PIN is taken", () => /the PIN is right.*room="vault"/.test(server.log));
    const [call] = await server.calls();
    assert.equal((await server.api("DELETE", `calls/${call.id}`)).status, 204);
    await web.event("ended", 2);
    await noCalls();
  });

  test("the browser is called, hears who is there, and is let go", LIMIT, async () => {
    const alice = await Phone.start({ user: "alice", hz: 440 });
    assert.ok(await alice.call(address("room-desk")));
    const dialled = await server.api("POST", "calls", { room: "desk", number: "web" });
    assert.equal(dialled.status, 201, JSON.stringify(dialled.body));
    await until("it answered", async () => (await server.calls()).some((call) => call.id === dialled.body.id && call.state === "active"));
    await hears("the browser hears alice", () => web.share(440), 0.5);
    await hears("alice hears the browser", () => alice.lately(1300), 0.5);
    assert.equal((await server.api("DELETE", `calls/${dialled.body.id}`)).status, 204);
    await web.event("ended", 3);
    await alice.stop();
    await noCalls();
  });

  for (const [name, how] of [
    ["plain", {}],
    ["SDES", { mediaenc: "srtp-mand" }],
    ["DTLS-SRTP", { mediaenc: "dtls_srtp" }],
    ["DTLS-SRTP behind ICE", { mediaenc: "dtls_srtp", medianat: "ice" }],
  ]) {
    test(`a phone behind a PIN talks with the media it was answered with: ${name}`, LIMIT, async () => {
      const [alice, bob] = [await Phone.start({ user: "alice", hz: 440, ...how }), await Phone.start({ user: "bob", hz: 1000 })];
      assert.ok(await bob.call(address("room-vault")));
      assert.ok(await alice.call(address("pin")));
      await until("the prompt is heard", async () => (await alice.packets()) > 20);
      await alice.keys("77#");
      await hears("alice hears bob", () => alice.lately(1000), 0.8);
      await hears("bob hears alice", () => bob.lately(440), 0.8);
      const [own] = await alice.stop(440);
      const [his] = await bob.stop(1000);
      assert.ok(own < 0.05 && his < 0.05, `alice heard herself ${own}, bob himself ${his}`);
      await noCalls();
    });
  }

  test("everybody in the room hears it ring, and then who answers", LIMIT, async () => {
    const how = { outbound: `sip:127.0.0.1:${server.sip}`, password: "secret", register: true };
    const [alice, desk] = [await Phone.start({ user: "alice", hz: 440 }), await Phone.start({ user: "desk", hz: 1000, ...how })];
    await until("it is registered", async () => (await server.api("GET", "sip")).body.phones.length === 2);
    assert.ok(await alice.call(address("room-office")));
    const carol = await PageParty.start(browser, null, { hertz: 700, id: 3 });
    await carol.do("join", roomUrl(server, "office", "carol"), "Carol");
    const dialled = await server.api("POST", "calls", { room: "office", number: "desk" });
    assert.equal(dialled.status, 201, JSON.stringify(dialled.body));
    const told = (state) => until(`it is told that the call is ${state}`, async () => {
      const { events } = await carol.do("report");
      return events.find(([name, data]) => name === "callState" && data.callId === dialled.body.id && data.state === state)?.[1];
    });
    const { peerId, direction, code } = await told("ringing");
    assert.deepEqual([direction, code], ["out", 180]);
    await tone(carol, `${peerId}/audio`, 425);
    await hears("alice hears it ring", () => alice.lately(425), 0.5);
    assert.ok(await desk.command("accept"));
    await told("answered");
    await tone(carol, `${peerId}/audio`, 1000);
    await hears("alice hears who answered", () => alice.lately(1000), 0.8);
    await silent("it rings no more", () => alice.lately(425));
    await desk.stop();
    await told("ended");
    await carol.stop();
    await alice.stop();
    await noCalls();
  });

  test("phones and a mediasoup-client are moved to another room and back, and hear who is there", LIMIT, async () => {
    const [alice, bob] = [await Phone.start({ user: "alice", hz: 440, mediaenc: "dtls_srtp" }), await Phone.start({ user: "bob", hz: 1000 })];
    assert.ok(await alice.call(address("room-left")));
    assert.ok(await bob.call(address("room-right")));
    const carol = await PageParty.start(browser, null, { hertz: 700, id: 3 });
    await carol.do("join", roomUrl(server, "left", "carol"), "Carol");
    await carol.do("produce", "audio");
    const peers = async (room) => (await server.api("GET", `rooms/${room}/peers`, undefined, BOSS)).body;
    const phoneIn = async (room) => (await peers(room)).find((peer) => peer.kind === "sip");
    const move = async (from, conn, room) => {
      const moved = await server.api("POST", `rooms/${from}/peers/${conn}/move`, { room }, BOSS);
      assert.equal(moved.status, 200, JSON.stringify(moved.body));
    };
    const first = await phoneIn("left");
    await tone(carol, `${first.name}/audio`, 440);
    await hears("alice hears carol", () => alice.lately(700), 0.8);

    await move("left", first.conn, "right");
    await event(carol, "peerClosed");
    await hears("alice hears bob", () => alice.lately(1000), 0.8);
    await hears("bob hears alice", () => bob.lately(440), 0.8);
    await silent("alice does not hear carol", () => alice.lately(700));

    const [her] = (await peers("left")).filter((peer) => peer.kind === "room");
    await move("left", her.conn, "right");
    assert.deepEqual((await event(carol, "moved"))[1], { roomId: "right" });
    for (const peer of (await peers("right")).filter((peer) => peer.kind === "sip")) {
      await tone(carol, `${peer.name}/audio`, peer.conn === first.conn ? 440 : 1000);
    }
    await hears("bob hears carol", () => bob.lately(700), 0.2);
    assert.equal((await server.api("GET", "rooms/left")).status, 404, "nobody is there any more");

    await move("right", first.conn, "left");
    await move("right", her.conn, "left");
    await tone(carol, `${first.name}/audio`, 440);
    await hears("alice hears carol again", () => alice.lately(700), 0.8);
    assert.ok((await watched(carol, `${first.name}/audio`)).errors.length === 0);
    const denied = await server.api("POST", `rooms/left/peers/${her.conn}/move`, { room: "right" });
    assert.equal(denied.status, 403, JSON.stringify(denied.body));
    await carol.stop();
    const [own] = await alice.stop(440);
    assert.ok(own < 0.05, `alice heard herself ${own}`);
    await bob.stop();
    await noCalls();
  });
});

describe("telephones in pages, under TLS", { timeout: 300_000 }, () => {
  let server, files, browser;
  before(async () => {
    files = folder();
    const own = certificate(files);
    server = await gateway({
      realm: REALM,
      users_file: users(files, binary, REALM, "web"),
      trunks: [TRUSTED],
      dispatch: [{ ...ROOMS, from: ["local", "phones"] }],
    }, {
      "http.origins": '["*"]',
      "http.tls": `{certificate: ${own.certificate}, key: ${own.key}}`,
      "bridge.phone_audio": "opus",
    });
    browser = await Browser.start("chromium", { insecure: true });
  });
  after(async () => {
    hangUpAll();
    await browser?.stop();
    await server?.stop();
    fs.rmSync(files, { recursive: true, force: true });
  });

  test("one that registers over secure WebSocket talks to a phone, whose voice a viewer gets as Opus", LIMIT, async () => {
    const web = await WebPhone.start(browser, server, { user: "web", host: REALM, hz: 1300 });
    const alice = await Phone.start({ user: "alice", hz: 440, codecs: ["pcma"] });
    assert.ok(await alice.call(`sip:room-safe@127.0.0.1:${server.sip}`), "answered");
    // A room of one voice: it would be passed on as it is.
    const viewer = await browser.watch(server.url("safe/whep"), { video: false });
    await until("the viewer hears the phone", async () => (await viewer.share(440)) > 0.5, 20_000);
    assert.deepEqual((await viewer.report()).stats.codecs, ["audio/opus"]);
    await web.call(`sip:room-safe@${REALM}`);
    await until("the page hears the phone", async () => (await web.share(440)) > 0.5, 20_000);
    await until("the phone hears the page", async () => (await alice.lately(1300)) > 0.5, 20_000);
    await web.do("hangUp");
    await alice.stop();
  });
});
