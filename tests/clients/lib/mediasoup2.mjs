// The npm package mediasoup 2.6.19, unmodified, over our worker; a small room server in front of it, and participants.

import { fork } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import esbuild from "esbuild";

import { binary } from "./server.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "mediasoup2."));
process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));

/** The link by which the program knows that it is a worker. */
export const worker = path.join(folder, "mediasoup-worker");
fs.symlinkSync(path.resolve(binary), worker);
process.env.MEDIASOUP_WORKER_PATH = worker;
export const mediasoup = createRequire(import.meta.url)("mediasoup");

export const CODECS = [
  { kind: "audio", name: "opus", clockRate: 48000, channels: 2 },
  { kind: "video", name: "VP8", clockRate: 90000 },
  { kind: "video", name: "H264", clockRate: 90000, parameters: { "packetization-mode": 1, "profile-level-id": "42e01f" } },
];

/** The server's side of one participant. */
export class Seat {
  constructor(room, tell) {
    Object.assign(this, { room, tell });
    this.told = [];
  }

  async request(message) {
    if (message.target !== "room") return this.peer.receiveRequest(message);
    const answer = await this.room.receiveRequest(message);
    if (message.method === "join") {
      this.peer = this.room.getPeerByName(message.peerName);
      this.peer.on("notify", (notification) => {
        this.told.push(notification);
        this.tell(notification);
      });
    }
    return answer;
  }

  notify(message) {
    return this.peer.receiveNotification(message);
  }
}

/** A participant in a process of its own. */
export class NodeParty {
  static async start(room, sound = {}) {
    const party = new NodeParty();
    party.child = fork(path.join(here, "node2.mjs"), { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    party.log = "";
    party.child.stderr.on("data", (data) => (party.log += data));
    party.seat = new Seat(room, (notification) => party.send({ notified: notification }));
    party.orders = new Map();
    party.child.on("message", (message) => party.take(message));
    party.ended = new Promise((resolve) => party.child.once("exit", resolve));
    party.ended.then(() => party.orders.forEach(({ reject }) => reject(new Error(`the participant ended: ${party.log}`))));
    await party.do("sound", { hertz: 440, id: 1, ...sound });
    return party;
  }

  send(message) {
    if (this.child.connected) this.child.send(message, () => {});
  }

  async take(message) {
    if ("request" in message) {
      const answer = await this.seat.request(message.message).then((data) => ({ data }), (error) => ({ error: error.message }));
      this.send({ answered: message.request, ...answer });
    } else if ("notify" in message) {
      await this.seat.notify(message.notify);
    } else {
      const { resolve, reject } = this.orders.get(message.done);
      this.orders.delete(message.done);
      message.error === undefined ? resolve(message.data) : reject(new Error(message.error));
    }
  }

  do(what, ...args) {
    return new Promise((resolve, reject) => {
      const order = (this.order = (this.order ?? 0) + 1);
      this.orders.set(order, { resolve, reject });
      this.send({ order, do: what, args });
    });
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

let bundle;

/** A participant in a page of a browser. */
export class PageParty {
  static async start(browser, room, sound = {}) {
    const party = new PageParty();
    bundle ??= esbuild.build({
      entryPoints: [path.join(here, "page2.js")],
      bundle: true,
      write: false,
      format: "iife",
      define: { global: "window" },
      logLevel: "error",
    });
    const code = (await bundle).outputFiles[0].text;
    party.page = await browser.page();
    party.seat = new Seat(room, (notification) => {
      party.page.evaluate((n) => window.party.notified(n), notification).catch(() => {});
    });
    await party.page.exposeFunction("toRoom", async ({ request, notify }) => {
      if (notify) return void (await party.seat.notify(notify));
      return party.seat.request(request).then((data) => ({ data }), (error) => ({ error: error.message }));
    });
    await party.page.addScriptTag({ content: code });
    await party.do("sound", { hertz: 440, id: 1, ...sound });
    return party;
  }

  do(what, ...args) {
    return this.page.evaluate((what, args) => window.orders[what](...args), what, args);
  }

  async stop() {
    await this.page.close().catch(() => {});
  }
}
