// Our program as the worker of mediasoup 2.6.19, the unmodified npm package; mediasoup-client 2.4.12 in Node and in
// Chromium joins its rooms, ffmpeg speaks plain RTP to them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { picture, sound } from "./lib/encoder.mjs";
import { CODECS, Seat, mediasoup, sit, worker } from "./lib/mediasoup2.mjs";
import { NodeParty, PageParty } from "./lib/parties.mjs";
import { event, pictures, told, tone, watched } from "./lib/seen.mjs";
import { COLUMNS, readCode } from "./lib/signs.js";
import { freePorts, until } from "./lib/server.mjs";

const LIMIT = { timeout: 60_000 };

describe("mediasoup 2.6.19 over our worker", { timeout: 300_000 }, () => {
  let server, room, alice, bob;
  before(async () => {
    const first = await freePorts(200);
    server = mediasoup.Server({ numWorkers: 1, rtcIPv6: false, rtcMinPort: first, rtcMaxPort: first + 199 });
    room = server.Room(CODECS);
    alice = await NodeParty.start(sit(room), { hertz: 440, id: 1 });
    bob = await NodeParty.start(sit(room), { hertz: 660, id: 2 });
  });
  after(async () => {
    await alice?.stop();
    await bob?.stop();
    room?.close();
    // What the package asks when a room closes is answered before the worker is told to end.
    await server?.dump().catch(() => {});
    server?.close();
  });

  test("two participants in Node see and hear each other", LIMIT, async () => {
    assert.deepEqual(await alice.do("join", "alice", { appData: { from: "Node" } }), { peers: [], canSend: ["audio", "video"] });
    await alice.do("produce", "audio");
    await alice.do("produce", "video", {}, { source: "camera" });
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
  });

  test("its transports have the states and shapes of the protocol", LIMIT, async () => {
    const peer = room.getPeerByName("alice");
    for (const transport of peer.transports) {
      assert.deepEqual([transport.iceRole, transport.iceState, transport.dtlsState], ["controlled", "completed", "connected"]);
      assert.match(transport.dtlsRemoteCert, /^-----BEGIN CERTIFICATE-----\n[\s\S]+\n-----END CERTIFICATE-----\n$/);
      const role = transport.direction === "send" ? "client" : "server";
      assert.equal(transport.dtlsLocalParameters.role, role, "the other side of the client's");
      const tuple = transport.iceSelectedTuple;
      assert.deepEqual(Object.keys(tuple).sort(), ["localIP", "localPort", "protocol", "remoteIP", "remotePort"]);
      assert.ok(transport.iceLocalCandidates.some(({ ip, port }) => ip === tuple.localIP && port === tuple.localPort));
    }
    const dump = await room._channel.request("router.dump", room._internal);
    const keys = ["audioLevelsEventEnabled", "consumers", "mapConsumerProducer", "mapProducerConsumers", "producers", "routerId", "transports"];
    assert.deepEqual(Object.keys(dump), keys, "keys come sorted");
    assert.deepEqual([dump.transports.length, dump.producers.length, dump.consumers.length], [4, 4, 4]);
    for (const [producer, consumers] of Object.entries(dump.mapProducerConsumers)) {
      assert.deepEqual(consumers.map((consumer) => dump.mapConsumerProducer[consumer]), [producer]);
    }
  });

  test("stats tell what flows", LIMIT, async () => {
    const [producer] = room.getPeerByName("alice").producers.filter(({ kind }) => kind === "video");
    const [consumer] = room.getPeerByName("bob").consumers.filter(({ kind }) => kind === "video");
    const [inbound] = await producer.getStats();
    const [fed, outbound] = await consumer.getStats();
    const common = ["byteCount", "bitrate", "firCount", "fractionLost", "id", "kind", "mediaType", "mimeType", "nackCount", "packetCount",
      "packetsDiscarded", "packetsLost", "packetsRepaired", "pliCount", "sliCount", "ssrc", "timestamp", "transportId", "type"];
    for (const stat of [inbound, fed, outbound]) {
      for (const key of common) assert.ok(key in stat, `${stat.type}: ${key}`);
      assert.deepEqual([stat.kind, stat.mediaType, stat.mimeType], ["video", "video", "video/VP8"]);
      assert.ok(stat.packetCount > 20 && stat.byteCount > 1000 && stat.bitrate > 1000, JSON.stringify(stat));
    }
    assert.deepEqual([inbound.type, fed.type, outbound.type], ["inbound-rtp", "inbound-rtp", "outbound-rtp"]);
    assert.equal(inbound.id, fed.id);
    assert.equal(outbound.inboundRtpId, inbound.id);
    assert.ok(typeof inbound.jitter === "number" && typeof outbound.roundTripTime === "number");
    for (const transport of room.getPeerByName("alice").transports) {
      const [stat] = await transport.getStats();
      assert.deepEqual([stat.type, stat.id, stat.dtlsState, stat.iceConnectionState], ["transport", transport.id, "connected", "completed"]);
      assert.ok(stat.bytesReceived > 0 && stat.bytesSent > 0 && stat.iceSelectedTuple.protocol === "udp");
    }
    await alice.do("act", ["producer", "video"], "enableStats", 1000);
    await bob.do("act", ["consumer", "alice/audio"], "enableStats", 1000);
    await until("periodic stats", async () => (await alice.do("report")).stats?.video && (await bob.do("report")).stats?.["alice/audio"]);
    await alice.do("act", ["producer", "video"], "disableStats");
    await bob.do("act", ["consumer", "alice/audio"], "disableStats");
  });

  test("pausing and resuming, from either side", LIMIT, async () => {
    const still = async (party, key) => {
      const count = async () => (await watched(party, key)).frames.length;
      let last = -1;
      await until(`${key} stands still`, async () => {
        const [before, now] = [last, await count()];
        last = now;
        await new Promise((resolve) => setTimeout(resolve, 400));
        return before === now && now === (await count());
      });
    };
    await alice.do("act", ["producer", "video"], "pause");
    await event(bob, "consumer", "pause", "alice/video");
    await still(bob, "alice/video");
    await alice.do("act", ["producer", "video"], "resume");
    await event(bob, "consumer", "resume", "alice/video");
    await pictures(bob, "alice/video", 1);
    await bob.do("act", ["consumer", "alice/video"], "pause");
    await still(bob, "alice/video");
    await bob.do("act", ["consumer", "alice/video"], "resume");
    await pictures(bob, "alice/video", 1);
    const [producer] = room.getPeerByName("alice").producers.filter(({ kind }) => kind === "video");
    producer.pause({ by: "server" });
    assert.deepEqual((await event(alice, "producer", "pause", "video", "remote"))[4], { by: "server" });
    await still(bob, "alice/video");
    producer.resume();
    await pictures(bob, "alice/video", 1);
  });

  test("the loudest is the active speaker", LIMIT, async () => {
    const levels = [];
    room.on("audiolevels", (entries) => levels.push(entries));
    const detector = room.createActiveSpeakerDetector();
    const changes = [];
    detector.on("activespeakerchange", (peer) => changes.push(peer?.name));
    await until("levels of both", () => levels.some((entries) => entries.length === 2));
    for (const entries of levels) {
      const values = entries.map(({ audioLevel }) => audioLevel);
      assert.ok(values.every((value, at) => value <= 0 && value >= -127 && (at === 0 || value <= values[at - 1])), String(values));
    }
    await until("a speaker", () => changes.length > 0);
    const speaker = changes[0];
    const [quiet, loud] = speaker === "alice" ? [alice, "bob"] : [bob, "alice"];
    await quiet.do("act", ["producer", "audio"], "pause");
    await until("the other speaks", () => changes.at(-1) === loud);
    await quiet.do("act", ["producer", "audio"], "resume");
    detector.close();
    room.removeAllListeners("audiolevels");
    await until("the levels are off", async () => !(await room._channel.request("router.dump", room._internal)).audioLevelsEventEnabled);
  });

  test("ICE restarts on both transports and media goes on", LIMIT, async () => {
    const peer = room.getPeerByName("bob");
    const old = peer.transports.map((transport) => transport.iceLocalParameters.usernameFragment);
    await bob.do("act", ["room"], "restartIce");
    await until("new credentials", () => peer.transports.every((transport, at) => transport.iceLocalParameters.usernameFragment !== old[at]));
    await pictures(bob, "alice/video", 1, 20);
    await pictures(alice, "bob/video", 2, 20);
  });

  test("a spy receives and is never announced", LIMIT, async (t) => {
    const spy = await NodeParty.start(sit(room));
    t.after(() => spy.stop());
    const known = told(alice, "newPeer").length;
    assert.deepEqual((await spy.do("join", "spy", { spy: true })).peers, ["alice", "bob"]);
    await pictures(spy, "alice/video", 1);
    await tone(spy, "bob/audio", 660);
    await spy.do("act", ["room"], "leave");
    await until("the spy has left", () => !room.getPeerByName("spy"));
    assert.equal(told(alice, "newPeer").length, known);
    assert.deepEqual(told(alice, "peerClosed"), []);
  });

  test("a bound on what a participant may send is kept", LIMIT, async () => {
    const peer = room.getPeerByName("alice");
    const transport = peer.transports.find(({ direction }) => direction === "send");
    const [producer] = peer.producers.filter(({ kind }) => kind === "video");
    const bitrate = async () => (await producer.getStats())[0].bitrate;
    await until("a picture that costs something", async () => (await bitrate()) > 250_000, 30_000);
    await transport.setMaxBitrate(100_000);
    await until("a cheaper picture", async () => (await bitrate()) < 150_000, 30_000);
    const [{ localAvailableSendBw: told }] = await transport.getStats();
    assert.deepEqual(told, { maxBitrate: 100_000, bitrate: 100_000, ssrcs: [producer.rtpParameters.encodings[0].ssrc] });
    await transport.setMaxBitrate(2_000_000);
    await until("a costlier picture again", async () => (await bitrate()) > 170_000, 30_000);
  });

  test("mirrored packets are what the participant sent", LIMIT, async (t) => {
    const socket = dgram.createSocket("udp4");
    t.after(() => socket.close());
    await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
    const types = new Map();
    socket.on("message", (packet) => {
      const type = packet[1] & 0x7f;
      types.set(packet.readUInt32BE(8), type);
    });
    const peer = room.getPeerByName("alice");
    const transport = peer.transports.find(({ direction }) => direction === "send");
    const where = { remoteIP: "127.0.0.1", remotePort: socket.address().port, recvRtp: true };
    await transport.startMirroring(where);
    await assert.rejects(transport.startMirroring(where), /already mirroring/);
    const ssrcs = peer.producers.map((producer) => producer.rtpParameters.encodings[0].ssrc);
    await until("both tracks", () => ssrcs.every((ssrc) => types.has(ssrc)));
    for (const producer of peer.producers) {
      const { ssrc } = producer.rtpParameters.encodings[0];
      assert.equal(types.get(ssrc), producer.rtpParameters.codecs[0].payloadType, producer.kind);
    }
    await transport.stopMirroring();
    await transport.stopMirroring();
  });

  test("a streamer sends a track to ffmpeg over plain RTP", LIMIT, async (t) => {
    const port = await freePorts(2);
    const [producer] = room.getPeerByName("alice").producers.filter(({ kind }) => kind === "video");
    const streamer = await room.createRtpStreamer(producer, { remoteIP: "127.0.0.1", remotePort: port });
    const { payloadType } = streamer.consumer.rtpParameters.codecs[0];
    const sdp = path.join(os.tmpdir(), `streamer.${process.pid}.sdp`);
    fs.writeFileSync(sdp, `v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video ${port} RTP/AVP ${payloadType}\na=rtpmap:${payloadType} VP8/90000\n`);
    const ffmpeg = spawn("ffmpeg", ["-loglevel", "error", "-protocol_whitelist", "file,udp,rtp", "-i", sdp, "-an", "-vf", "scale=320:240", "-f", "rawvideo", "-pix_fmt", "gray", "-"], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => {
      ffmpeg.kill("SIGKILL");
      fs.rmSync(sdp, { force: true });
    });
    let bytes = Buffer.alloc(0);
    const codes = [];
    ffmpeg.stdout.on("data", (data) => {
      bytes = Buffer.concat([bytes, data]);
      for (; bytes.length >= 320 * 240; bytes = bytes.subarray(320 * 240)) {
        const row = (240 / 22.5) * 2;
        codes.push(readCode((column, line) => bytes[Math.floor((line + 0.5) * row) * 320 + Math.floor(((column + 0.5) * 320) / COLUMNS)]));
      }
    });
    // A decoder that joins late waits for a keyframe.
    const asking = setInterval(() => streamer.consumer.requestKeyFrame(), 1000);
    t.after(() => clearInterval(asking));
    await until("pictures in ffmpeg", () => codes.filter((code) => code?.id === 1).length >= 10, 30_000);
    const closed = new Promise((resolve) => streamer.on("close", resolve));
    streamer.close();
    await closed;
  });

  test("ffmpeg sends a picture and a tone over plain RTP, from ports of its own", LIMIT, async (t) => {
    const seat = new Seat(room, () => {});
    const { rtpCapabilities } = room;
    await seat.request({ method: "join", target: "room", peerName: "ffmpeg", rtpCapabilities, spy: false });
    const [transportId, ssrcs] = [11111111, { audio: 1234, video: 5678 }];
    const { plainRtpParameters } = await seat.request({
      method: "createTransport", target: "peer", id: transportId, direction: "send", options: {}, plainRtpParameters: { ip: "127.0.0.1", port: 9 },
    });
    const produce = (id, kind, codec) =>
      seat.request({
        method: "createProducer", target: "peer", id, kind, transportId, paused: false,
        rtpParameters: { codecs: [codec], encodings: [{ ssrc: ssrcs[kind] }], headerExtensions: [], rtcp: { cname: "ffmpeg" } },
      });
    // Payload types of its own choice: the room's are told to who receives.
    await produce(22222222, "audio", { kind: "audio", name: "opus", mimeType: "audio/opus", payloadType: 97, clockRate: 48000, channels: 2, parameters: {}, rtcpFeedback: [] });
    await produce(33333333, "video", { kind: "video", name: "VP8", mimeType: "video/VP8", payloadType: 98, clockRate: 90000, parameters: {}, rtcpFeedback: [] });
    const url = `rtp://127.0.0.1:${plainRtpParameters.port}?pkt_size=1200`;
    const ffmpeg = spawn("ffmpeg", [
      "-loglevel", "error", "-re", "-f", "lavfi", "-i", picture({ id: 5, rate: 15, size: [320, 240] }), "-re", "-f", "lavfi", "-i", sound(),
      "-map", "0:v", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k", "-g", "15", "-pix_fmt", "yuv420p", "-payload_type", "98", "-ssrc", String(ssrcs.video), "-f", "rtp", url,
      "-map", "1:a", "-c:a", "libopus", "-ac", "2", "-ar", "48000", "-payload_type", "97", "-ssrc", String(ssrcs.audio), "-f", "rtp", url,
    ], { stdio: ["ignore", "ignore", "inherit"] });
    t.after(() => ffmpeg.kill("SIGKILL"));
    await pictures(bob, "ffmpeg/video", 5, 10);
    await tone(bob, "ffmpeg/audio", 440);
    seat.peer.close();
    await event(bob, "peer", "close", "ffmpeg");
  });

  test("closing, kicking and leaving are told", LIMIT, async (t) => {
    const carol = await NodeParty.start(sit(room), { hertz: 880, id: 3 });
    t.after(() => carol.stop());
    await carol.do("join", "carol");
    await carol.do("produce", "audio");
    await tone(bob, "carol/audio", 880);
    await carol.do("act", ["producer", "audio"], "close");
    await event(bob, "consumer", "close", "carol/audio");
    room.getPeerByName("carol").close({ why: "kicked" });
    await event(carol, "room", "close", "remote");
    await event(bob, "peer", "close", "carol");
    await alice.do("act", ["room"], "leave");
    await event(bob, "peer", "close", "alice");
    await until("only bob is left", async () => {
      const { transports, producers, consumers } = await room._channel.request("router.dump", room._internal);
      return transports.length === 2 && producers.length === 2 && consumers.length === 0;
    });
  });
});

describe("Chromium in a room of mediasoup 2.6.19 over our worker", { timeout: 300_000 }, () => {
  let server, room, browser, page, alice;
  before(async () => {
    const first = await freePorts(100);
    server = mediasoup.Server({ numWorkers: 1, rtcIPv6: false, rtcMinPort: first, rtcMaxPort: first + 99 });
    room = server.Room(CODECS);
    browser = await Browser.start();
    alice = await NodeParty.start(sit(room), { hertz: 440, id: 1 });
    page = await PageParty.start(browser, sit(room), { hertz: 660, id: 2 });
  });
  after(async () => {
    await alice?.stop();
    await page?.stop();
    await browser?.stop();
    room?.close();
    await server?.dump().catch(() => {});
    server?.close();
  });

  test("it and Node see and hear each other", LIMIT, async () => {
    await alice.do("join", "alice");
    await alice.do("produce", "audio");
    await alice.do("produce", "video");
    await page.do("join", "page");
    await page.do("produce", "audio");
    await page.do("produce", "video");
    await pictures(page, "alice/video", 1, 20);
    await pictures(alice, "page/video", 2, 20);
    await tone(page, "alice/audio", 440);
    await tone(alice, "page/audio", 660);
  });
});

describe("workers of mediasoup 2.6.19 that end", { timeout: 120_000 }, () => {
  test("a worker that is killed takes its rooms with it and nobody else's", LIMIT, async (t) => {
    const first = await freePorts(200);
    const server = mediasoup.Server({ numWorkers: 2, rtcIPv6: false, rtcMinPort: first, rtcMaxPort: first + 199 });
    t.after(() => server.close());
    const rooms = [0, 1].map((workerIdx) => server.Room(CODECS, { workerIdx }));
    const seats = [];
    for (const room of rooms) {
      const seat = new Seat(room, () => {});
      await seat.request({ method: "join", target: "room", peerName: "guest", rtpCapabilities: room.rtpCapabilities });
      const id = 10000000 + seats.push(seat);
      await seat.request({ method: "createTransport", target: "peer", id, direction: "send", options: {} });
    }
    const [doomed] = server._workers;
    const closed = new Promise((resolve) => rooms[0].on("close", resolve));
    process.kill(doomed._child.pid, "SIGKILL");
    await closed;
    assert.equal(seats[0].told.at(-1).method, "closed");
    assert.equal(server.numWorkers, 1);
    const { transports } = await rooms[1]._channel.request("router.dump", rooms[1]._internal);
    assert.equal(transports.length, 1, "the other one's goes on");
    const again = server.Room(CODECS);
    assert.equal((await again._channel.request("router.dump", again._internal)).transports.length, 0);
  });

  /** A worker with its channel at hand, as the package starts it. */
  function start(...args) {
    const child = spawn(worker, ["test#1", ...args], { stdio: ["ignore", "pipe", "pipe", "pipe"], env: { ...process.env, MEDIASOUP_CHANNEL_FD: "3" } });
    child.text = "";
    child.stderr.on("data", (data) => (child.text += data));
    child.stdio[3].on("error", () => {});
    child.ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
    return child;
  }

  const send = (child, message) => {
    const text = JSON.stringify(message);
    child.stdio[3].write(`${text.length}:${text},`);
  };

  test("it ends cleanly by signal and when its channel is closed", LIMIT, async (t) => {
    for (const end of [(child) => child.kill("SIGTERM"), (child) => child.kill("SIGINT"), (child) => child.stdio[3].destroy()]) {
      const child = start("--logLevel=debug", "--logTag=info", "--rtcIPv6=false");
      t.after(() => child.kill("SIGKILL"));
      let heard = "";
      child.stdio[3].on("data", (data) => (heard += data));
      send(child, { id: 1, method: "worker.dump" });
      await until("an answer", () => heard.includes('"accepted":true'));
      child.kill("SIGHUP");
      child.kill("SIGUSR1");
      send(child, { id: 2, method: "worker.dump" });
      await until("another answer", () => heard.includes('"id":2'));
      end(child);
      assert.deepEqual(await child.ended, { code: 0, signal: null });
      assert.equal(child.text, "");
    }
  });

  test("it says what is wrong with its arguments and does not start", LIMIT, async () => {
    for (const [args, words] of [[["--rtcIPv4=false", "--rtcIPv6=false"], "rtcIPv4"], [["--logLevel=loud"], "debug, warn, error or none"], [["--dtlsCertificateFile=/nowhere", "--dtlsPrivateKeyFile=/nowhere"], "/nowhere"]]) {
      const child = start(...args);
      const { code } = await child.ended;
      assert.ok(code > 0, `exit code ${code}`);
      assert.ok(child.text.includes(words), child.text);
    }
    const orphan = spawn(worker, ["test#1"], { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, MEDIASOUP_CHANNEL_FD: "" } });
    const [code] = await new Promise((resolve) => orphan.once("exit", (...args) => resolve(args)));
    assert.ok(code > 0);
  });
});
