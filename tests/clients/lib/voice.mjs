// A telephone of our own making, for what real ones do not tell: G.711 over UDP, every packet that comes looked at.

import dgram from "node:dgram";
import { randomBytes } from "node:crypto";

const RATE = 8000;

/** G.711 µ-law. */
function encode(sample) {
  const sign = sample < 0 ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(sample), 32635) + 0x84;
  const exponent = 31 - Math.clz32(magnitude) - 7;
  return ~(sign | (exponent << 4) | ((magnitude >> (exponent + 3)) & 15)) & 255;
}

function decode(byte) {
  byte = ~byte & 255;
  const sample = ((((byte & 15) << 3) + 0x84) << ((byte >> 4) & 7)) - 0x84;
  return byte & 0x80 ? -sample : sample;
}

function header(message, name) {
  return message.match(new RegExp(`^${name}:[ \\t]*(.*)$`, "im"))?.[1].trim();
}

export class Voice {
  /** Calls `uri` at `port` and sings `hz`; resolves once answered. */
  static async call(uri, port, { hz = 0 } = {}) {
    const voice = new Voice();
    voice.heard = [];
    voice.packets = 0;
    voice.directions = [];
    for (const name of ["signalling", "media"]) {
      voice[name] = dgram.createSocket("udp4");
      await new Promise((resolve) => voice[name].bind(0, "127.0.0.1", resolve));
    }
    Object.assign(voice, { uri, port, id: randomBytes(8).toString("hex"), cseq: 1, tag: "", contact: uri });
    voice.media.on("message", (packet) => voice.listen(packet));
    const answered = new Promise((resolve, reject) => {
      voice.signalling.on("message", (data) => voice.take(String(data), resolve, reject));
    });
    voice.send("INVITE", 1, voice.sdp("sendrecv"));
    await answered;
    let at = 0, sequence = 0;
    voice.timer = setInterval(() => {
      const due = Math.floor((performance.now() - voice.begun) / 20);
      for (; sequence < due; sequence++) {
        const packet = Buffer.alloc(172);
        packet[0] = 0x80;
        packet.writeUInt16BE(sequence & 0xffff, 2);
        packet.writeUInt32BE((sequence * 160) >>> 0, 4);
        packet.writeUInt32BE(0x1234, 8);
        for (let n = 0; n < 160; n++, at++) packet[12 + n] = encode(Math.round((hz ? 8000 : 0) * Math.sin((2 * Math.PI * hz * at) / RATE)));
        voice.media.send(packet, voice.remote.port, voice.remote.ip);
      }
    }, 20);
    voice.begun = performance.now();
    return voice;
  }

  sdp(direction) {
    const { port } = this.media.address();
    return `v=0\r\no=- 1 ${this.cseq} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio ${port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=${direction}\r\n`;
  }

  send(method, cseq, body = "") {
    const own = `127.0.0.1:${this.signalling.address().port}`;
    const uri = method === "INVITE" ? this.uri : this.contact;
    const type = body ? "Content-Type: application/sdp\r\n" : "";
    const text = `${method} ${uri} SIP/2.0\r\nVia: SIP/2.0/UDP ${own};branch=z9hG4bK${this.id}${method}${cseq};rport\r\nMax-Forwards: 70\r\n` +
      `From: <sip:voice@${own}>;tag=${this.id}\r\nTo: <${this.uri}>${this.tag}\r\nCall-ID: ${this.id}\r\nCSeq: ${cseq} ${method}\r\n` +
      `Contact: <sip:voice@${own}>\r\n${type}Content-Length: ${body.length}\r\n\r\n${body}`;
    this.signalling.send(text, this.port, "127.0.0.1");
  }

  take(message, answered, refused) {
    const status = Number(message.match(/^SIP\/2.0 (\d+)/)?.[1] ?? 0);
    const [cseq, method] = (header(message, "CSeq") ?? "").split(" ");
    if (status >= 300 && method === "INVITE") return refused(new Error(message));
    if (status >= 200 && method === "INVITE") {
      this.tag = header(message, "To").match(/;tag=[^;]*/)[0];
      this.contact = header(message, "Contact").match(/<(.*)>/)[1];
      this.where(message);
      this.send("ACK", Number(cseq));
      return answered();
    }
    if (status || message.startsWith("ACK")) return undefined;
    const body = message.startsWith("INVITE") ? this.reanswer(message) : "";
    const keep = ["Via", "From", "To", "Call-ID", "CSeq"].map((name) => `${name}: ${header(message, name)}\r\n`).join("");
    const type = body ? `Contact: <sip:voice@127.0.0.1:${this.signalling.address().port}>\r\nContent-Type: application/sdp\r\n` : "";
    this.signalling.send(`SIP/2.0 200 OK\r\n${keep}${type}Content-Length: ${body.length}\r\n\r\n${body}`, this.port, "127.0.0.1");
    return undefined;
  }

  where(message) {
    this.remote = { ip: message.match(/c=IN IP4 (\S+)/)[1], port: Number(message.match(/m=audio (\d+)/)[1]) };
  }

  reanswer(message) {
    const direction = message.match(/a=(sendonly|recvonly|inactive|sendrecv)/)?.[1] ?? "sendrecv";
    this.directions.push(direction);
    this.where(message);
    this.cseq++;
    return this.sdp({ sendonly: "recvonly", recvonly: "sendonly" }[direction] ?? direction);
  }

  listen(packet) {
    this.packets++;
    if ((packet[1] & 127) !== 0) return;
    for (const byte of packet.subarray(12)) this.heard.push(decode(byte));
    this.heard.splice(0, Math.max(0, this.heard.length - RATE));
  }

  /** Which share of what it heard in the last second lay at `hz`, at best over half a second. */
  lately(hz) {
    let best = 0;
    for (let at = 0; at + RATE / 2 <= this.heard.length; at += RATE / 8) {
      const part = this.heard.slice(at, at + RATE / 2);
      const energy = part.reduce((sum, x) => sum + x * x, 0);
      if (energy < part.length * 1e4) continue;
      const k = 2 * Math.cos((2 * Math.PI * hz) / RATE);
      let [s1, s2] = [0, 0];
      for (const x of part) [s1, s2] = [x + k * s1 - s2, s1];
      best = Math.max(best, (2 * (s1 * s1 + s2 * s2 - k * s1 * s2)) / (part.length * energy));
    }
    return best;
  }

  stop() {
    clearInterval(this.timer);
    this.send("BYE", 2);
    setTimeout(() => [this.signalling, this.media].forEach((socket) => socket.close()), 200);
  }
}
