// RTMP pushed and pulled, files played, all asked for over HTTP: nginx and ffmpeg at the other end, Chromium watching.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { WebSocket } from "ws";

import { Browser } from "./lib/browser.mjs";
import { Encoder, nginxServer, picture, sound } from "./lib/encoder.mjs";
import { smooth, tone } from "./lib/judge.mjs";
import { Server, freePorts, until } from "./lib/server.mjs";

const run = promisify(execFile);
// Milliseconds one test may take on a slow machine.
const LIMIT = { timeout: 120_000 };
const KEY = "a-key-for-tests-only";
const plain = { video: ["-bf", "0", "-preset", "veryfast", "-g", "60"] };

/** Asks the API; answers status and body. */
async function api(server, method, rest, body) {
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
  const response = await fetch(server.url(`api/${rest}`), { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

/** Begins a stream and waits until it is in a state. */
async function begin(server, room, kind, wanted, state = "live") {
  const { status, body } = await api(server, "POST", `rooms/${room}/${kind}`, wanted);
  assert.equal(status, 201, JSON.stringify(body));
  await reaches(server, room, body.id, state);
  return body.id;
}

function reaches(server, room, id, state, ms = 20000) {
  let last;
  return until(`stream ${id} is ${state}`, async () => {
    last = (await api(server, "GET", `rooms/${room}/streams/${id}`)).body;
    return last.state === state && last;
  }, ms).catch((error) => assert.fail(`${error.message}: ${JSON.stringify(last)}`));
}

/** What ffprobe decodes of a stream within some seconds, by kind. */
async function decoded(url, seconds = 5) {
  const { stdout } = await run("ffprobe", ["-v", "error", "-rw_timeout", "20000000", "-read_intervals", `%+${seconds}`,
    "-count_frames", "-show_entries", "stream=codec_type,codec_name,width,nb_read_frames", "-of", "json", url], { timeout: 60000 });
  return Object.fromEntries(JSON.parse(stdout).streams.map((stream) => [stream.codec_type, stream]));
}

describe("streams", { timeout: 900_000 }, () => {
  let server, browser, nginx, port, media;
  before(async () => {
    media = fs.mkdtempSync(path.join(os.tmpdir(), "media."));
    port = await freePorts();
    nginx = await nginxServer(port);
    const keys = `[{name: boss, key: ${KEY}, actions: [watch, publish, control]}]`;
    server = await Server.start({
      set: { demo: false, "auth.keys": keys, "egress.allow": '["127.0.0.1"]', "streams.retry_min_ms": 200, media_dir: media },
    });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.stop();
    await server?.stop();
    await nginx?.stop();
    fs.rmSync(media, { recursive: true, force: true });
  });

  const target = (name) => `rtmp://127.0.0.1:${port}/live/${name}`;

  test("a room of an RTMP publisher is pushed to nginx and decodes there", LIMIT, async (t) => {
    const encoder = Encoder.rtmp(server.rtmpUrl("out"), plain);
    t.after(() => encoder.stop());
    await server.live("out");
    const id = await begin(server, "out", "pushes", { url: target("out-k3y") });
    const got = await decoded(target("out-k3y"));
    assert.equal(got.video.codec_name, "h264");
    assert.equal(got.audio.codec_name, "aac");
    assert.ok(got.video.nb_read_frames >= 60, `${got.video.nb_read_frames} pictures in 5 s`);
    assert.ok(got.audio.nb_read_frames >= 100, `${got.audio.nb_read_frames} frames of sound in 5 s`);
    const peers = (await api(server, "GET", "rooms/out/peers")).body;
    assert.ok(peers.some((peer) => peer.kind === "push"), "the push is a peer of the room");
    const { body } = await api(server, "GET", "rooms/out/pushes");
    assert.equal(body.length, 1);
    assert.ok(!JSON.stringify(body).includes("out-k3y") && !server.log.includes("out-k3y"), "the key is shown to nobody");
    assert.equal((await api(server, "DELETE", `rooms/out/streams/${id}`)).status, 204);
    await reaches(server, "out", id, "ended");
  });

  test("a room whose sound is Opus is pushed as AAC, and so is a mix", LIMIT, async (t) => {
    const sources = [1, 2].map((id) => {
      const name = `camera${id}`;
      return Encoder.whip(server.url(`talk/whip?name=${name}`), server.key, { id });
    });
    t.after(() => Promise.all(sources.map((source) => source.stop())));
    await until("both publish", async () => (await server.room("talk"))?.publishers.filter((one) => one.tracks.length === 2).length === 2, 40000);
    const one = await begin(server, "talk", "pushes", { url: target("one"), peer: "camera1" });
    const all = await begin(server, "talk", "pushes", { url: target("all") });
    for (const name of ["one", "all"]) {
      const got = await decoded(target(name));
      assert.equal(got.audio?.codec_name, "aac", `${name}: ${JSON.stringify(got)}`);
      assert.ok(got.audio.nb_read_frames >= 100, `${name}: ${got.audio.nb_read_frames} frames of sound in 5 s`);
      assert.ok(got.video.nb_read_frames >= 60, `${name}: ${got.video.nb_read_frames} pictures in 5 s`);
      const { stderr } = await run("ffmpeg", ["-hide_banner", "-rw_timeout", "20000000", "-i", target(name), "-t", "4", "-vn",
        "-af", "astats=measure_perchannel=none", "-f", "null", "-"], { timeout: 60000 });
      const level = Number(/RMS level dB: (-?[\d.]+)/.exec(stderr)?.[1]);
      assert.ok(level > -40 && level < -3, `${name}: sound at ${level} dB`);
    }
    for (const id of [one, all]) await api(server, "DELETE", `rooms/talk/streams/${id}`);
  });

  test("a room of Opus goes to another Viaduct over RTMPS as it is", LIMIT, async (t) => {
    const secure = await freePorts();
    const other = await Server.start({ set: { demo: false, "rtmp.tls_listen": `127.0.0.1:${secure}` }, args: ["--dev"] });
    t.after(() => other.stop());
    const near = await Server.start({
      set: {
        demo: false,
        "auth.keys": `[{name: boss, key: ${KEY}, actions: [watch, publish, control]}]`,
        "egress.allow": '["localhost"]',
        "egress.ca": path.join(other.state, "state/dev-cert.pem"),
      },
    });
    t.after(() => near.stop());
    const source = Encoder.whip(near.url("stage/whip"), near.key, { id: 3 });
    t.after(() => source.stop());
    await near.live("stage");
    await begin(near, "stage", "pushes", { url: `rtmps://localhost:${secure}/far/${other.key}` });
    await until("picture and sound arrive", () => /codec="audio\/opus"/.test(other.log) && /codec="video\/H264"/.test(other.log), 20000);
    assert.ok(!near.log.includes(other.key), "the key is not in the log");
    // Without the authority the certificate is none.
    await begin(server, "stranger", "pushes", { url: `rtmps://127.0.0.1:${secure}/far/${other.key}` }, "waiting");
    const [stranger] = (await api(server, "GET", "rooms/stranger/pushes")).body;
    assert.match(stranger.reason, /TLS/);
    await api(server, "DELETE", `rooms/stranger/streams/${stranger.id}`);
  });

  test("a push goes on when its target comes back", LIMIT, async (t) => {
    const other = await freePorts();
    let relay = await nginxServer(other);
    t.after(() => relay.stop());
    const encoder = Encoder.rtmp(server.rtmpUrl("again"), plain);
    t.after(() => encoder.stop());
    await server.live("again");
    const id = await begin(server, "again", "pushes", { url: `rtmp://127.0.0.1:${other}/live/x` });
    await relay.stop("SIGKILL");
    const waiting = await reaches(server, "again", id, "waiting");
    assert.ok(waiting.reason, "it says what broke");
    relay = await nginxServer(other);
    await reaches(server, "again", id, "live");
    const got = await decoded(`rtmp://127.0.0.1:${other}/live/x`, 3);
    assert.ok(got.video.nb_read_frames >= 30);
    await api(server, "DELETE", `rooms/again/streams/${id}`);
  });

  test("a stream is pulled from nginx and plays in Chromium", LIMIT, async (t) => {
    const encoder = Encoder.rtmp(target("in"), plain);
    t.after(() => encoder.stop());
    const id = await begin(server, "in", "pulls", { url: target("in"), name: "camera" });
    await server.live("in");
    const peers = (await api(server, "GET", "rooms/in/peers")).body;
    assert.deepEqual(peers.map((peer) => [peer.kind, peer.name]), [["pull", "camera"]]);
    const viewer = await browser.watch(server.url("in/whep"));
    await viewer.frames(60);
    const report = await viewer.run(8);
    smooth(report);
    tone(report);
    await viewer.page.close();
    await encoder.stop();
    await reaches(server, "in", id, "waiting", 60000);
    await api(server, "DELETE", `rooms/in/streams/${id}`);
  });

  test("targets in networks of one's own are refused unless they are allowed", LIMIT, async () => {
    for (const host of ["10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "192.168.0.1"]) {
      for (const kind of ["pushes", "pulls"]) {
        const { status, body } = await api(server, "POST", `rooms/x/${kind}`, { url: `rtmp://${host}/live/x` });
        assert.deepEqual([status, body.code], [403, "forbidden_target"], `${kind} ${host}`);
      }
    }
    assert.equal((await api(server, "POST", "rooms/x/pushes", { url: "http://127.0.0.1/" })).status, 400);
  });

  test("files play: MP4 with B-frames and AAC, Matroska with Opus, WAV", LIMIT, async () => {
    const source = ["-v", "error", "-y", "-f", "lavfi", "-i", picture(), "-f", "lavfi", "-i", sound()];
    const x264 = ["-t", "8", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "60"];
    execFileSync("ffmpeg", [...source, ...x264, "-c:a", "aac", "-ac", "2", path.join(media, "b-frames.mp4")]);
    execFileSync("ffmpeg", [...source, ...x264, "-bf", "0", "-c:a", "libopus", path.join(media, "plain.mkv")]);
    const wav = ["-v", "error", "-y", "-f", "lavfi", "-i", sound({ rate: 44100 }), "-t", "4", "-ac", "2"];
    execFileSync("ffmpeg", [...wav, path.join(media, "sound.wav")]);
    for (const file of ["b-frames.mp4", "plain.mkv"]) {
      const room = file.split(".")[0];
      const id = await begin(server, room, "players", { file, loop: true });
      await server.live(room);
      const viewer = await browser.watch(server.url(`${room}/whep`));
      await viewer.frames(60);
      const report = await viewer.run(6);
      assert.ok(report.frames.length > 120, `${file}: ${report.frames.length} pictures`);
      assert.ok(report.damaged <= report.frames.length * 0.02, `${file}: ${report.damaged} damaged pictures`);
      tone(report);
      await viewer.page.close();
      await api(server, "DELETE", `rooms/${room}/streams/${id}`);
      await reaches(server, room, id, "ended");
    }
    const id = await begin(server, "wav", "players", { file: "sound.wav" });
    const ended = await reaches(server, "wav", id, "ended");
    assert.match(ended.reason, /end/);
  });

  test("a player is held and goes on; what lies elsewhere is not played", LIMIT, async () => {
    execFileSync("ffmpeg", ["-v", "error", "-y", "-f", "lavfi", "-i", sound(), "-t", "2", path.join(media, "two.wav")]);
    fs.symlinkSync("/etc/hostname", path.join(media, "link.wav"));
    fs.writeFileSync(path.join(media, "text.wav"), "no sound at all");
    for (const file of ["../two.wav", "link.wav", "none.wav", "/etc/passwd", ""]) {
      const { status, body } = await api(server, "POST", "rooms/held/players", { file });
      assert.deepEqual([status, body.code], [404, "unknown_file"], file);
    }
    assert.equal((await api(server, "POST", "rooms/held/players", { file: "text.wav" })).status, 400);
    const id = await begin(server, "held", "players", { file: "two.wav" });
    const held = await api(server, "PATCH", `rooms/held/streams/${id}`, { paused: true });
    assert.deepEqual([held.status, held.body.state], [200, "paused"]);
    // Longer than the file: it would be over if it played on.
    await new Promise((resolve) => setTimeout(resolve, 4000));
    assert.equal((await api(server, "GET", `rooms/held/streams/${id}`)).body.state, "paused");
    await api(server, "PATCH", `rooms/held/streams/${id}`, { paused: false });
    await reaches(server, "held", id, "ended");
  });

  test("controllers are told how streams get on", LIMIT, async () => {
    execFileSync("ffmpeg", ["-v", "error", "-y", "-f", "lavfi", "-i", sound(), "-t", "1", path.join(media, "one.wav")]);
    const headers = { authorization: `Bearer ${KEY}` };
    const stream = await fetch(server.url("api/events"), { headers });
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await api(server, "POST", "control/room.watch", { watchId: 1, room: "told" })).status, 200);
    assert.equal((await api(server, "POST", "control/stream.play", { room: "told", file: "one.wav" })).status, 200);
    let text = "";
    await until("the end is told", async () => {
      text += (await reader.read()).value ?? "";
      return text.includes('"state":"ended"');
    });
    assert.ok(text.indexOf('"state":"live"') > 0 && text.includes('"kind":"file"') && text.includes("event: peerleft"));
    await reader.cancel();
  });

  test("a page brings its key to the control protocol in the address", LIMIT, async () => {
    const connect = (token) => new WebSocket(`ws://127.0.0.1:${server.http}/control?token=${token}`, ["viaduct-json"]);
    const socket = connect(KEY);
    const answer = new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => resolve(JSON.parse(data));
      socket.onerror = () => reject(new Error("not let in"));
    });
    socket.onopen = () => socket.send(JSON.stringify({ id: 1, method: "room.list" }));
    assert.equal((await answer).accepted, true);
    socket.close();
    for (const token of ["wrong", server.key]) {
      const refused = connect(token);
      await new Promise((resolve, reject) => {
        refused.onerror = resolve;
        refused.onopen = () => reject(new Error(`let in with ${token}`));
      });
    }
  });

  test("every path of the description is there, and closed to strangers", LIMIT, async () => {
    const document = await (await fetch(server.url("api/openapi.json"))).json();
    const stand = { room: "walk", conn: "0".repeat(32), producer: "1", consumer: "1", stream: "0".repeat(32), call: "0".repeat(32) };
    let walked = 0;
    for (const [template, methods] of Object.entries(document.paths)) {
      // Calls need a SIP door, a stream of events a reader.
      if (template.startsWith("/api/calls") || template === "/api/events") continue;
      const rest = template.replace(/^\//, "").replace(/\{(\w+)\}/g, (_, name) => stand[name]);
      for (const [method, operation] of Object.entries(methods)) {
        // What names its room in the body cannot be judged without it.
        const named = template === "/api/rooms" ? '{"name": "walk"}' : "{}";
        const body = method === "get" || method === "delete" ? undefined : named;
        const send = (headers) => fetch(server.url(rest), { method: method.toUpperCase(), body, headers: { "content-type": "application/json", ...headers } });
        const known = await send({ authorization: `Bearer ${KEY}` });
        const listed = Object.keys(operation.responses);
        const usual = ["400", "401", "403", "422"];
        const answer = await known.text();
        assert.ok([...listed, ...usual].includes(String(known.status)), `${method} ${template}: ${known.status} ${answer}`);
        if (known.status >= 400) assert.ok(JSON.parse(answer).code, `${method} ${template} refuses without a code: ${answer}`);
        const stranger = await send({});
        const open = ["/api/rooms", "/api/rooms/{room}"].includes(template) && method === "get";
        if (!open) assert.equal(stranger.status, 401, `${method} ${template} without a key`);
        const token = await send({ authorization: `Bearer ${server.key}` });
        if (!open) assert.equal(token.status, 403, `${method} ${template} with a key that may only publish`);
        walked += 1;
      }
    }
    assert.ok(walked > 90, `${walked} operations`);
  });
});
