// Participants with mediasoup-client, in processes and in pages. For generation 2, `sit` makes one's way to its room: called
// with what to do with a notification, it gives { request(message), notify(message) }. Those of generation 3 have none:
// they connect by themselves.

import { fork } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

import esbuild from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));

/** A participant in a process of its own. */
export class NodeParty {
  static async start(sit, sound = {}) {
    const party = new NodeParty();
    party.child = fork(path.join(here, sit ? "node2.mjs" : "node3.mjs"), { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    party.log = "";
    party.child.stderr.on("data", (data) => (party.log += data));
    party.seat = await sit?.((notification) => party.send({ notified: notification }));
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

const bundles = new Map();

/** A script with all it imports, as one. */
export function bundle(name) {
  if (!bundles.has(name)) {
    bundles.set(name, esbuild.build({
      entryPoints: [path.join(here, name)],
      bundle: true,
      write: false,
      format: "iife",
      define: { global: "window" },
      logLevel: "error",
    }));
  }
  return bundles.get(name);
}

/** A participant in a page of a browser; given a URL, the page connects to it by itself. */
export class PageParty {
  static async start(browser, sit, sound = {}) {
    const party = new PageParty();
    const code = (await bundle(sit ? "page2.js" : "page3.js")).outputFiles[0].text;
    party.page = await browser.page();
    if (sit && typeof sit !== "string") await party.expose(sit);
    await party.page.addScriptTag({ content: code });
    await party.do("sound", { hertz: 440, id: 1, ...sound });
    if (typeof sit === "string") await party.do("connect", sit);
    return party;
  }

  async expose(sit) {
    this.seat = await sit((notification) => {
      this.page.evaluate((n) => window.party.notified(n), notification).catch(() => {});
    });
    await this.page.exposeFunction("toRoom", async ({ request, notify }) => {
      if (notify) return void (await this.seat.notify(notify));
      return this.seat.request(request).then((data) => ({ data }), (error) => ({ error: error.message }));
    });
  }

  do(what, ...args) {
    return this.page.evaluate((what, args) => window.orders[what](...args), what, args);
  }

  async stop() {
    await this.page.close().catch(() => {});
  }
}
