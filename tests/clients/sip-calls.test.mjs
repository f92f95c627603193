// Call signalling against SIPp, and bad input: what the scenarios in lib/sipp do to us, torture messages, a flood.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import dgram from "node:dgram";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { Phone, hangUpAll } from "./lib/phone.mjs";
import { binary, freePorts, root, until } from "./lib/server.mjs";
import { Sipp } from "./lib/sipp.mjs";
import { Stranger, request } from "./lib/stranger.mjs";
import { ROOMS, TRUSTED, folder, gateway, sleep, users } from "./lib/telephony.mjs";

const LIMIT = { timeout: 60_000 };

describe("calls out and in", { timeout: 300_000 }, () => {
  let server, names, ports;
  before(async () => {
    // Trunks whose far ends are SIPp's, found by name: SRV records of a name server of our own. Nobody is at the first
    // place of the third.
    const [first, second, nobody, third] = [await freePorts(1), await freePorts(1), await freePorts(1), await freePorts(1)];
    ports = { first, second, third };
    names = await nameServer({ first: [first], second: [second], third: [nobody, third] });
    const trunk = (name, more = {}) => ({ name, host: `${name}.test`, options_s: 0, max_calls_per_minute: 1000, ...more });
    server = await gateway({
      nameservers: [`127.0.0.1:${names.port}`],
      trunks: [TRUSTED, trunk("first", { follow_redirects: true }), trunk("second"), trunk("third")],
      dispatch: [{ ...ROOMS, from: [TRUSTED.name] }],
      outbound: [
        { number: "1*", trunk: "first", principals: ["publish-key", "trunk:local"], transfer: true },
        { number: "2*", trunk: "second", principals: ["publish-key"] },
        { number: "3*", trunk: "third", principals: ["publish-key"] },
      ],
      calls: { min_se_s: 6, media_timeout_s: 60 },
      limits: { failover_ms: 400 },
    });
  });
  after(async () => {
    await server?.stop();
    names?.stop();
  });

  /** SIPp behind a trunk. */
  const behind = (trunk, scenario, options) => Sipp.start(scenario, { port: ports[trunk], ...options });

  async function dial(numbers, more = {}) {
    const { status, body } = await server.api("POST", "calls", { room: "desk", numbers, ...more });
    assert.equal(status, 201, JSON.stringify(body));
    return body.id;
  }

  const state = async (id) => (await server.calls()).find((call) => call.id === id)?.state;
  const answered = (id) => until("the call is answered", async () => (await state(id)) === "active");
  const over = (id) => until("the call is over", async () => (await state(id)) === undefined);
  const call = (scenario, room, keys = {}) => Sipp.start(scenario, { to: `127.0.0.1:${server.sip}`, user: `room-${room}`, keys: { from: "sipp", ...keys } });

  test("reliable ringing with early media, and an answer that does not repeat it", LIMIT, async () => {
    const sipp = await behind("first", "prack-uas");
    const id = await dial(["100"]);
    await answered(id);
    await server.api("DELETE", `calls/${id}`);
    await sipp.passed();
  });

  test("of two answers behind one proxy the first has the call", LIMIT, async () => {
    const sipp = await behind("first", "fork-uas");
    const id = await dial(["100"]);
    await answered(id);
    await sleep(500);
    assert.equal(await state(id), "active");
    await server.api("DELETE", `calls/${id}`);
    await sipp.passed();
  });

  test("two numbers ring at once; who is slower learns that somebody else answered", LIMIT, async () => {
    const [slow, quick] = [await behind("first", "ring-uas"), await behind("second", "answer-uas")];
    const id = await dial(["100", "200"]);
    await answered(id);
    await slow.passed();
    assert.equal((await server.calls()).find((call) => call.id === id).trunk, "second");
    await server.api("DELETE", `calls/${id}`);
    await quick.passed();
  });

  test("a redirection is followed to another trunk, as the rules allow", LIMIT, async () => {
    const [first, second] = [await behind("first", "moved-uas", { keys: { elsewhere: "200@nowhere.test" } }), await behind("second", "answer-uas")];
    const id = await dial(["100"]);
    await answered(id);
    await server.api("DELETE", `calls/${id}`);
    await Promise.all([first.passed(), second.passed()]);
  });

  test("a server that is silent makes way for the next of its name", LIMIT, async () => {
    const sipp = await behind("third", "answer-uas");
    const id = await dial(["300"]);
    await answered(id);
    await server.api("DELETE", `calls/${id}`);
    await sipp.passed();
  });

  test("a failure is told in its code and its words", LIMIT, async () => {
    const sipp = await behind("first", "busy-uas");
    const id = await dial(["100"]);
    await sipp.passed();
    await over(id);
    assert.match(server.log, /On the other line.*status=486/);
    const denied = await server.api("POST", "calls", { room: "desk", number: "999" });
    assert.equal(denied.status, 403, JSON.stringify(denied.body));
  });

  test("session timers: refreshed by us, refreshed by them, and expired", LIMIT, async () => {
    const ours = await call("timer-ours", "timers", { expires: 6 });
    const theirs = await call("timer-theirs", "timers", { expires: 6 });
    await Promise.all([ours.passed(), theirs.passed()]);
    assert.match(server.log, /nobody refreshed the session/);
  });

  test("a party has somebody called into its room, and one is sent away", LIMIT, async () => {
    const target = await behind("first", "answer-uas");
    const asks = await call("refer-uac", "transfers", { target: "123@first.test" });
    await asks.passed();
    const called = (await server.calls()).find((call) => call.direction === "out" && call.room === "transfers");
    assert.ok(called, "it is in the same room");
    await server.api("DELETE", `calls/${called.id}`);
    await target.passed();
    const leaves = await call("transferred-uac", "away");
    const there = () => server.calls().then((calls) => calls.find((call) => call.room === "away" && call.state === "active"));
    const { id } = await until("it calls", there);
    assert.equal((await server.api("PATCH", `calls/${id}`, { transfer: "123" })).status, 204);
    await leaves.passed();
  });

  test("two hundred calls a second are set up and ended, none of them failed", LIMIT, async () => {
    const sipp = await Sipp.start("brief-uac", { to: `127.0.0.1:${server.sip}`, user: "room-many", calls: 1000, keys: { from: "sipp" }, more: ["-r", "200", "-l", "80"] });
    await sipp.passed();
    await until("every call is forgotten", async () => (await server.calls()).every((call) => !call.room.startsWith("many-")));
  });

  test("a call without an offer that wants reliable ringing", LIMIT, async () => {
    await (await call("delayed-uac", "late")).passed();
  });
});

describe("over IPv6", { timeout: 300_000 }, () => {
  let server, far, own;
  before(async () => {
    [far, own] = [await freePorts(3), await freePorts(3)];
    server = await gateway(
      {
        trunks: [{ name: "six", peers: ["::1"], host: `[::1]:${far}`, options_s: 0 }],
        dispatch: [{ number: "room-*", room: "{1}" }],
        outbound: [{ number: "*", trunk: "six", principals: ["publish-key"] }],
      },
      { "sip.udp": `[::1]:${own}`, "sip.tcp": `[::1]:${own}` },
    );
  });
  after(async () => {
    hangUpAll();
    await server?.stop();
  });

  test("SIPp calls, holds and resumes, and is called", LIMIT, async () => {
    const calls = await Sipp.start("features", { to: `[::1]:${own}`, user: "room-sipp", keys: { from: "sipp" }, ip: "::1" });
    await calls.passed();
    const called = await Sipp.start("answer-uas", { port: far, ip: "::1" });
    const { status, body } = await server.api("POST", "calls", { room: "desk", number: "12" });
    assert.equal(status, 201, JSON.stringify(body));
    await until("it is answered", async () => (await server.calls()).find((call) => call.id === body.id)?.state === "active");
    await server.api("DELETE", `calls/${body.id}`);
    await called.passed();
  });

  for (const transport of ["udp", "tcp"]) {
    test(`two phones hear each other by ${transport}`, LIMIT, async () => {
      const how = { host: "::1", transport };
      const [alice, bob] = [await Phone.start({ user: "alice", hz: 440, ...how }), await Phone.start({ user: "bob", hz: 1000, ...how })];
      const kind = transport === "udp" ? "" : `;transport=${transport}`;
      for (const phone of [alice, bob]) assert.ok(await phone.call(`sip:room-six@[::1]:${own}${kind}`), "answered");
      await until("they hear each other", async () => (await alice.lately(1000)) > 0.9 && (await bob.lately(440)) > 0.9);
      await alice.stop();
      await bob.stop();
    });
  }
});

describe("bad input", { timeout: 300_000 }, () => {
  // What RFC 4475 wants of each message, or allows: the status, or silence.
  const valid = { wsinv: 481, intmeth: 405, esc01: 404, escnull: 401, esc02: 405, lwsdisp: 200, longreq: 404, dblreq: 401, semiuri: 200,
    transports: 200, mpart01: 405, unreason: null, noreason: null };
  const invalid = { badinv01: 400, clerr: 400, ncl: 400, scalar02: 400, scalarlg: null, quotbal: 400, ltgtruri: 400, lwsruri: 400, lwsstart: 400,
    trws: 400, escruri: 400, baddate: 404, regbadct: 401, badaspec: 200, baddn: 200, badvers: 505, mismatch01: 400, mismatch02: 400, bigcode: null };
  const others = { badbranch: 200, insuf: 400, unkscm: 416, novelsc: 416, unksm2: 401, bext01: 420, invut: 404, regaut01: 401, multi01: 400,
    mcl01: 400, bcast: null, zeromf: 200, cparam01: 401, cparam02: 401, regescrt: 401, sdp01: 406, inv2543: 404, badcseq: 400,
    test: null, baddn_sep: null };
  // On a stream the end of these cannot be told: more is waited for.
  const waits = ["clerr", "baddn", "baddn_sep"];
  const messages = path.join(root, "tests/clients/node_modules/sip/test/messages");
  let server, files;
  before(async () => {
    files = folder();
    server = await gateway({
      users_file: users(files, binary, "gw.test", "alice"),
      realm: "gw.test",
      digest: ["sha-256", "md5"],
      digest_integrity: true,
      trunks: [{ name: "local", peers: ["127.0.0.1"] }],
      dispatch: [ROOMS],
      // Loopback is to be banned as anything else.
      limits: { never_ban: [], requests_per_second: 20, ban_failures: 20 },
    });
  });
  after(async () => {
    hangUpAll();
    await server?.stop();
    fs.rmSync(files, { recursive: true, force: true });
  });

  /** Sends bytes and gives the final status that comes back, or null after a while of silence. */
  function ask(bytes, tcp, ms = 700) {
    return new Promise((resolve) => {
      const socket = tcp ? net.connect(server.sip, "127.0.0.1", () => socket.write(bytes)) : dgram.createSocket("udp4");
      let heard = "";
      const end = (status) => {
        clearTimeout(timer);
        tcp ? socket.destroy() : socket.close();
        resolve(status);
      };
      const timer = setTimeout(() => end(null), ms);
      const take = (data) => {
        heard += data;
        const final = heard.match(/^SIP\/2\.0 ([2-6]\d\d)/m);
        if (final) end(Number(final[1]));
      };
      socket.on(tcp ? "data" : "message", take);
      socket.on("error", () => end(null));
      if (!tcp) socket.send(bytes, server.sip, "127.0.0.1");
    });
  }

  for (const tcp of [false, true]) {
    test(`the messages of RFC 4475 by ${tcp ? "TCP" : "UDP"}`, LIMIT, async () => {
      const wanted = { ...valid, ...invalid, ...others };
      const files = fs.readdirSync(messages).filter((name) => name.endsWith(".dat")).map((name) => name.slice(0, -4));
      assert.deepEqual(files.sort(), Object.keys(wanted).sort());
      for (const name of files) {
        let bytes = fs.readFileSync(path.join(messages, `${name}.dat`));
        // A transaction of its own for each transport.
        if (tcp) bytes = Buffer.from(bytes.toString("latin1").replace(/^(Call-ID: |i: )/m, "$1tcp-"), "latin1");
        const expected = tcp && waits.includes(name) ? null : wanted[name];
        assert.equal(await ask(bytes, tcp, expected === null ? 150 : 3000), expected, name);
      }
    });
  }

  test("who guesses passwords is banned for a while, and nobody else is", LIMIT, async () => {
    const guesser = await Stranger.open("127.0.0.8", server.sip);
    const challenge = await guesser.ask("REGISTER", "gw.test");
    assert.match(challenge, /^SIP\/2\.0 401 [^]*algorithm=SHA-256[^]*algorithm=MD5/);
    const guess = (stranger, asked, password, count) => stranger.ask("REGISTER", "gw.test", digest(asked, "alice", password, "sip:gw.test", count));
    for (let tries = 1; tries <= 20; tries++) assert.match(await guess(guesser, challenge, `guess-${tries}`, tries), /^SIP\/2\.0 401 /, `guess ${tries}`);
    assert.equal(await guess(guesser, challenge, "secret", 21), null, "not even the right one is heard any more");
    assert.equal(await guesser.ask("OPTIONS", "gw.test"), null);
    const alice = await Stranger.open("127.0.0.7", server.sip);
    const asked = await alice.ask("REGISTER", "gw.test");
    assert.match(await guess(alice, asked, "secret", 1), /^SIP\/2\.0 200 /, "the right password by SHA-256 from elsewhere");
    assert.match(await guess(alice, asked, "secret", 1), /^SIP\/2\.0 401 [^]*stale=true/, "but not the same answer twice");
    const whole = (count, body) => alice.ask("REGISTER", "gw.test", digest(asked, "alice", "secret", "sip:gw.test", count, "as it was"), { body });
    assert.match(await whole(2, "as it was"), /^SIP\/2\.0 200 /, "a digest over the body, too");
    assert.match(await whole(3, "as it is"), /^SIP\/2\.0 401 /, "which holds for no other body");
    const { body } = await server.api("GET", "sip");
    assert.ok(body.bans >= 1 && body.banned >= 2, JSON.stringify(body));
    assert.deepEqual(body.phones, [["alice", 1]]);
    for (const stranger of [guesser, alice]) stranger.close();
  });

  test("messages beyond every measure are refused or dropped, and the next one is answered", LIMIT, async () => {
    const stranger = await Stranger.open("127.0.0.6", server.sip);
    const large = `X-Large: ${"a".repeat(9000)}\r\n`;
    assert.match(await stranger.ask("INVITE", "room-x", large), /^SIP\/2\.0 513 /);
    assert.match(await stranger.ask("INVITE", "room-x", "X: y\r\n".repeat(150)), /^SIP\/2\.0 513 /);
    assert.equal(await stranger.ask("INVITE", "room-x", large.repeat(3)), null, "a datagram that is too large is nothing");
    assert.equal(await ask(request("INVITE", "room-x", { port: 1, extra: large }), true), 513, "by TCP");
    const endless = request("INVITE", "room-x", { port: 1 }).toString().replace("Content-Length: 0", "Content-Length: 999999");
    assert.equal(await ask(Buffer.from(endless), true), 513);
    assert.equal(await ask(Buffer.alloc(40_000, "x"), true), null, "no end of a head");
    assert.match(await stranger.ask("OPTIONS", "gw.test"), /^SIP\/2\.0 200 /);
    stranger.close();
  });

  test("a number that nobody has is refused in words", LIMIT, async () => {
    const socket = dgram.createSocket("udp4");
    const answer = new Promise((resolve) => socket.on("message", (data) => /^SIP\/2\.0 [2-6]/.test(data) && resolve(String(data))));
    socket.send(request("INVITE", "nobody", { port: 1, extra: "Contact: <sip:a@127.0.0.1>\r\n" }), server.sip, "127.0.0.1");
    assert.match(await answer, /^SIP\/2\.0 404 No room has this number\r\n/);
    socket.close();
    assert.match(server.log, /refused a call: rule/);
  });

  test("a scanner's flood is turned away and counted while a call goes on", LIMIT, async () => {
    const [alice, bob] = [await Phone.start({ user: "alice", hz: 440 }), await Phone.start({ user: "bob", hz: 1000 })];
    for (const phone of [alice, bob]) assert.ok(await phone.call(`sip:room-flood@127.0.0.1:${server.sip}`));
    const socket = dgram.createSocket("udp4");
    let answers = 0;
    socket.on("message", () => answers++);
    await new Promise((resolve) => socket.bind(0, "127.0.0.9", resolve));
    const { port } = socket.address();
    const sent = 6000;
    for (let n = 0; n < sent; n++) {
      const guess = `Authorization: Digest username="alice", realm="gw.test", nonce="1.2.3", uri="sip:127.0.0.1", response="${String(n).padStart(32, "0")}"\r\n`;
      const [method, extra] = n % 2 ? ["INVITE", "Contact: <sip:a@127.0.0.9>\r\n"] : ["REGISTER", guess];
      socket.send(request(method, String(100 + (n % 900)), { port, host: "127.0.0.9", extra }), server.sip, "127.0.0.1");
      if (n % 100 === 0) await sleep(10);
    }
    const state = await until("it was turned away", async () => {
      const { body } = await server.api("GET", "sip");
      return body.banned + body.too_fast > 0 && body;
    });
    assert.ok(answers < 200, `${answers} of ${sent} were answered`);
    assert.ok(state.too_fast + state.banned > 0, JSON.stringify(state));
    socket.close();
    // A BYE out of the blue ends nobody's call.
    await ask(request("BYE", "room-flood", { port: 1, to: ";tag=guessed" }), false);
    await sleep(1500);
    assert.equal((await server.calls()).length, 2);
    const [other] = await alice.stop(1000);
    const [mine] = await bob.stop(440);
    assert.ok(other > 0.9 && mine > 0.9, `heard ${other} and ${mine}`);
  });
});

/** The answer to a challenge with SHA-256 (RFC 8760), as a header line; with a body, over that, too. */
function digest(challenge, user, password, uri, count, body) {
  const nonce = challenge.match(/nonce="([^"]+)"/)[1];
  const hash = (text) => createHash("sha256").update(text).digest("hex");
  const nc = count.toString(16).padStart(8, "0");
  const [qop, what] = body === undefined ? ["auth", `REGISTER:${uri}`] : ["auth-int", `REGISTER:${uri}:${hash(body)}`];
  const response = hash(`${hash(`${user}:gw.test:${password}`)}:${nonce}:${nc}:c:${qop}:${hash(what)}`);
  return `Authorization: Digest username="${user}", realm="gw.test", nonce="${nonce}", uri="${uri}", response="${response}", algorithm=SHA-256, qop=${qop}, nc=${nc}, cnonce="c"\r\n`;
}

/** A name server that knows only where SIP by UDP is below `.test`: ports of 127.0.0.1, the first to be tried first. */
async function nameServer(hosts) {
  const zone = new Map(Object.entries(hosts).map(([host, ports]) => [`_sip._udp.${host}.test`, ports]));
  const socket = dgram.createSocket("udp4");
  const label = (name) => Buffer.concat([...name.split(".").map((part) => Buffer.from([part.length, ...Buffer.from(part)])), Buffer.from([0])]);
  socket.on("message", (question, { port, address }) => {
    let [name, at] = ["", 12];
    for (; question[at]; at += question[at] + 1) name += (name && ".") + question.toString("latin1", at + 1, at + 1 + question[at]);
    const kind = question.readUInt16BE(at + 1);
    const ports = kind === 33 ? zone.get(name.toLowerCase()) ?? [] : [];
    const head = Buffer.from(question.subarray(0, 12));
    head.writeUInt16BE(ports.length || kind === 33 ? 0x8180 : 0x8183, 2);
    head.writeUInt16BE(ports.length, 6);
    head.fill(0, 8);
    const records = ports.map((target, priority) => {
      const data = Buffer.concat([Buffer.from([0, priority, 0, 0, target >> 8, target & 255]), label("127.0.0.1")]);
      return Buffer.concat([Buffer.from([0xc0, 12, 0, 33, 0, 1, 0, 0, 1, 0, 0, data.length]), data]);
    });
    socket.send(Buffer.concat([head, question.subarray(12, at + 5), ...records]), port, address);
  });
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return { port: socket.address().port, stop: () => socket.close() };
}
