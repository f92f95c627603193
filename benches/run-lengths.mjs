// How long the runs are that real publishers' packets leave in: Chromium over WHIP, ffmpeg and OBS over RTMP, each
// received by 20 of the bench's viewers. Needs what `make test-clients` installs.
//
// run-lengths.mjs [SECONDS]
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { Browser } from "../tests/clients/lib/browser.mjs";
import { Encoder } from "../tests/clients/lib/encoder.mjs";
import { Obs } from "../tests/clients/lib/obs.mjs";
import { Server, binary } from "../tests/clients/lib/server.mjs";

const seconds = process.argv[2] ?? "10";
const file = path.join(os.tmpdir(), `run-lengths-${process.pid}.json`);
const server = await Server.start({ set: { demo: false, "webrtc.announce_loopback": true } });

async function measure(name, room) {
  await server.live(room, 60000);
  const flags = ["--url", `http://127.0.0.1:${server.http}`, "--pid", server.process.pid, "--key", server.key];
  const watch = ["--whep", `/${room}/whep`, "--viewers", "20", "--seconds", seconds, "--json", file];
  const child = spawn(binary, ["bench", ...flags, ...watch].map(String), { stdio: ["ignore", "ignore", "inherit"] });
  const code = await new Promise((done) => child.once("exit", done));
  if (code !== 0) throw new Error(`the bench ended with ${code}`);
  const [stage] = JSON.parse(fs.readFileSync(file, "utf8")).stages;
  const rate = (stage.packetsReceived / stage.receivers / stage.seconds).toFixed(0);
  console.log(`| ${name} | ${rate} | ${(stage.packetsSent / stage.sendRuns).toFixed(2)} | ${(stage.cpuNanosPerPacket / 1000).toFixed(2)} |`);
}

console.log("| publisher | packets/s a viewer | packets a run | CPU µs/packet |\n| --- | --- | --- | --- |");
try {
  const browser = await Browser.start();
  const publisher = await browser.publish(server.url("chromium/whip"), server.key, { codec: "h264", id: 4 });
  await measure("Chromium, H.264 over WHIP", "chromium");
  await publisher.stop();
  await browser.stop();

  const still = ["-preset", "veryfast", "-bf", "0", "-g", "60", "-b:v", "2M", "-maxrate", "2M", "-bufsize", "1M"];
  const encoder = Encoder.rtmp(server.rtmpUrl("ffmpeg"), { video: still, size: [1280, 720] });
  await measure("ffmpeg, H.264 of 2 Mbit/s over RTMP", "ffmpeg");
  await encoder.stop();

  const obs = await Obs.start({ server: `rtmp://127.0.0.1:${server.rtmp}/obs`, key: server.key, bframes: 0 });
  await measure("OBS, H.264 over RTMP", "obs");
  await obs.end();
} finally {
  await server.stop();
  fs.rmSync(file, { force: true });
}
