// SIPp with the scenarios in sipp/.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { freePorts } from "./server.mjs";
import { folder } from "./telephony.mjs";

const scenarios = path.join(path.dirname(fileURLToPath(import.meta.url)), "sipp");

export class Sipp {
  /** Plays a scenario once, or as often as `calls` says; `to` is whom it calls, if it calls. */
  static async start(scenario, { to, user = "service", keys = {}, calls = 1, ip = "127.0.0.1", transport = "u1", port, more = [] } = {}) {
    const sipp = new Sipp();
    sipp.port = port ?? (await freePorts(1));
    sipp.work = folder();
    const media = 36000 + Math.floor(Math.random() * 500) * 4;
    const set = Object.entries(keys).flatMap(([key, value]) => ["-key", key, String(value)]);
    const args = [...(to ? [to] : []), "-sf", path.join(scenarios, `${scenario}.xml`), "-s", user, "-m", String(calls), "-i", ip, "-p", String(sipp.port),
      "-mi", ip, "-mp", String(media), "-t", transport, "-nostdin", "-trace_err", "-timeout", "40s", "-timeout_error", ...set, ...more];
    sipp.process = spawn("sipp", args, { cwd: sipp.work, stdio: ["ignore", "pipe", "pipe"] });
    sipp.output = "";
    for (const stream of [sipp.process.stdout, sipp.process.stderr]) stream.on("data", (data) => (sipp.output = (sipp.output + data).slice(-4000)));
    sipp.ended = new Promise((resolve) => sipp.process.once("exit", resolve));
    return sipp;
  }

  /** Resolves with nothing when it went as the scenario says, and throws what went wrong otherwise. */
  async passed() {
    const code = await this.ended;
    const errors = fs.readdirSync(this.work).filter((name) => name.endsWith("_errors.log"));
    const said = errors.map((name) => fs.readFileSync(path.join(this.work, name), "utf8").slice(-2500)).join("\n");
    fs.rmSync(this.work, { recursive: true, force: true });
    if (code !== 0) throw new Error(`SIPp ended with ${code}\n${said || this.output.slice(-1500)}`);
  }

  async stop() {
    this.process.kill("SIGKILL");
    await this.ended;
    fs.rmSync(this.work, { recursive: true, force: true });
  }
}
