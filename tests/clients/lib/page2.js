// A participant in a page: mediasoup-client 2 with the browser's own WebRTC. Built by esbuild; runs beside page.js,
// whose viewer it watches with. The test exposes `toRoom` as the way to the room, or has it connect by itself.

import * as client from "mediasoup-client2";
import * as protoo from "protoo-client3";

import { media } from "./page-media.js";
import { Party } from "./party2.js";

let socket;
const signal = {
  request: async (message) => {
    if (socket) return socket.send("mediasoup-request", message);
    const { data, error } = await window.toRoom({ request: message });
    if (error !== undefined) throw new Error(error);
    return data;
  },
  notify: (message) => void (socket ? socket.notify("mediasoup-notification", message) : window.toRoom({ notify: message })),
};

const party = new Party({ client, signal, media });
window.party = party;
window.orders = {
  connect: (url) =>
    new Promise((resolve, reject) => {
      const peer = new protoo.Peer(new protoo.WebSocketTransport(url, { retry: { retries: 0 } }));
      peer.on("notification", ({ method, data }) => {
        if (method === "mediasoup-notification") party.notified(data);
        else party.events.push(["application", method, data]);
      });
      peer.on("close", () => reject(new Error("the WebSocket was refused")));
      peer.on("open", () => resolve(void (socket = peer)));
    }),
  sound: (given) => void Object.assign(media, given),
  join: (name, options) => party.join(name, options),
  produce: (...args) => party.produce(...args),
  act: (...args) => party.act(...args),
  report: () => party.report(),
};
