// The way into a room of the server for mediasoup-client 2: the unmodified protoo-client on the server's WebSocket.

import { createRequire } from "node:module";

const protoo = createRequire(import.meta.url)("protoo-client3");

/** Where a client of that name connects. */
export function roomUrl(server, room, name, token = server.key) {
  const query = new URLSearchParams({ roomId: room, peerName: name, ...(token && { token }) });
  return `ws://127.0.0.1:${server.http}/ws?${query}`;
}

/** A connection: `told` has the protocol's notifications, `heard` the application's. */
export class Seat {
  told = [];
  heard = [];

  /** Resolves when it is open. */
  static open(url, tell = () => {}) {
    const seat = new Seat();
    seat.peer = new protoo.Peer(new protoo.WebSocketTransport(url, { retry: { retries: 0 } }));
    seat.peer.on("notification", ({ method, data }) => {
      if (method !== "mediasoup-notification") return seat.heard.push([method, data]);
      seat.told.push(data);
      tell(data);
    });
    seat.closed = new Promise((resolve) => seat.peer.on("close", resolve));
    return new Promise((resolve, reject) => {
      seat.peer.on("open", () => resolve(seat));
      seat.peer.on("close", () => reject(new Error("the WebSocket was refused")));
    });
  }

  request(message) {
    return this.peer.send("mediasoup-request", message);
  }

  notify(message) {
    return this.peer.notify("mediasoup-notification", message);
  }
}

/** How a party gets a seat. */
export const sit = (url) => (tell) => Seat.open(url, tell);
