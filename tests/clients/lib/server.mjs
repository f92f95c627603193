// The release binary under test, on free ports, with a state folder of its own.

import { spawn, spawnSync } from "node:child_process";
import dgram from "node:dgram";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
export const binary = process.env.SERVER_BINARY ?? path.join(root, "target/release/viaduct");

/** Waits until `condition` gives something true, and gives that; says `what` when it never does. */
export async function until(what, condition, ms = 15000) {
  const end = Date.now() + ms;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function tcpFree(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "::", () => server.close(() => resolve(true)));
  });
}

function udpFree(port) {
  return new Promise((resolve) => {
    const socket = dgram.createSocket("udp6");
    socket.once("error", () => resolve(false));
    socket.bind(port, () => socket.close(() => resolve(true)));
  });
}

/** The first of `count` ports in a row that are free for TCP and UDP. */
export async function freePorts(count = 1) {
  for (let tries = 0; tries < 200; tries++) {
    const first = 20000 + Math.floor(Math.random() * 10000);
    let free = true;
    for (let port = first; port < first + count && free; port++) {
      free = (await tcpFree(port)) && (await udpFree(port));
    }
    if (free) return first;
  }
  throw new Error("no free ports");
}

/** Runs the binary to its end. */
export function once(args, options = {}) {
  return spawnSync(binary, args, { cwd: root, encoding: "utf8", timeout: 20000, ...options });
}

export class Server {
  /**
   * Starts it; `set` holds keys of the configuration, `args` further arguments, `home` a folder that is kept, `network`
   * one of its own.
   */
  static async start({ set = {}, args = [], workers = 1, home, network } = {}) {
    const server = new Server();
    server.address = network?.address ?? "127.0.0.1";
    server.state = home ?? fs.mkdtempSync(path.join(os.tmpdir(), "viaduct."));
    server.keep = home !== undefined;
    const first = await freePorts(workers + 2);
    server.http = first;
    server.rtmp = first + 1;
    server.media = first + 2;
    const keys = {
      state_dir: path.join(server.state, "state"),
      "http.listen": `["[::]:${server.http}"]`,
      "rtmp.listen": `[::]:${server.rtmp}`,
      "webrtc.port": server.media,
      "control.listen": "null",
      "workers.count": workers,
      ...set,
    };
    const sets = Object.entries(keys).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
    server.output = "";
    server.log = "";
    const command = [...(network?.prefix ?? []), binary, "--config", "config/viaduct.yml", ...sets, ...args];
    server.process = spawn(command[0], command.slice(1), {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    server.process.stdout.on("data", (data) => (server.output += data));
    server.process.stderr.on("data", (data) => {
      server.log += data;
      if (process.env.SHOW_LOG) process.stderr.write(data);
    });
    server.ended = new Promise((resolve) => {
      server.process.once("exit", (code, signal) => resolve({ code, signal }));
    });
    await until("the server prints its ports", () => {
      if (server.process.exitCode !== null) throw new Error(`the server ended:\n${server.log}`);
      return new RegExp(`Port ${server.media}/udp`).test(server.output);
    }).catch(async (error) => {
      await server.stop("SIGKILL");
      throw error;
    });
    server.scheme = server.output.includes("https://") ? "https" : "http";
    server.key = fs.readFileSync(path.join(server.state, "state/publish.key"), "utf8").trim();
    return server;
  }

  get origin() {
    return `${this.scheme}://${this.address}:${this.http}`;
  }

  url(rest) {
    return `${this.origin}/${rest}`;
  }

  rtmpUrl(room) {
    return `rtmp://127.0.0.1:${this.rtmp}/${room}/${this.key}`;
  }

  /** What the API says about a room. */
  async room(name) {
    const response = await fetch(this.url(`api/rooms/${name}`));
    return response.ok ? response.json() : null;
  }

  /** Resolves once `name` is live. */
  live(name, ms = 20000) {
    return until(`room ${name} is live`, async () => (await this.room(name))?.live, ms);
  }

  /** Ends it and gives its exit status. */
  async stop(signal = "SIGTERM") {
    this.process.kill(signal);
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 10000);
    const result = await this.ended;
    clearTimeout(timer);
    if (!this.keep) fs.rmSync(this.state, { recursive: true, force: true });
    return result;
  }
}
