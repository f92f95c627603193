// Data channels of the unmodified mediasoup-client 3.24 through a room: Node, Chromium and Firefox.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { NodeParty, PageParty } from "./lib/parties.mjs";
import { roomUrl } from "./lib/rooms3.mjs";
import { Server, until } from "./lib/server.mjs";

const LIMIT = { timeout: 120_000 };

/** What `party` heard of `peer` on `label`, once there are `count` messages. */
const heard = (party, peer, label, count) =>
  until(`${count} messages of ${peer}`, async () => {
    const { messages } = await party.do("report");
    const texts = messages.filter(([from, on]) => from === peer && on === label).map(([, , said]) => said);
    return texts.length >= count && texts;
  }, 60_000);

describe("data channels of mediasoup-client 3.24", { timeout: 600_000 }, () => {
  let server, browsers;
  before(async () => {
    // The pages of the tests are another server's.
    server = await Server.start({ set: { demo: false, "http.origins": '["*"]' } });
    browsers = new Map();
  });
  after(async () => {
    for (const browser of browsers.values()) await browser.stop();
    await server?.stop();
  });

  /** Says something of every kind, and waits until the other has it all. A receiver is there before it is spoken to. */
  async function exchange(from, name, to) {
    await from.do("channel", "chat");
    await until("the channel arrived", async () => {
      await from.do("say", "chat", "anybody?");
      return (await to.do("report")).messages.some(([peer]) => peer === name);
    }, 60_000);
    const before = (await to.do("report")).messages.filter(([peer]) => peer === name).length;
    await from.do("say", "chat", "grüß dich");
    await from.do("sayBytes", "chat", 100_000);
    for (let number = 0; number < 50; number += 1) await from.do("say", "chat", `number ${number}`);
    await from.do("sayBytes", "chat", 262_144);
    await from.do("sayBytes", "chat", 1);
    const said = (await heard(to, name, "chat", before + 54)).filter((text) => text !== "anybody?");
    const numbers = Array.from({ length: 50 }, (_, number) => `number ${number}`);
    assert.deepEqual(said, ["grüß dich", "100000 bytes intact", ...numbers, "262144 bytes intact", "1 bytes intact"]);
  }

  for (const [kind, start] of [
    ["Node", () => NodeParty.start(null, { hertz: 660, id: 2 })],
    ["chromium", (browser) => PageParty.start(browser, null, { hertz: 660, id: 2 })],
    ["firefox", (browser) => PageParty.start(browser, null, { hertz: 660, id: 2 })],
  ]) {
    test(`messages of every kind go between Node and ${kind}, both ways`, LIMIT, async () => {
      const browser = kind === "Node" ? null : await Browser.start(kind);
      if (browser) browsers.set(kind, browser);
      const room = `data-${kind.toLowerCase()}`;
      const alice = await NodeParty.start(null, { hertz: 440, id: 1 });
      const bob = await start(browser);
      try {
        await alice.do("join", roomUrl(server, room, "alice"), "Alice");
        await bob.do("join", roomUrl(server, room, "bob"), "Bob");
        await exchange(alice, "alice", bob);
        await exchange(bob, "bob", alice);
        // Who closes its channel is heard no more, and the other is told.
        await alice.do("hush", "chat");
        await until("the end of the channel", async () =>
          (await bob.do("report")).events.some(([what]) => what === "dataConsumerClosed"));
      } finally {
        await alice.stop();
        await bob.stop();
      }
    });
  }
});
