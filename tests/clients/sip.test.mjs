// Telephones: baresip and SIPp as they come out of the box.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { Phone, hangUpAll } from "./lib/phone.mjs";
import { binary, freePorts, until } from "./lib/server.mjs";
import { Sipp } from "./lib/sipp.mjs";
import { ROOMS, TRUSTED, certificate, folder, gateway, sleep, users } from "./lib/telephony.mjs";

const LIMIT = { timeout: 60_000 };
const PHONES = {
  trunks: [TRUSTED],
  dispatch: [
    { name: "conference", number: "pin", pins: { 1234: "behind-a-pin" } },
    ROOMS,
  ],
};

describe("phones that a trunk brings", { timeout: 600_000 }, () => {
  let server, certificates;
  before(async () => {
    certificates = folder();
    const own = certificate(certificates);
    const tls = await freePorts();
    server = await gateway({ ...PHONES, calls: { media_timeout_s: 5 } }, { "sip.tls": `127.0.0.1:${tls}`, "sip.certificate": own.certificate, "sip.key": own.key });
    server.tls = tls;
  });
  after(async () => {
    hangUpAll();
    await server?.stop();
    fs.rmSync(certificates, { recursive: true, force: true });
  });

  const ways = [
    ["G.711 A-law over UDP", { codecs: ["pcma"] }],
    ["G.711 µ-law over TCP", { codecs: ["pcmu"], transport: "tcp" }],
    ["G.722 over TLS", { codecs: ["g722"], transport: "tls" }],
    ["Opus with SDES", { codecs: ["opus"], mediaenc: "srtp-mand" }],
  ];
  for (const [name, how] of ways) {
    test(`two phones hear each other and not themselves: ${name}`, LIMIT, async () => {
      const room = name.replace(/[^a-z0-9]/gi, "").toLowerCase();
      const port = how.transport === "tls" ? server.tls : server.sip;
      const kind = how.transport ? `;transport=${how.transport}` : "";
      const cafile = path.join(certificates, "c.pem");
      const [alice, bob] = [
        await Phone.start({ user: "alice", hz: 440, cafile, ...how }),
        await Phone.start({ user: "bob", hz: 1000, cafile, ...how }),
      ];
      for (const phone of [alice, bob]) assert.ok(await phone.call(`sip:room-${room}@127.0.0.1:${port}${kind}`), "answered");
      await sleep(3000);
      const [own, other] = await alice.stop(440, 1000);
      const [theirs, mine] = await bob.stop(440, 1000);
      assert.ok(other > 0.9 && own < 0.05, `alice heard 1000 Hz ${other}, 440 Hz ${own}`);
      assert.ok(theirs > 0.9 && mine < 0.05, `bob heard 440 Hz ${theirs}, 1000 Hz ${mine}`);
      await until("the room is empty", async () => (await server.api("GET", "calls")).body.length === 0);
    });
  }

  test("a PIN entered on the keys opens the room", LIMIT, async () => {
    const bob = await Phone.start({ user: "bob", hz: 1000 });
    assert.ok(await bob.call(`sip:room-behind-a-pin@127.0.0.1:${server.sip}`));
    const alice = await Phone.start({ user: "alice", hz: 440 });
    assert.ok(await alice.call(`sip:pin@127.0.0.1:${server.sip}`));
    await sleep(1500);
    await alice.keys("1234#");
    await until("the PIN is taken", () => server.log.includes("the PIN is right"));
    await sleep(3000);
    const [other] = await alice.stop(1000);
    await bob.stop();
    assert.ok(other > 0.9, `alice heard 1000 Hz ${other}`);
    // Names of connections may hold it by chance.
    assert.ok(!/\b1234\b/.test(server.log), "the log holds no PIN");
  });

  test("after a hold the call talks again", LIMIT, async () => {
    const [alice, bob] = [await Phone.start({ user: "alice", hz: 440 }), await Phone.start({ user: "bob", hz: 1000 })];
    for (const phone of [alice, bob]) assert.ok(await phone.call(`sip:room-hold@127.0.0.1:${server.sip}`));
    await alice.command("hold");
    await until("the hold is seen", () => server.log.includes("held=true"));
    await sleep(1500);
    await alice.command("resume");
    await until("the call is taken back", () => server.log.includes("held=false"));
    // The phone's recording ends with the hold; its reports go on.
    const before = await alice.packets();
    await until("sound comes again", async () => (await alice.packets()) > before + 80);
    await alice.stop();
    const [other] = await bob.stop(440);
    assert.ok(other > 0.9, `bob heard 440 Hz ${other}`);
  });

  test("a phone that vanishes is let go within the media timeout", LIMIT, async () => {
    const alice = await Phone.start({ user: "alice", hz: 440 });
    assert.ok(await alice.call(`sip:room-gone@127.0.0.1:${server.sip}`));
    await alice.kill();
    // Its BYE is still unanswered.
    const ended = async () => (await server.api("GET", "calls")).body.every((call) => call.state === "ending");
    await until("the call is ended", ended);
    assert.match(server.log, /no media came for too long/);
  });

  test("SIPp's features pass: digest-free call, keys, hold, resume, INFO", LIMIT, async () => {
    const sipp = await Sipp.start("features", { to: `127.0.0.1:${server.sip}`, user: "room-sipp", keys: { from: "sipp" } });
    await sipp.passed();
  });
});

describe("phones with certificates", { timeout: 300_000 }, () => {
  let server, files, port, own;
  before(async () => {
    files = folder();
    port = await freePorts(3);
    own = certificate(files, "phone");
    const [ours, tls] = [certificate(files, "ours"), await freePorts()];
    const secure = { "sip.tls": `127.0.0.1:${tls}`, "sip.certificate": ours.certificate, "sip.key": ours.key, "sip.client_ca": own.certificate };
    server = await gateway({
      // The phone takes TLS on the port above its first.
      trunks: [{ name: "local", peers: ["127.0.0.2"], host: `127.0.0.1:${port + 1}`, transport: "tls", ca: own.certificate, options_s: 0 },
        { name: "stranger", peers: ["127.0.0.2"], host: `localhost:${port + 1}`, transport: "tls", ca: certificate(files, "other").certificate, options_s: 0 }],
      outbound: [{ number: "bob", trunk: "local", principals: ["publish-key"] }, { number: "*", trunk: "stranger", principals: ["publish-key"] }],
      dispatch: [{ from: ["anyone"], number: "room-*", room: "{1}" }],
    }, secure);
    Object.assign(server, { tls, ca: ours.certificate });
  });
  after(async () => {
    hangUpAll();
    await server?.stop();
    fs.rmSync(files, { recursive: true, force: true });
  });

  test("one that calls by TLS must show a certificate, where that is wanted", LIMIT, async () => {
    const uri = `sip:room-safe@127.0.0.1:${server.tls};transport=tls`;
    const known = await Phone.start({ user: "alice", hz: 440, transport: "tls", cafile: server.ca, ...own });
    const stranger = await Phone.start({ user: "mallory", hz: 440, transport: "tls", cafile: server.ca });
    await stranger.command("dial", uri);
    assert.ok(await known.call(uri), "answered");
    assert.equal(await stranger.event("CALL_ESTABLISHED", 3), false, "nobody took its call");
    assert.equal((await server.calls()).length, 1);
    await known.stop();
    await stranger.stop();
  });

  test("the certificate of one that is called is checked; it rings, talks, and is let go", LIMIT, async () => {
    const bob = await Phone.start({ user: "bob", hz: 1000, answer: "auto", port, transport: "tls", cafile: own.certificate, ...own });
    const dial = async (number) => (await server.api("POST", "calls", { room: "desk", number })).body.id;
    const stranger = await dial("mallory");
    await until("nobody is called whose certificate nobody vouches for", async () => (await server.calls()).every((call) => call.id !== stranger));
    await until("it is said why", () => /cannot be reached/.test(server.log));
    const id = await dial("bob");
    assert.ok(await bob.event("CALL_ESTABLISHED"));
    await until("sound comes", async () => (await bob.packets()) > 20);
    assert.equal((await server.api("DELETE", `calls/${id}`)).status, 204);
    assert.ok(await bob.event("CALL_CLOSED"));
    await bob.stop();
  });
});

describe("phones that register here", { timeout: 300_000 }, () => {
  let server, files;
  before(async () => {
    files = folder();
    server = await gateway({
      realm: "gw.test",
      users_file: users(files, binary, "gw.test", "alice", "bob"),
      dispatch: [ROOMS],
      outbound: [{ number: "*", trunk: "phones", principals: ["publish-key"] }],
    });
  });
  after(async () => {
    hangUpAll();
    await server?.stop();
    fs.rmSync(files, { recursive: true, force: true });
  });

  test("a registered phone is called into a room, sent keys, and let go", LIMIT, async () => {
    const how = { outbound: `sip:127.0.0.1:${server.sip}`, password: "secret", register: true };
    const alice = await Phone.start({ user: "alice", hz: 440, ...how });
    const bob = await Phone.start({ user: "bob", hz: 1000, codecs: ["opus"], answer: "auto", ...how });
    await until("both are registered", async () => (await server.api("GET", "sip")).body.phones.length === 2);
    assert.ok(await alice.call("sip:room-desk@127.0.0.1"));
    const dialled = await server.api("POST", "calls", { room: "desk", number: "bob" });
    assert.equal(dialled.status, 201, JSON.stringify(dialled.body));
    assert.ok(await bob.event("CALL_ESTABLISHED"));
    await sleep(2500);
    assert.equal((await server.api("PATCH", `calls/${dialled.body.id}`, { dtmf: "12#" })).status, 204);
    await until("the keys are heard", async () => (await bob.keysHeard()) === "12#");
    assert.equal((await server.api("DELETE", `calls/${dialled.body.id}`)).status, 204);
    assert.ok(await bob.event("CALL_CLOSED"));
    assert.equal((await server.api("POST", "calls", { room: "desk", number: "nobody" })).status, 404);
    const [bobs] = await alice.stop(1000);
    const [alices] = await bob.stop(440);
    assert.ok(bobs > 0.9 && alices > 0.9, `heard ${bobs} and ${alices}`);
  });

  test("a wrong password registers nobody, and the users' file must be private", LIMIT, async () => {
    const how = { outbound: `sip:127.0.0.1:${server.sip}`, password: "guess", register: true };
    const alice = await Phone.start({ user: "alice", hz: 440, ...how });
    await until("it was refused", () => server.log.includes("a wrong user name or password"));
    assert.deepEqual((await server.api("GET", "sip")).body.phones, []);
    await alice.stop();
    const open = path.join(files, "open");
    fs.writeFileSync(open, "", { mode: 0o644 });
    fs.chmodSync(open, 0o644);
    await assert.rejects(gateway({ users_file: open }), /chmod 600/);
  });
});
