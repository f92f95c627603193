// The npm package mediasoup 2.6.19, unmodified, over our worker; and a small room server in front of it.

import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

import { binary } from "./server.mjs";

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

/** How a party gets a seat in a room. */
export const sit = (room) => (tell) => new Seat(room, tell);
