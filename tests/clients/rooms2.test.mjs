// mediasoup-client 2.4.12, unmodified, in rooms of the server: in Node, Chromium and Firefox, with protoo-client on the
// server's own WebSocket; and with them an RTMP encoder, a WHIP publisher and a telephone.

import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import WebSocket from "ws";

import { Browser } from "./lib/browser.mjs";
import { Encoder } from "./lib/encoder.mjs";
import { NodeParty, PageParty } from "./lib/parties.mjs";
import { Phone, hangUpAll } from "./lib/phone.mjs";
import { Seat, roomUrl, sit } from "./lib/rooms2.mjs";
import { event, pictures, still, told, tone, watched } from "./lib/seen.mjs";
import { Server, until } from "./lib/server.mjs";
import { ROOMS, TRUSTED, gateway } from "./lib/telephony.mjs";

const LIMIT = { timeout: 90_000 };

describe("mediasoup-client 2.4.12 in a room", { timeout: 600_000 }, () => {
  let server, control, alice, bob;
  before(async () => {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), "rooms2."));
    control = path.join(home, "control");
    server = await Server.start({ home, set: { demo: false, "control.unix": control }, workers: 2 });
    alice = await NodeParty.start(sit(roomUrl(server, "call", "alice")), { hertz: 440, id: 1 });
    bob = await NodeParty.start(sit(roomUrl(server, "call", "bob")), { hertz: 660, id: 2 });
  });
  after(async () => {
    await alice?.stop();
    await bob?.stop();
    await server?.stop();
    fs.rmSync(server.state, { recursive: true, force: true });
  });

  test("two in Node see and hear each other, the picture sent first", LIMIT, async () => {
    assert.deepEqual(await alice.do("join", "alice", { appData: { displayName: "Alice" } }), { peers: [], canSend: ["audio", "video"] });
    await alice.do("produce", "video", {}, { source: "camera" });
    await alice.do("produce", "audio");
    assert.deepEqual(await bob.do("join", "bob"), { peers: ["alice"], canSend: ["audio", "video"] });
    await bob.do("produce", "audio");
    await bob.do("produce", "video");
    await pictures(bob, "alice/video", 1, 20);
    await pictures(alice, "bob/video", 2, 20);
    await tone(bob, "alice/audio", 440);
    await tone(alice, "bob/audio", 660);
    assert.deepEqual((await event(bob, "consumer", "new", "alice/video"))[3], { source: "camera" });
    const frames = (await watched(bob, "alice/video")).frames.map((frame) => frame.n);
    assert.deepEqual(frames.filter((n, at) => at > 0 && n <= frames[at - 1]), [], "in order");
    assert.deepEqual(told(alice, "newPeer").map(({ name, consumers }) => [name, consumers]), [["bob", []]]);
  });

  test("pausing and resuming, from either side", LIMIT, async () => {
    await alice.do("act", ["producer", "video"], "pause");
    await event(bob, "consumer", "pause", "alice/video");
    await still(bob, "alice/video");
    await alice.do("act", ["producer", "video"], "resume");
    await event(bob, "consumer", "resume", "alice/video");
    await pictures(bob, "alice/video", 1);
    const pauses = told(bob, "consumerPaused").length;
    await bob.do("act", ["consumer", "alice/video"], "pause");
    await still(bob, "alice/video");
    await bob.do("act", ["consumer", "alice/video"], "resume");
    await pictures(bob, "alice/video", 1);
    assert.equal(told(bob, "consumerPaused").length, pauses, "its own pause is not told back");
    assert.deepEqual(told(alice, "producerPaused"), [], "nor to who sends");
  });

  test("a preferred quality is taken, and the effective one is told", LIMIT, async () => {
    const effective = (profile) => until(`${profile} of alice`, async () => (await watched(bob, "alice/video")).effectiveProfile === profile);
    await effective("default");
    await bob.do("act", ["consumer", "alice/video"], "setPreferredProfile", "high");
    await pictures(bob, "alice/video", 1);
    const { preferredProfile, effectiveProfile } = await watched(bob, "alice/video");
    assert.deepEqual([preferredProfile, effectiveProfile], ["high", "default"]);
  });

  test("statistics come while they are wanted", LIMIT, async () => {
    const enable = (party, what, key) => party.do("act", [what, key], "enableStats", 1000);
    await enable(bob, "consumer", "alice/video");
    await enable(alice, "producer", "video");
    await enable(bob, "receiving");
    const stats = await until("statistics of all three", () => {
      const last = [told(bob, "consumerStats"), told(alice, "producerStats"), told(bob, "transportStats")].map((all) => all.at(-1));
      return last.every(Boolean) && last;
    });
    const [consumer, producer, transport] = stats.map(({ stats }) => stats);
    const sent = consumer.find(({ type }) => type === "outbound-rtp");
    assert.ok(sent.packetCount > 0, JSON.stringify(consumer));
    assert.ok(producer[0].type === "inbound-rtp" && producer[0].packetCount > 0, JSON.stringify(producer));
    assert.ok(transport[0].type === "transport" && transport[0].dtlsState === "connected", JSON.stringify(transport));
    assert.equal(stats[0].peerName, "alice");
    await bob.do("act", ["consumer", "alice/video"], "disableStats");
    await bob.do("act", ["receiving"], "disableStats");
    await alice.do("act", ["producer", "video"], "disableStats");
  });

  test("ICE restarts on both transports and media goes on", LIMIT, async () => {
    await bob.do("act", ["room"], "restartIce");
    await pictures(bob, "alice/video", 1, 20);
    await pictures(alice, "bob/video", 2, 20);
  });

  test("who speaks is told", LIMIT, async () => {
    const says = (name) => until(`${name} speaks`, () => bob.seat.heard.filter(([method]) => method === "active-speaker").at(-1)?.[1].peerName === name);
    await bob.do("act", ["producer", "audio"], "pause");
    await says("alice");
    await bob.do("act", ["producer", "audio"], "resume");
    await alice.do("act", ["producer", "audio"], "pause");
    await says("bob");
    await alice.do("act", ["producer", "audio"], "resume");
  });

  test("a spy receives and is never announced", LIMIT, async (t) => {
    const spy = await NodeParty.start(sit(roomUrl(server, "call", "spy")));
    t.after(() => spy.stop());
    const known = told(alice, "newPeer").length;
    assert.deepEqual((await spy.do("join", "spy", { spy: true })).peers, ["alice", "bob"]);
    await pictures(spy, "alice/video", 1);
    await tone(spy, "bob/audio", 660);
    await spy.do("act", ["room"], "leave");
    const late = await NodeParty.start(sit(roomUrl(server, "call", "late")));
    t.after(() => late.stop());
    assert.deepEqual((await late.do("join", "late")).peers, ["alice", "bob"], "who comes later sees no spy");
    await event(alice, "peer", "join", "late");
    await late.do("act", ["room"], "leave");
    await event(alice, "peer", "close", "late");
    assert.deepEqual(told(alice, "newPeer").slice(known).map(({ name }) => name), ["late"]);
  });

  test("without a key one may watch, not send; with a wrong one not even that", LIMIT, async (t) => {
    const guest = await NodeParty.start(sit(roomUrl(server, "call", "guest", null)));
    t.after(() => guest.stop());
    await guest.do("join", "guest");
    await pictures(guest, "alice/video", 1);
    await assert.rejects(guest.do("produce", "audio"), /may watch, not send/);
    await assert.rejects(Seat.open(roomUrl(server, "call", "thief", "no such key")), /refused/);
  });

  test("a name that is taken is refused, and a connection of that name takes over", LIMIT, async (t) => {
    const first = await NodeParty.start(sit(roomUrl(server, "names", "carol")), { hertz: 880, id: 3 });
    t.after(() => first.stop());
    await first.do("join", "carol");
    const thief = await NodeParty.start(sit(roomUrl(server, "names", "someone-else")));
    t.after(() => thief.stop());
    await assert.rejects(thief.do("join", "carol"), /name/);
    const again = await NodeParty.start(sit(roomUrl(server, "names", "carol")));
    t.after(() => again.stop());
    await event(first, "room", "close", "remote");
    await first.seat.closed;
    assert.deepEqual((await again.do("join", "carol")).peers, [], "its former self is out by then");
  });

  test("closing, leaving and joining again are told", LIMIT, async (t) => {
    const carol = await NodeParty.start(sit(roomUrl(server, "call", "carol")), { hertz: 880, id: 3 });
    t.after(() => carol.stop());
    await carol.do("join", "carol");
    await carol.do("produce", "audio");
    await tone(bob, "carol/audio", 880);
    await carol.do("act", ["producer", "audio"], "close");
    await event(bob, "consumer", "close", "carol/audio");
    await carol.do("act", ["room"], "leave");
    await event(bob, "peer", "close", "carol");
    await carol.do("join", "carol");
    await carol.do("produce", "audio");
    await until("carol is there again", () => told(bob, "newPeer").filter(({ name }) => name === "carol").length === 2);
    await tone(bob, "carol/audio", 880);
    carol.seat.peer.close();
    await until("bob hears that she is gone", () => told(bob, "peerClosed").filter(({ name }) => name === "carol").length === 2);
  });

  test("who is sent away is told, and so are the others", LIMIT, async (t) => {
    const carol = await NodeParty.start(sit(roomUrl(server, "call", "unwelcome")));
    t.after(() => carol.stop());
    await carol.do("join", "unwelcome");
    await event(bob, "peer", "join", "unwelcome");
    const { conn } = (await server.room("call")).publishers.find(({ name }) => name === "unwelcome");
    await controller({ method: "peer.kick", data: { room: "call", conn, reason: "enough" } });
    await event(carol, "room", "close", "remote");
    await carol.seat.closed;
    await event(bob, "peer", "close", "unwelcome");
  });

  /** Asks the server as a controller would. */
  function controller(request) {
    return new Promise((resolve, reject) => {
      const text = JSON.stringify({ id: 1, internal: {}, ...request });
      const socket = net.connect(control, () => socket.write(`${Buffer.byteLength(text)}:${text},`));
      socket.on("error", reject);
      socket.once("data", (data) => {
        socket.destroy();
        const answer = JSON.parse(data.toString().replace(/^\d+:/, "").replace(/,$/, ""));
        answer.accepted ? resolve(answer.data) : reject(new Error(answer.reason));
      });
    });
  }

  test("names for people change, and everybody is told", LIMIT, async () => {
    await alice.seat.peer.send("change-display-name", { displayName: "Alice in Wonderland" });
    const [, change] = await until("the change", () => bob.seat.heard.find(([method]) => method === "display-name-changed"));
    assert.deepEqual(change, { peerName: "alice", displayName: "Alice in Wonderland", oldDisplayName: "Alice" });
  });

  test("nonsense is answered, and changes nothing for others", LIMIT, async () => {
    const seat = await Seat.open(roomUrl(server, "call", "nonsense"));
    await assert.rejects(seat.peer.send("no-such-thing", {}), /unknown request method|join a room first/);
    await assert.rejects(seat.request({ method: "createTransport", id: 1, direction: "send" }), /join a room first/);
    await assert.rejects(seat.request({ method: "join", peerName: "", rtpCapabilities: {} }), /peerName/);
    seat.peer.close();
    await pictures(bob, "alice/video", 1);
  });
});

describe("clients that misbehave", { timeout: 300_000 }, () => {
  const many = 1000;
  let server;
  before(async () => {
    server = await Server.start({
      set: {
        demo: false,
        "log.level": "info,viaduct::rooms=debug",
        "room_clients.max_connections": many,
        "room_clients.max_message_bytes": 20000,
        "room_clients.message_burst": 100000,
        "room_clients.join_timeout_ms": 30000,
        "room_clients.send_timeout_ms": 1000,
        "room_clients.ping_interval_ms": 1000,
      },
    });
  });
  after(() => server?.stop());

  const connect = (name, options = {}) => new WebSocket(roomUrl(server, "odd", name, options.token), options.protocol ?? "protoo", options);
  const opened = (socket) => new Promise((resolve, reject) => {
    socket.once("open", () => resolve(socket));
    socket.once("unexpected-response", (_, response) => resolve(response.statusCode));
    socket.once("error", reject);
  });
  const ended = (socket) => new Promise((resolve) => socket.once("close", resolve));

  test("who is not let in hears why by the status", LIMIT, async () => {
    assert.equal(await opened(connect("a", { protocol: "other" })), 400);
    assert.equal(await opened(connect("a", { token: "no such key" })), 401);
    assert.equal(await opened(connect("a", { origin: "https://evil.example" })), 403);
    assert.equal((await fetch(server.url("ws?roomId=odd&peerName=a"))).status, 426);
    const nobody = new WebSocket(`ws://127.0.0.1:${server.http}/ws?roomId=odd`, "protoo");
    assert.equal(await opened(nobody), 400);
  });

  test("messages that are none, too long, or too many to be read end nobody else", LIMIT, async () => {
    const good = await Seat.open(roomUrl(server, "odd", "good"));
    const long = await opened(connect("long"));
    long.send("x".repeat(20001));
    assert.equal(await ended(long), 1009);
    const binary = await opened(connect("binary"));
    binary.send(Buffer.from("{}"));
    assert.equal(await ended(binary), 1003);
    const silent = await opened(connect("silent", { autoPong: false }));
    assert.equal(await ended(silent), 1008);
    const nonsense = await opened(connect("nonsense"));
    for (const text of ["", "{", "[]", '{"request":true}', '{"response":true,"id":1,"ok":true}']) nonsense.send(text);
    nonsense.send('{"request":true,"id":7,"method":"mediasoup-request","data":{}}');
    const [answer] = await new Promise((resolve) => nonsense.once("message", (data) => resolve([JSON.parse(data)])));
    assert.deepEqual([answer.id, answer.ok, answer.errorCode], [7, false, 400]);
    nonsense.close();
    // Its answers fill every buffer on the way.
    const deaf = await opened(connect("deaf"));
    deaf.pause();
    const request = '{"request":true,"id":1,"method":"mediasoup-request","data":{"method":"queryRoom"}}';
    for (let sent = 0; sent < 20000; sent++) deaf.send(request);
    await until("the server gives it up", () => server.log.includes("does not read"), 30_000);
    deaf.terminate();
    assert.ok((await good.request({ method: "queryRoom", target: "room" })).rtpCapabilities);
    good.peer.close();
  });

  test("a thousand that say nothing cost little, and one more is refused", LIMIT, async (t) => {
    const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${server.process.pid}/status`, "utf8"))[1]);
    const before = memory();
    const sockets = [];
    const open = async () => {
      while (sockets.length < many) {
        const socket = connect(`idle-${sockets.length}`);
        sockets.push(socket);
        assert.equal(await opened(socket), socket);
      }
    };
    await open();
    const each = (memory() - before) / many;
    t.diagnostic(`${each} KiB each`);
    assert.ok(each < 40, `${each} KiB each`);
    assert.equal(await opened(connect("too many")), 503);
    await Promise.all(sockets.map((socket) => (socket.close(), ended(socket))));
    const again = await until("there is room again", async () => {
      const socket = connect("again");
      return (await opened(socket)) === socket && socket;
    });
    again.close();
  });
});

describe("other doors, seen by mediasoup-client 2.4.12", { timeout: 600_000 }, () => {
  let server, browser, page;
  before(async () => {
    browser = await Browser.start();
    const pages = { "http.origins": `["http://127.0.0.1:${browser.web.address().port}"]` };
    server = await gateway({ trunks: [TRUSTED], dispatch: [ROOMS] }, pages, { workers: 2 });
    page = await PageParty.start(browser, roomUrl(server, "doors", "page"), { hertz: 660, id: 2 });
    await page.do("join", "page");
  });
  after(async () => {
    hangUpAll();
    await page?.stop();
    await browser?.stop();
    await server?.stop();
  });

  test("Chromium and Node see and hear each other, sound sent first and picture sent first", LIMIT, async (t) => {
    await page.do("produce", "audio");
    await page.do("produce", "video");
    const alice = await NodeParty.start(sit(roomUrl(server, "doors", "alice")), { hertz: 440, id: 1 });
    t.after(() => alice.stop());
    await alice.do("join", "alice");
    await alice.do("produce", "audio");
    await alice.do("produce", "video");
    await pictures(page, "alice/video", 1, 20);
    await tone(page, "alice/audio", 440);
    await pictures(alice, "page/video", 2, 20);
    await tone(alice, "page/audio", 660);
    const second = await PageParty.start(browser, roomUrl(server, "doors", "second"), { hertz: 880, id: 3 });
    t.after(() => second.stop());
    await second.do("join", "second");
    await second.do("produce", "video");
    await second.do("produce", "audio");
    await pictures(alice, "second/video", 3, 20);
    await tone(alice, "second/audio", 880);
    await pictures(second, "page/video", 2);
  });

  test("a picture of several qualities is taken in the one that is wanted", LIMIT, async (t) => {
    const layered = await PageParty.start(browser, roomUrl(server, "layers", "layered"), { id: 4 });
    t.after(() => layered.stop());
    const alice = await NodeParty.start(sit(roomUrl(server, "layers", "alice")));
    t.after(() => alice.stop());
    await alice.do("join", "alice");
    await layered.do("join", "layered");
    await layered.do("produce", "video", { simulcast: true });
    const effective = (...profiles) =>
      until(`one of ${profiles}`, async () => profiles.includes((await watched(alice, "layered/video"))?.effectiveProfile), 30_000);
    await effective("low", "medium", "high");
    await pictures(alice, "layered/video", 4);
    await alice.do("act", ["consumer", "layered/video"], "setPreferredProfile", "low");
    await effective("low");
    // How much a page sends depends on what its path has shown; it must not break off.
    await alice.do("act", ["consumer", "layered/video"], "setPreferredProfile", "high");
    await pictures(alice, "layered/video", 4, 20);
  });

  test("a page of another site is refused", LIMIT, async (t) => {
    const stranger = await browser.puppet.newPage();
    t.after(() => stranger.close());
    await stranger.goto("data:text/html,");
    const opened = await stranger.evaluate((url) => new Promise((resolve) => {
      const socket = new WebSocket(url, "protoo");
      socket.onopen = () => resolve(true);
      socket.onerror = () => resolve(false);
    }), roomUrl(server, "doors", "stranger"));
    assert.equal(opened, false);
  });

  test("an RTMP encoder with B-frames and AAC is a peer, and its media decodes", LIMIT, async (t) => {
    const encoder = Encoder.rtmp(server.rtmpUrl("doors"), { id: 6 });
    t.after(() => encoder.stop());
    await event(page, "peer", "join", "live");
    await pictures(page, "live/video", 6, 30);
    await tone(page, "live/audio", 440);
    const frames = (await watched(page, "live/video")).frames.map((frame) => frame.n);
    assert.deepEqual(frames.filter((n, at) => at > 0 && n < frames[at - 1]), [], "in order");
    await encoder.stop();
    await event(page, "peer", "close", "live");
  });

  test("a WHIP publisher is a peer, and its media decodes", LIMIT, async (t) => {
    const encoder = Encoder.whip(server.url("doors/whip?name=camera"), server.key, { id: 7 });
    t.after(() => encoder.stop());
    await event(page, "peer", "join", "camera");
    await pictures(page, "camera/video", 7, 30);
    await tone(page, "camera/audio", 440);
  });

  test("a telephone is a peer, and both hear each other", LIMIT, async () => {
    const known = (await page.do("report")).events.filter(([what, how]) => what === "peer" && how === "join").length;
    const phone = await Phone.start({ user: "caller", hz: 1000 });
    assert.ok(await phone.call(`sip:room-doors@127.0.0.1:${server.sip}`), "answered");
    const [, , name] = await until("the phone is a peer", async () => {
      const joins = (await page.do("report")).events.filter(([what, how]) => what === "peer" && how === "join");
      return joins[known];
    });
    await tone(page, `${name}/audio`, 1000);
    // A telephone takes G.711, so what a browser says is in its mix.
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const [heard] = await phone.stop(660);
    assert.ok(heard > 0.8, `the phone heard 660 Hz ${heard}`);
    await event(page, "peer", "close", name);
  });
});

describe("Firefox with mediasoup-client 2.4.12", { timeout: 600_000 }, () => {
  let server, browser, fox, alice;
  before(async () => {
    browser = await Browser.start("firefox");
    const origins = `["http://127.0.0.1:${browser.web.address().port}"]`;
    server = await Server.start({ set: { demo: false, "http.origins": origins, "room_clients.v2_header_extensions": "full" } });
    alice = await NodeParty.start(sit(roomUrl(server, "fox", "alice")), { hertz: 440, id: 1 });
    fox = await PageParty.start(browser, roomUrl(server, "fox", "fox"), { hertz: 660, id: 2 });
  });
  after(async () => {
    await alice?.stop();
    await fox?.stop();
    await browser?.stop();
    await server?.stop();
  });

  test("it and Node see and hear each other, with every header extension and the picture first", LIMIT, async () => {
    await alice.do("join", "alice");
    await alice.do("produce", "audio");
    await alice.do("produce", "video");
    await fox.do("join", "fox");
    await fox.do("produce", "video");
    await fox.do("produce", "audio");
    await pictures(fox, "alice/video", 1, 20);
    await pictures(alice, "fox/video", 2, 20);
    await tone(fox, "alice/audio", 440);
    await tone(alice, "fox/audio", 1000);
  });

  test("its simulcast, told apart by stream ids, is taken in the quality that is wanted", LIMIT, async (t) => {
    const layered = await PageParty.start(browser, roomUrl(server, "fox", "layered"), { id: 4 });
    t.after(() => layered.stop());
    await layered.do("join", "layered");
    await layered.do("produce", "video", { simulcast: true });
    const effective = (...profiles) =>
      until(`one of ${profiles}`, async () => profiles.includes((await watched(alice, "layered/video"))?.effectiveProfile), 30_000);
    await effective("medium", "high");
    await pictures(alice, "layered/video", 4);
    await alice.do("act", ["consumer", "layered/video"], "setPreferredProfile", "low");
    await effective("low");
    await pictures(alice, "layered/video", 4, 20);
  });
});
