// Controllers in both forms of the control protocol, over any stream of bytes or a WebSocket.

import net from "node:net";

import { until } from "./server.mjs";

class Controller {
  constructor() {
    this.events = [];
    this.answers = new Map();
    this.next = 0;
    this.closed = new Promise((resolve) => (this.over = resolve));
    this.isClosed = false;
    this.closed.then(() => (this.isClosed = true));
  }

  /** Over TCP (`port`) or a UNIX socket (`path`). */
  static async connect(where) {
    const controller = new this();
    const socket = net.connect(where);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    controller.socket = socket;
    let rest = Buffer.alloc(0);
    socket.on("data", (data) => (rest = controller.cut(Buffer.concat([rest, data]))));
    socket.on("error", () => {});
    socket.on("close", () => controller.over());
    controller.write = (bytes) => socket.write(bytes);
    return controller;
  }

  /** Over an open WebSocket of the package `ws`. */
  static over(socket) {
    const controller = new this();
    controller.socket = { destroy: () => socket.terminate() };
    socket.on("message", (data) => controller.message(data.toString()));
    socket.on("close", (code, reason) => controller.over({ code, reason: reason.toString() }));
    controller.write = (text) => socket.send(text);
    controller.bare = true;
    return controller;
  }

  /** Asks, and gives the answer's data; a refusal is thrown with its code. */
  async ask(method, internal = {}, data = {}) {
    const id = ++this.next;
    const answer = new Promise((resolve) => this.answers.set(id, resolve));
    this.send(id, method, internal, data);
    const result = await Promise.race([answer, this.closed.then(() => ({ code: "closed" }))]);
    if (result.ok) return result.data;
    throw Object.assign(new Error(`${method}: ${result.code}: ${result.reason}`), { code: result.code });
  }

  /** The code with which a request is refused. */
  async refusal(method, internal, data) {
    return this.ask(method, internal, data).then(() => null, (error) => error.code);
  }

  heard(id, result) {
    this.answers.get(id)?.(result);
    this.answers.delete(id);
  }

  /** Resolves with the first event of that name for which `fits` holds. */
  event(name, fits = () => true, ms = 20000) {
    return until(`event ${name}`, () => this.events.find((event) => event.event === name && fits(event.data, event)), ms);
  }

  close() {
    this.socket.destroy();
  }
}

export class JsonController extends Controller {
  send(id, method, internal, data) {
    const json = JSON.stringify({ id, method, internal, data });
    this.write(this.bare ? json : `${Buffer.byteLength(json)}:${json},`);
  }

  cut(bytes) {
    for (;;) {
      const colon = bytes.indexOf(":");
      const end = colon + 1 + Number(bytes.subarray(0, Math.max(colon, 0)).toString());
      if (colon < 0 || bytes.length <= end) return bytes;
      this.message(bytes.subarray(colon + 1, end).toString());
      bytes = bytes.subarray(end + 1);
    }
  }

  message(json) {
    const message = JSON.parse(json);
    if (message.event) return this.events.push({ at: Date.now(), data: {}, ...message });
    this.heard(message.id, { ok: message.accepted === true, ...message });
  }
}

/** A value in one line: what reads as JSON is that. */
function value(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export class TextController extends Controller {
  send(id, method, internal, data) {
    const line = ([key, value]) => `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}\r\n`;
    const lines = Object.entries({ ...internal, ...data }).map(line);
    this.write(`Request ${method}\r\n${id}\r\n${lines.join("")}\r\n`);
  }

  cut(bytes) {
    for (;;) {
      const end = bytes.indexOf("\r\n\r\n");
      if (end < 0) return bytes;
      this.message(bytes.subarray(0, end).toString());
      bytes = bytes.subarray(end + 4);
    }
  }

  message(text) {
    const [head, ...lines] = text.trimEnd().split("\r\n");
    const [word, type] = head.split(" ");
    const status = word === "Response" ? lines.shift() : "";
    const data = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(": ")), value(line.slice(line.indexOf(": ") + 2))]));
    if (word === "Notification") {
      const { targetId, ...rest } = data;
      return this.events.push({ at: Date.now(), event: type, targetId, data: rest });
    }
    const [id, ok] = status.split(" ");
    this.heard(Number(id), { ok: ok === "OK", data, code: data.code, reason: data.reason });
  }
}
