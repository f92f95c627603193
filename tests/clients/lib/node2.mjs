// A process that is one participant: mediasoup-client 2 in Node, over libwebrtc (@roamhq/wrtc), with a drawn picture
// and a tone. Its parent tells it what to do, and is its way to the room (see party2.js).

import { createRequire } from "node:module";

import { media } from "./node-media.mjs";
import { Party } from "./party2.js";

const client = createRequire(import.meta.url)("mediasoup-client2");

let requests = 0;
const open = new Map();
const signal = {
  request: (message) =>
    new Promise((resolve, reject) => {
      open.set(++requests, { resolve, reject });
      process.send({ request: requests, message });
    }),
  notify: (message) => process.send({ notify: message }),
};
const party = new Party({ client, signal, media });

const orders = {
  sound: ({ hertz, id }) => void Object.assign(media, { hertz, id }),
  join: (name, options) => party.join(name, options),
  produce: (...args) => party.produce(...args),
  act: (...args) => party.act(...args),
  report: () => party.report(),
};

process.on("message", async (message) => {
  if ("answered" in message) {
    const { resolve, reject } = open.get(message.answered);
    open.delete(message.answered);
    return "error" in message ? reject(new Error(message.error)) : resolve(message.data);
  }
  if ("notified" in message) return party.notified(message.notified);
  try {
    process.send({ done: message.order, data: await orders[message.do](...message.args) });
  } catch (error) {
    process.send({ done: message.order, error: String(error?.stack ?? error) });
  }
});
process.on("disconnect", () => process.exit());
