// Requests of SIP as bytes, from whatever address of this machine: for what no telephone does.

import dgram from "node:dgram";

let last = 0;

/** A request from 127.0.0.1 or where `host` says. */
export function request(method, user, { port, host = "127.0.0.1", extra = "", to = "", by = "scan", body = "" }) {
  const id = `${process.pid}-${++last}`;
  const domain = user.includes(".");
  return Buffer.from(
    `${method} sip:${domain ? user : `${user}@127.0.0.1`} SIP/2.0\r\nVia: SIP/2.0/UDP ${host}:${port};branch=z9hG4bK${id};rport\r\nMax-Forwards: 70\r\n` +
      `From: <sip:${by}@${host}>;tag=${id}\r\nTo: <sip:${domain ? `${by}@${user}` : `${user}@127.0.0.1`}>${to}\r\nCall-ID: ${id}\r\nCSeq: 1 ${method}\r\n${extra}Content-Length: ${body.length}\r\n\r\n${body}`,
  );
}

/** Somebody at an address of his own on this machine. */
export class Stranger {
  static async open(host, port) {
    const stranger = Object.assign(new Stranger(), { host, port, socket: dgram.createSocket("udp4") });
    await new Promise((resolve) => stranger.socket.bind(0, host, resolve));
    return stranger;
  }

  /** The final answer to a request, or null after a while of silence. */
  ask(method, user, extra = "", { body = "", ms = 1500 } = {}) {
    const bytes = request(method, user, { port: this.socket.address().port, host: this.host, extra: `Contact: <sip:x@${this.host}>\r\n${extra}`, by: user.includes(".") ? "alice" : "scan", body });
    return new Promise((resolve) => {
      const end = (answer) => {
        clearTimeout(timer);
        this.socket.off("message", take);
        resolve(answer);
      };
      const take = (data) => /^SIP\/2\.0 [2-6]/.test(data) && end(String(data));
      const timer = setTimeout(() => end(null), ms);
      this.socket.on("message", take);
      this.socket.send(bytes, this.port, "127.0.0.1");
    });
  }

  close() {
    this.socket.close();
  }
}
