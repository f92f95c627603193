// A process that is one participant: mediasoup-client 3 in Node. Its parent tells it what to do (see party3.js).

import { createRequire } from "node:module";

import { media } from "./node-media.mjs";
import { Party, orders } from "./party3.js";

const require = createRequire(import.meta.url);
const party = new Party({ client: require("mediasoup-client3"), protoo: require("protoo-client3"), media, options: { handlerName: "Chrome111" } });
const known = orders(party, media);

process.on("message", async (message) => {
  try {
    process.send({ done: message.order, data: await known[message.do](...message.args) });
  } catch (error) {
    process.send({ done: message.order, error: String(error?.stack ?? error) });
  }
});
process.on("disconnect", () => process.exit());
