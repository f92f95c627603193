// OBS Studio under a virtual display, driven through its own obs-websocket.

import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { WebSocket } from "ws";

import { picture, sound } from "./encoder.mjs";
import { freePorts, until } from "./server.mjs";

const ini = (sections) =>
  Object.entries(sections)
    .map(([name, keys]) => `[${name}]\n` + Object.entries(keys).map(([key, value]) => `${key}=${value}\n`).join(""))
    .join("\n");

export class Obs {
  /** Starts OBS with a looped clip as its scene and lets it stream to an RTMP server. */
  static async start({ server, key, bframes = 2, keyint = 0, seconds = 60 }) {
    const obs = new Obs();
    obs.home = fs.mkdtempSync(path.join(os.tmpdir(), "obs."));
    fs.chmodSync(obs.home, 0o700);
    obs.port = await freePorts();
    obs.children = [];
    const clip = path.join(obs.home, "clip.mp4");
    execFileSync("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", picture({ id: 6 }), "-f", "lavfi", "-i", sound(), "-t", String(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", clip]);
    obs.configure({ server, key, bframes, keyint, clip });
    const display = await obs.display();
    obs.process = obs.spawn("obs", ["--multi", "--minimize-to-tray", "--startstreaming", "--profile", "test", "--collection", "test", "--scene", "main", "--disable-missing-files-check", "--disable-shutdown-check", "--websocket_port", String(obs.port)], display);
    await obs.connect();
    return obs;
  }

  spawn(command, args, display) {
    const log = fs.openSync(path.join(this.home, `${path.basename(command)}.log`), "w");
    const env = {
      ...process.env,
      HOME: this.home,
      XDG_CONFIG_HOME: path.join(this.home, ".config"),
      XDG_RUNTIME_DIR: this.home,
      LIBGL_ALWAYS_SOFTWARE: "1",
      QT_QPA_PLATFORM: "xcb",
      LC_ALL: "C.UTF-8",
      ...(display ? { DISPLAY: display } : {}),
    };
    const child = spawn(command, args, { env, stdio: ["ignore", log, log, "pipe"] });
    fs.closeSync(log);
    child.gone = new Promise((resolve) => child.once("exit", resolve));
    this.children.push(child);
    return child;
  }

  /** A virtual display of its own; Xvfb chooses the number and writes it to descriptor 3. */
  async display() {
    const screen = this.spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "1280x720x24", "-nolisten", "tcp", "+extension", "GLX"]);
    let number = "";
    screen.stdio[3].on("data", (data) => (number += data));
    await until("the virtual display runs", () => number.endsWith("\n"));
    return `:${number.trim()}`;
  }

  configure({ server, key, bframes, keyint, clip }) {
    const folder = path.join(this.home, ".config/obs-studio");
    const put = (name, content) => {
      const file = path.join(folder, name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
    };
    const global = ini({
      General: { FirstRun: true, "Pre19Defaults": false, "Pre21Defaults": false, "Pre23Defaults": false, "Pre24.1Defaults": false, LastVersion: 536870912, EnableAutoUpdates: false, ConfirmOnExit: false, InfoIncrement: 999 },
      Basic: { Profile: "test", ProfileDir: "test", SceneCollection: "test", SceneCollectionFile: "test", ConfigOnNewProfile: false },
      BasicWindow: { SysTrayEnabled: true, SysTrayWhenStarted: true, PreviewEnabled: false, WarnBeforeStartingStream: false, WarnBeforeStoppingStream: false },
      OBSWebSocket: { FirstLoad: false, ServerEnabled: true, ServerPort: this.port, AlertsEnabled: false, AuthRequired: false },
    });
    put("global.ini", global);
    put("user.ini", global);
    put("plugin_config/obs-websocket/config.json", { alerts_enabled: false, auth_required: false, first_load: false, server_enabled: true, server_port: this.port });
    put("basic/profiles/test/basic.ini", ini({
      General: { Name: "test" },
      Video: { BaseCX: 640, BaseCY: 360, OutputCX: 640, OutputCY: 360, FPSType: 1, FPSInt: 30, FPSCommon: 30 },
      Audio: { SampleRate: 48000, ChannelSetup: "Stereo" },
      Output: { Mode: "Advanced", Reconnect: true, RetryDelay: 2, MaxRetries: 25 },
      AdvOut: { TrackIndex: 1, Encoder: "obs_x264", AudioEncoder: "ffmpeg_aac", ApplyServiceSettings: true, Track1Bitrate: 128, UseRescale: false },
    }));
    put("basic/profiles/test/streamEncoder.json", { rate_control: "CBR", bitrate: 1500, keyint_sec: keyint, preset: "veryfast", profile: "main", tune: "", bf: bframes, x264opts: `bframes=${bframes}${bframes ? " b-adapt=0" : ""}` });
    put("basic/profiles/test/service.json", { type: "rtmp_custom", settings: { server, key, use_auth: false, bwtest: false } });
    const uuid = (n) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
    const media = {
      id: "ffmpeg_source", versioned_id: "ffmpeg_source", name: "clip", uuid: uuid(1), enabled: true, muted: false, volume: 1, mixers: 255,
      settings: { is_local_file: true, local_file: clip, looping: true, restart_on_activate: false, close_when_inactive: false, hw_decode: false },
    };
    const item = { name: "clip", source_uuid: uuid(1), id: 1, visible: true, locked: false, rot: 0, align: 5, pos: { x: 0, y: 0 }, scale: { x: 1, y: 1 }, bounds_type: 0, bounds: { x: 0, y: 0 }, crop_left: 0, crop_top: 0, crop_right: 0, crop_bottom: 0 };
    const scene = { id: "scene", versioned_id: "scene", name: "main", uuid: uuid(2), enabled: true, mixers: 0, settings: { id_counter: 1, custom_size: false, items: [item] } };
    put("basic/scenes/test.json", { name: "test", current_scene: "main", current_program_scene: "main", scene_order: [{ name: "main" }], sources: [media, scene], groups: [], transitions: [], current_transition: "Cut", transition_duration: 300, modules: {}, version: 2 });
  }

  async connect() {
    this.socket = await until("obs-websocket answers", () => {
      if (this.process.exitCode !== null) throw new Error(`OBS ended early:\n${fs.readFileSync(path.join(this.home, "obs.log"), "utf8").slice(-3000)}`);
      return this.greet(new WebSocket(`ws://127.0.0.1:${this.port}`));
    }, 60000);
  }

  /** Gives the socket once both sides have said hello, null when OBS does not listen yet. */
  greet(socket) {
    this.pending = new Map();
    return new Promise((resolve) => {
      socket.once("error", () => resolve(null));
      socket.once("close", () => resolve(null));
      socket.on("message", (data) => {
        const { op, d } = JSON.parse(data);
        if (op === 0) socket.send(JSON.stringify({ op: 1, d: { rpcVersion: 1, eventSubscriptions: 0 } }));
        if (op === 2) resolve(socket);
        if (op === 7) this.pending.get(d.requestId)?.(d.responseData ?? d.requestStatus);
      });
    });
  }

  ask(requestType) {
    const requestId = String(Math.random());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`OBS does not answer ${requestType}`)), 10000);
      this.pending.set(requestId, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.socket.send(JSON.stringify({ op: 6, d: { requestType, requestId } }));
    });
  }

  status() {
    return this.ask("GetStreamStatus");
  }

  /** Stops the stream as a person would, then OBS. */
  async stop() {
    if (this.stopped) return;
    this.stopped = true;
    try {
      if (this.socket?.readyState === WebSocket.OPEN) {
        await this.ask("StopStream");
        await until("OBS has stopped streaming", async () => !(await this.status()).outputActive);
        this.socket.close();
      }
    } finally {
      await this.end();
    }
  }

  async end() {
    for (const child of this.children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 8000);
      await child.gone;
      clearTimeout(timer);
    }
    fs.rmSync(this.home, { recursive: true, force: true });
  }
}
