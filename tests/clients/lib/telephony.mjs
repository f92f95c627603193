// A server with SIP on ports of its own, and what tests of telephones share.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { Server, freePorts } from "./server.mjs";

/** A trunk of whoever is on this machine, and the rule that a number `room-x` is room x. */
export const TRUSTED = { name: "local", peers: ["127.0.0.1"] };
export const ROOMS = { name: "rooms", number: "room-*", room: "{1}" };

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function folder() {
  return fs.mkdtempSync(path.join(os.tmpdir(), "viaduct-sip."));
}

/** A certificate for 127.0.0.1 and localhost that is its own authority: paths of certificate and key. */
export function certificate(where, name = "c") {
  const [certificate, key] = [path.join(where, `${name}.pem`), path.join(where, `${name}-key.pem`)];
  const made = spawnSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
    "-days", "3", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
    // An authority may not stand for a server itself, as rustls has it.
    "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]);
  assert.equal(made.status, 0, String(made.stderr));
  return { certificate, key };
}

/** Ports for RTP that no other server of the tests has. */
export function legPorts() {
  const first = 41000 + Math.floor(Math.random() * 90) * 200;
  return { "legs.port_min": first, "legs.port_max": first + 199 };
}

/** A server with the given `sip` section, further keys, and what else Server.start takes. */
export async function gateway(sip, more = {}, options = {}) {
  const port = await freePorts(3);
  const keys = Object.entries(sip).map(([key, value]) => [`sip.${key}`, typeof value === "string" ? value : JSON.stringify(value)]);
  const set = {
    demo: false,
    "webrtc.announce_loopback": true,
    "sip.udp": `127.0.0.1:${port}`,
    "sip.tcp": `127.0.0.1:${port}`,
    ...legPorts(),
    ...Object.fromEntries(keys),
    ...more,
  };
  const server = await Server.start({ ...options, set });
  server.sip = port;
  server.api = async (method, rest, body, key = server.key) => {
    const response = await fetch(server.url(`api/${rest}`), {
      method,
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text.startsWith("{") || text.startsWith("[") ? JSON.parse(text) : text };
  };
  /** The calls there are. */
  server.calls = async () => (await server.api("GET", "calls")).body;
  return server;
}

/** A file of users whose password is `secret`. */
export function users(where, binary, realm, ...names) {
  const file = path.join(where, "users");
  const lines = names.map((name) => {
    const made = spawnSync(binary, ["hash-password", name, "--realm", realm], { input: "secret\n", encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    return made.stdout;
  });
  fs.writeFileSync(file, lines.join(""), { mode: 0o600 });
  return file;
}
