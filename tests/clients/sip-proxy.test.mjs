// A Kamailio between telephones and us: we register there, calls go through it both ways, and what comes later in a call
// follows the route that it recorded.

import assert from "node:assert/strict";
import fs from "node:fs";
import { after, before, describe, test } from "node:test";

import { Kamailio } from "./lib/kamailio.mjs";
import { Phone, hangUpAll } from "./lib/phone.mjs";
import { until } from "./lib/server.mjs";
import { Stranger } from "./lib/stranger.mjs";
import { certificate, folder, gateway, sleep } from "./lib/telephony.mjs";

const LIMIT = { timeout: 60_000 };

describe("behind a registrar and proxy", { timeout: 300_000 }, () => {
  let server, kamailio, strict, files;
  before(async () => {
    files = folder();
    const [ours, theirs] = [certificate(files, "ours"), certificate(files, "theirs")];
    kamailio = await Kamailio.start({ ...theirs, ca: ours.certificate });
    strict = await Kamailio.start(undefined, "SHA-256");
    const trunk = { name: "kam", preset: "registrar", host: `127.0.0.1:${kamailio.port}`, transport: "udp", username: "gateway", password: "secret", from_domain: "kam.test" };
    const secure = { ...trunk, name: "secure", host: `localhost:${kamailio.port + 1}`, transport: "tls", username: "safe", ca: theirs.certificate, ...ours };
    const stranger = { ...secure, name: "stranger", host: `127.0.0.1:${kamailio.port + 1}`, username: "nobody", certificate: undefined, key: undefined };
    server = await gateway({
      trunks: [trunk, secure, stranger, { ...trunk, name: "strict", host: `127.0.0.1:${strict.port}` }],
      dispatch: [{ number: "gateway", room: "hall" }],
      outbound: [
        { number: "alice", trunk: "kam", principals: ["publish-key"] },
        { number: "bob", trunk: "secure", principals: ["publish-key"] },
      ],
    });
  });
  after(async () => {
    hangUpAll();
    await server?.stop();
    for (const proxy of [kamailio, strict]) await proxy?.stop();
    fs.rmSync(files, { recursive: true, force: true });
  });

  const registered = async (name) => (await server.api("GET", "sip")).body.trunks.find(([trunk]) => trunk === name)[1];
  const phone = (user, hz, transport) => Phone.start({ user, hz, transport, outbound: `sip:127.0.0.1:${kamailio.port}`, password: "secret", register: true });

  test("we register by UDP, and by TLS with a certificate that is asked for; without one not", LIMIT, async () => {
    await until("registered by UDP", () => registered("kam"));
    await until("registered by TLS", () => registered("secure"));
    assert.equal(await registered("stranger"), false);
  });

  test("we register where only SHA-256 will do", LIMIT, async () => {
    const stranger = await Stranger.open("127.0.0.1", strict.port);
    assert.match(await stranger.ask("REGISTER", "kam.test"), /algorithm=SHA-256/);
    stranger.close();
    await until("registered by SHA-256", () => registered("strict"));
  });

  test("phones call in and are called through it, and hold and hang up along its route", LIMIT, async () => {
    const [alice, bob] = [await phone("alice", 440, "udp"), await phone("bob", 1000, "tcp")];
    await until("both are registered", () => ["alice", "bob"].every((user) => kamailio.log.includes(`REGISTERED ${user}`)));
    assert.ok(await alice.call(`sip:gateway@127.0.0.1:${kamailio.port}`), "alice is in");
    // Bob is called over the trunk with TLS, through the same proxy, and has TCP himself.
    const dialled = await server.api("POST", "calls", { room: "hall", number: "bob" });
    assert.equal(dialled.status, 201, JSON.stringify(dialled.body));
    assert.ok(await bob.event("CALL_INCOMING"), "it rings");
    await bob.command("accept");
    assert.ok(await bob.event("CALL_ESTABLISHED"), "bob is in");
    await until("both were acknowledged", () => kamailio.within("ACK") >= 2);
    await sleep(2000);
    await alice.command("hold");
    await until("the hold is seen", () => server.log.includes("held=true"));
    await alice.command("resume");
    await until("the call is taken back", () => server.log.includes("held=false"));
    assert.ok(kamailio.within("INVITE") >= 2, "the changes came past");
    assert.equal((await server.api("DELETE", `calls/${dialled.body.id}`)).status, 204);
    assert.ok(await bob.event("CALL_CLOSED"), "bob is let go");
    await until("our BYE came past", () => kamailio.within("BYE") >= 1);
    const [alices] = await bob.stop(440);
    const [bobs] = await alice.stop(1000);
    assert.ok(alices > 0.9 && bobs > 0.9, `heard ${alices} and ${bobs}`);
    await until("alice's BYE found its way", async () => (await server.calls()).length === 0);
    assert.ok(kamailio.within("BYE") >= 2);
  });
});
