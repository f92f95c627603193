// Real baresip phones, by way of phones.py.

import { spawn } from "node:child_process";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

import { readPicture } from "./encoder.mjs";
import { freePorts } from "./server.mjs";

const script = path.join(path.dirname(fileURLToPath(import.meta.url)), "phones.py");
let driver, last = 0;
const waiting = new Map();

function ask(op, phone, ...args) {
  if (!driver) {
    driver = spawn("python3", [script], { stdio: ["pipe", "pipe", "inherit"] });
    driver.unref();
    readline.createInterface({ input: driver.stdout }).on("line", (line) => {
      const { id, result, error } = JSON.parse(line);
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(result);
    });
  }
  return new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    driver.stdin.write(JSON.stringify({ id: last, op, phone, args }) + "\n");
  });
}

/** Ends the driver; no phone may be used any more. */
export function hangUpAll() {
  driver?.stdin.end();
  driver = undefined;
}

export class Phone {
  /** Starts a phone that plays a tone of `hz`. */
  static async start({ user, hz, codecs = ["pcma"], ...more }) {
    const phone = new Phone();
    phone.name = `${user}-${hz}-${last}`;
    await ask("start", phone.name, { user, port: await freePorts(3), hz, codecs, ...more });
    return phone;
  }

  /** Calls and waits for the answer. */
  async call(uri, seconds = 10) {
    await ask("command", this.name, "dial", uri);
    return ask("event", this.name, "CALL_ESTABLISHED", seconds);
  }

  command(name, params = "") {
    return ask("command", this.name, name, params);
  }

  event(kind, seconds = 10, count = 1) {
    return ask("event", this.name, kind, seconds, count);
  }

  keys(digits) {
    return ask("keys", this.name, digits);
  }

  keysHeard() {
    return ask("keysheard", this.name);
  }

  packets() {
    return ask("packets", this.name);
  }

  /** The number and source of the picture it shows now (see encoder.mjs); null when it shows none, or a damaged one. */
  async picture() {
    const shown = await ask("picture", this.name);
    if (!shown) return null;
    const [width, height, rows] = [shown[0], shown[1], Buffer.from(shown[2], "base64")];
    return { width, height, ...readPicture((x, y) => rows[Math.floor(y * height) * width + Math.floor(x * width)]) };
  }

  /** Which share of what it heard in the last second lay at `hz`. */
  lately(hz) {
    return ask("lately", this.name, hz);
  }

  kill() {
    return ask("kill", this.name);
  }

  /** Hangs up, ends, and says which share of what was heard lay at each frequency. */
  async stop(...frequencies) {
    await ask("stop", this.name);
    const shares = [];
    for (const hz of frequencies) shares.push(await ask("heard", this.name, hz));
    await ask("remove", this.name);
    return shares;
  }
}
