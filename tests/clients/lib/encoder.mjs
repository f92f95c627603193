// Publishers: ffmpeg with a picture that carries its own frame number, and what else speaks RTMP.
//
// The picture is 20 columns wide. In the top row each of the first 16 columns is a bit of the frame number (white:
// 1), the other four are the source's own number; the second row shows every bit inverted, so that a reader knows a
// damaged picture from a right one. The bottom is white in the first two frames of each second and black else. The
// sound is 440 Hz with a beep of 2000 Hz in the first 80 ms of each second.

import { spawn, execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { root, until } from "./server.mjs";

export const FPS = 30;
export const TONE = 440;

export function picture({ id = 1, rate = FPS, size = [640, 360] } = {}) {
  const [width, height] = size;
  const column = width / 20;
  const row = Math.round(height / 22.5) * 2;
  const box = (x, y, w, h, color, enable) =>
    `drawbox=x=${x}:y=${y}:w=${w}:h=${h}:color=${color}:t=fill` + (enable ? `:enable='${enable}'` : "");
  const filters = [
    `testsrc2=size=${width}x${height}:rate=${rate}`,
    box(0, 0, width, row, "black"),
    box(0, row, width, row, "white"),
  ];
  for (let bit = 0; bit < 16; bit++) {
    const enable = `eq(mod(floor(n/${2 ** bit}),2),1)`;
    filters.push(box(bit * column, 0, column, row, "white", enable), box(bit * column, row, column, row, "black", enable));
  }
  for (let bit = 0; bit < 4; bit++) {
    if ((id >> bit) & 1) {
      const x = (16 + bit) * column;
      filters.push(box(x, 0, column, row, "white"), box(x, row, column, row, "black"));
    }
  }
  const foot = Math.round(height / 6);
  filters.push(box(0, height - foot, width, foot, "black"), box(0, height - foot, width, foot, "white", `lt(mod(n,${rate}),2)`));
  return filters.join(",");
}

/** Reads a picture's number and source; `luma(x, y)` is its brightness at a place from 0 to 1. `n` is null when damaged. */
export function readPicture(luma) {
  const row = (Math.round(360 / 22.5) * 2) / 360;
  let n = 0, id = 0;
  for (let column = 0; column < 20; column++) {
    const x = (column + 0.5) / 20;
    const bit = luma(x, row / 2) > 128;
    if (bit === luma(x, row * 1.5) > 128) return { n: null, id: null };
    if (bit) column < 16 ? (n |= 1 << column) : (id |= 1 << (column - 16));
  }
  return { n, id };
}

export function sound({ rate = 48000 } = {}) {
  return `aevalsrc='0.15*sin(2*PI*${TONE}*t)+0.5*sin(2*PI*2000*t)*lt(mod(t,1),0.08)':s=${rate}`;
}

/** ffmpeg 9 out of the wheel that setup.sh installed. */
export function ffmpeg9() {
  const python = path.join(root, ".cache/venv/bin/python");
  return execFileSync(python, ["-c", "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"], { encoding: "utf8" }).trim();
}

const x264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"];

export class Encoder {
  constructor(command, args) {
    this.log = "";
    this.process = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.process.stderr.on("data", (data) => (this.log += data));
    this.ended = new Promise((resolve) => this.process.once("exit", (code, signal) => resolve({ code, signal })));
  }

  /** ffmpeg over RTMP; out of the box: B-frames, keyframe interval of its own choice. */
  static rtmp(url, { id, rate, audioRate, size, video = [], audio = true, seconds } = {}) {
    const input = ["-hide_banner", "-loglevel", "warning", "-re", "-f", "lavfi", "-i", picture({ id, rate, size })];
    if (audio) input.push("-re", "-f", "lavfi", "-i", sound({ rate: audioRate }));
    const sounds = audio ? ["-c:a", "aac", "-ar", String(audioRate ?? 48000), "-ac", "2"] : [];
    const length = seconds ? ["-t", String(seconds)] : [];
    return new Encoder("ffmpeg", [...input, ...x264, ...video, ...sounds, ...length, "-f", "flv", url]);
  }

  /** ffmpeg 9 over WHIP. */
  static whip(url, token, { id, rate } = {}) {
    const input = ["-hide_banner", "-loglevel", "warning", "-re", "-f", "lavfi", "-i", picture({ id, rate }), "-re", "-f", "lavfi", "-i", sound()];
    const codecs = [...x264, "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-bf", "0", "-g", "60"];
    const sounds = ["-c:a", "libopus", "-ar", "48000", "-ac", "2"];
    return new Encoder(ffmpeg9(), [...input, ...codecs, ...sounds, "-f", "whip", "-authorization", token, url]);
  }

  get running() {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async stop(signal = "SIGTERM") {
    if (this.running) {
      this.process.kill(signal);
      const timer = setTimeout(() => this.process.kill("SIGKILL"), 8000);
      await this.ended;
      clearTimeout(timer);
    }
    return this.log;
  }
}

/** nginx with its RTMP module, which passes on to `push` what is published to rtmp://127.0.0.1:port/in/x. */
export function nginxRelay(port, push) {
  return nginx(port, `application in { live on; push ${push}; }`);
}

/** The same as a server: what is published to rtmp://127.0.0.1:port/live/x can be played from there. */
export function nginxServer(port) {
  return nginx(port, "application live { live on; idle_streams off; }");
}

async function nginx(port, applications) {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), "relay."));
  const config = `
    load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
    daemon off; master_process off; pid ${home}/pid; error_log ${home}/error.log info;
    events { worker_connections 64; }
    rtmp { server { listen 127.0.0.1:${port}; chunk_size 4096; ${applications} } }`;
  fs.writeFileSync(path.join(home, "nginx.conf"), config);
  const relay = new Encoder("nginx", ["-p", home, "-c", path.join(home, "nginx.conf")]);
  await until("nginx runs", () => {
    if (!relay.running) throw new Error(relay.log);
    return fs.existsSync(path.join(home, "pid"));
  });
  relay.ended.then(() => fs.rmSync(home, { recursive: true, force: true }));
  return relay;
}
