// The program as a whole: start, stop, ports, configuration, pages, and bytes that mean harm.

import assert from "node:assert/strict";
import crypto from "node:crypto";
import dgram from "node:dgram";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { Encoder } from "./lib/encoder.mjs";
import { Server, freePorts, once, root, until } from "./lib/server.mjs";

const shots = path.join(root, ".cache/shots");

// Milliseconds one test may take on a slow machine.
const LIMIT = { timeout: 120_000 };

describe("the program", { timeout: 300_000 }, () => {
  test("prints what a person needs, in order, and keeps the key to itself", LIMIT, async (t) => {
    const server = await Server.start();
    t.after(() => server.stop());
    const order = [
      /Page +http:\/\/\S+:\d+\/\n/,
      /OBS over RTMP, server +rtmp:\/\/\S+\n/,
      /stream key .*publish\.key/,
      /OBS over WHIP, server +http:\/\/\S+\/whip\n/,
      /bearer token .*publish\.key/,
      /WHEP of the demo room +http:\/\/\S+\/demo\/whep\n/,
      new RegExp(`Port ${server.http}/tcp +\\S+`),
      new RegExp(`Port ${server.rtmp}/tcp +\\S+`),
      new RegExp(`Port ${server.media}/udp +\\S+`),
      new RegExp(`Port ${server.media}/tcp +\\S+`),
    ];
    const places = order.map((part) => server.output.search(part));
    assert.ok(places.every((place, at) => place >= 0 && (at === 0 || place > places[at - 1])), `${places}\n${server.output}`);
    assert.ok(!server.output.includes(server.key) && !server.log.includes(server.key), "no key outside a terminal");
    const file = path.join(server.state, "state/publish.key");
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    assert.equal(fs.statSync(path.dirname(file)).mode & 0o777, 0o700);
  });

  for (const [what, key] of [["HTTP", "http"], ["RTMP", "rtmp"], ["media", "media"]]) {
    test(`a ${what} port that is taken stops the start with its name`, LIMIT, async (t) => {
      const first = await freePorts(3);
      const ports = { http: first, rtmp: first + 1, media: first + 2 };
      let holder;
      if (key === "media") {
        holder = dgram.createSocket("udp6");
        await new Promise((resolve) => holder.bind(ports.media, resolve));
      } else {
        holder = net.createServer();
        await new Promise((resolve) => holder.listen(ports[key], "::", resolve));
      }
      t.after(() => holder.close());
      const state = fs.mkdtempSync(path.join(os.tmpdir(), "viaduct."));
      t.after(() => fs.rmSync(state, { recursive: true, force: true }));
      const sets = [`state_dir=${state}`, `http.listen=["[::]:${ports.http}"]`, `rtmp.listen=[::]:${ports.rtmp}`, `webrtc.port=${ports.media}`, "control.listen=null"];
      const run = once(sets.flatMap((set) => ["--set", set]));
      assert.equal(run.status, 1, run.stderr);
      assert.match(run.stderr, new RegExp(`port ${ports[key]}\\b`));
      assert.match(run.stderr, new RegExp(`node.*pid ${process.pid}\\b`));
    });
  }

  for (const signal of ["SIGTERM", "SIGINT"]) {
    test(`${signal} tells publishers and viewers and ends with 0`, LIMIT, async (t) => {
      const server = await Server.start();
      const browser = await Browser.start();
      t.after(() => browser.stop());
      const encoder = Encoder.rtmp(server.rtmpUrl("stage"), { video: ["-bf", "0"] });
      t.after(() => encoder.stop());
      await server.live("stage");
      const viewer = await browser.watch(server.url("stage/whep"));
      await viewer.frames(10);
      const from = Date.now();
      const { code, signal: killed } = await server.stop(signal);
      assert.deepEqual({ code, killed }, { code: 0, killed: null }, server.log);
      assert.ok(Date.now() - from < 5000, `it took ${Date.now() - from} ms`);
      await until("the viewer is told", async () => (await viewer.report()).dtls === "closed", 2000);
      await until("the encoder has ended", () => !encoder.running);
      assert.doesNotMatch(server.log, /panic/i);
    });
  }

  test("check says what is wrong, and where", LIMIT, () => {
    const good = once(["check", "config/viaduct.yml"]);
    assert.deepEqual([good.status, good.stdout], [0, "ok\n"]);
    const file = path.join(os.tmpdir(), `bad.${process.pid}.yml`);
    fs.writeFileSync(file, "demo: true\nhttp:\n  lisen: x\n");
    const bad = once(["check", file]);
    fs.rmSync(file);
    assert.equal(bad.status, 1);
    assert.match(bad.stderr, /yml:3:3: .*`lisen`.*`listen`/);
    const missing = once(["check", "no/such/file.yml"]);
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /no\/such\/file\.yml: no such file/);
    const env = once(["check", "config/viaduct.yml"], { env: { ...process.env, VIADUCT_HTTP__LISEN: "x" } });
    assert.equal(env.status, 1);
    assert.match(env.stderr, /VIADUCT_HTTP__LISEN/);
    assert.match(once(["--version"]).stdout, /^viaduct \d+\.\d+\.\d+\n$/);
    assert.match(once(["--help"]).stdout, /check/);
  });

  test("the certificate and the key outlive a restart", LIMIT, async (t) => {
    const state = fs.mkdtempSync(path.join(os.tmpdir(), "viaduct."));
    t.after(() => fs.rmSync(state, { recursive: true, force: true }));
    const folder = path.join(state, "state");
    const read = () => fs.readdirSync(folder).sort().map((name) => [name, fs.readFileSync(path.join(folder, name), "utf8")]);
    const kept = [];
    for (let round = 0; round < 2; round++) {
      const server = await Server.start({ home: state });
      kept.push(read());
      await server.stop();
    }
    assert.deepEqual(kept[0], kept[1]);
    assert.ok(kept[0].length >= 2);
  });
});

describe("pages", { timeout: 300_000 }, () => {
  test("the first page lists rooms, the demo room moves", LIMIT, async (t) => {
    const server = await Server.start();
    t.after(() => server.stop());
    const browser = await Browser.start();
    t.after(() => browser.stop());
    fs.mkdirSync(shots, { recursive: true });
    const page = await browser.puppet.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("requestfailed", (request) => faults.push(`${request.url()} ${request.failure()?.errorText}`));
    const hosts = new Set();
    page.on("request", (request) => /^https?:/.test(request.url()) && hosts.add(new URL(request.url()).host));
    await page.setViewport({ width: 1280, height: 800 });
    await server.live("demo");
    await page.goto(server.url(""));
    await page.waitForFunction(() => document.body.innerText.toLowerCase().includes("demo"), { timeout: 10000 });
    await page.screenshot({ path: path.join(shots, "home.png") });
    await page.goto(server.url("demo"));
    const moving = () => page.evaluate(() => {
      const video = document.querySelector("video");
      if (!video?.videoWidth) return null;
      const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 18 });
      const context = canvas.getContext("2d");
      context.drawImage(video, 0, 0, 32, 18);
      return context.getImageData(0, 0, 32, 18).data.join();
    });
    const pictures = new Set();
    await until("the demo picture moves", async () => {
      const picture = await moving();
      if (picture) pictures.add(picture);
      return pictures.size >= 5;
    }, 20000);
    await page.screenshot({ path: path.join(shots, "demo.png") });
    await page.setViewport({ width: 390, height: 844, isMobile: true });
    await page.screenshot({ path: path.join(shots, "demo-phone.png") });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    assert.equal(wide, false, "nothing sticks out on a phone");
    assert.deepEqual([...hosts], [new URL(server.origin).host], "no third-party host");
    assert.deepEqual(faults, []);
  });

  test("a browser publishes from the page and another one sees it", LIMIT, async (t) => {
    const server = await Server.start({ set: { demo: false } });
    t.after(() => server.stop());
    const browser = await Browser.start();
    t.after(() => browser.stop());
    fs.mkdirSync(shots, { recursive: true });
    const studio = await browser.puppet.newPage();
    await studio.setViewport({ width: 1280, height: 800 });
    await studio.goto(`http://127.0.0.1:${server.http}/studio/publish`);
    await studio.waitForSelector("#go:not([disabled])");
    await studio.type("#token", server.key);
    await studio.screenshot({ path: path.join(shots, "publish.png") });
    await studio.click("#go");
    await server.live("studio");
    await studio.screenshot({ path: path.join(shots, "publishing.png") });
    const page = await browser.puppet.newPage();
    await page.goto(server.url("studio"));
    await page.waitForFunction(() => document.querySelector("video")?.videoWidth > 0, { timeout: 15000 });
    await page.waitForFunction(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames > 30, { timeout: 15000 });
  });

  test("a page without anything live waits, and plays when it comes", LIMIT, async (t) => {
    const server = await Server.start({ set: { demo: false } });
    t.after(() => server.stop());
    const browser = await Browser.start();
    t.after(() => browser.stop());
    const page = await browser.puppet.newPage();
    await page.goto(server.url("later"));
    await page.waitForFunction(() => /wait|nothing|not live|yet/i.test(document.body.innerText), { timeout: 10000 });
    const encoder = Encoder.rtmp(server.rtmpUrl("later"), { video: ["-bf", "0"] });
    t.after(() => encoder.stop());
    await page.waitForFunction(() => document.querySelector("video")?.videoWidth > 0, { timeout: 30000 });
  });

  test("--dev serves HTTPS with a certificate that it keeps", LIMIT, async (t) => {
    const server = await Server.start({ args: ["--dev"] });
    t.after(() => server.stop());
    assert.equal(server.scheme, "https");
    const browser = await Browser.start("chromium", { insecure: true });
    t.after(() => browser.stop());
    const page = await browser.puppet.newPage();
    await page.goto(server.url("demo"));
    assert.equal(await page.evaluate(() => window.isSecureContext), true);
    await page.waitForFunction(() => document.querySelector("video")?.videoWidth > 0, { timeout: 15000 });
  });
});

describe("bad input", { timeout: 180_000 }, () => {
  test("garbage on every port ends nobody else's session", LIMIT, async (t) => {
    const server = await Server.start();
    t.after(() => server.stop());
    const browser = await Browser.start();
    t.after(() => browser.stop());
    const seed = crypto.createHash("sha256").update("viaduct").digest();
    const bytes = (label, length) => crypto.createCipheriv("aes-256-ctr", crypto.createHash("sha256").update(seed).update(label).digest(), Buffer.alloc(16)).update(Buffer.alloc(length));
    const encoder = Encoder.rtmp(server.rtmpUrl("stage"), { video: ["-bf", "0", "-preset", "veryfast"] });
    t.after(() => encoder.stop());
    await server.live("stage");
    const viewer = await browser.watch(server.url("stage/whep"));
    await viewer.frames(30);
    // An RTMP handshake that is right, and then not.
    const handshake = Buffer.concat([Buffer.from([3]), Buffer.alloc(8), bytes("c1", 1528), bytes("c2", 1536)]);
    const tcp = (port, data, end) => new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () => {
        socket.write(data);
        if (end) socket.end();
        else setTimeout(() => socket.destroy(), 500);
      });
      socket.on("error", () => {});
      socket.on("data", () => {});
      socket.on("close", resolve);
    });
    const udp = dgram.createSocket("udp4");
    const attacks = [];
    for (let round = 0; round < 20; round++) {
      for (const port of [server.http, server.rtmp, server.media]) {
        attacks.push(tcp(port, bytes(`tcp${round}${port}`, 1 + round * 700), round % 2 === 0));
      }
      attacks.push(tcp(server.rtmp, Buffer.concat([handshake, bytes(`chunks${round}`, 5000)]), round % 2 === 0));
      attacks.push(tcp(server.http, Buffer.concat([Buffer.from("POST /stage/whep HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 900\r\n\r\n"), bytes(`sdp${round}`, 900)]), true));
      // A frame of RFC 4571 whose inside means nothing.
      attacks.push(tcp(server.media, Buffer.concat([Buffer.from([0, 100]), bytes(`frame${round}`, 100)]), true));
      for (const first of [0, 1, 20, 22, 23, 64, 128, 144, 200, 255]) {
        const data = bytes(`udp${round}${first}`, 1 + ((round * 61) % 1400));
        data[0] = first;
        udp.send(data, server.media, "127.0.0.1");
      }
    }
    await Promise.all(attacks);
    udp.close();
    const before = await viewer.now();
    await viewer.frames(60, { since: before });
    const fresh = await browser.watch(server.url("stage/whep"));
    await fresh.frames(30);
    assert.equal((await viewer.report()).state, "connected");
    assert.ok(encoder.running);
    assert.doesNotMatch(server.log, /panic/i);
    assert.ok(server.log.split("\n").length < 400, `the log has ${server.log.split("\n").length} lines`);
  });
});
