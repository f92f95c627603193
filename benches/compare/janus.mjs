// Janus as its users set it up for an audience: publishers in the videoroom plugin, whose packets are forwarded to a
// mountpoint of the streaming plugin, which viewers watch.
// janus.mjs CACHE
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { open } from "./door.mjs";

const PORT = 18388;
const folder = path.resolve(process.argv[2], "janus");
fs.rmSync(folder, { recursive: true, force: true });
fs.mkdirSync(folder, { recursive: true });
// libnice gathers nothing on the loopback interface; packets to another address of the host stay within it, too.
const [card] = Object.entries(os.networkInterfaces()).find(([, all]) => all.some(({ internal }) => !internal));
const others = fs.readdirSync("/usr/lib/x86_64-linux-gnu/janus/transports").filter((file) => file !== "libjanus_http.so");
fs.writeFileSync(`${folder}/janus.jcfg`, `
general: { configs_folder = "${folder}", debug_level = 2, session_timeout = 0, server_name = "compare" }
media: { rtp_port_range = "30000-39999", ipv6 = false }
nat: { ice_enforce_list = "${card}" }
transports: { disable = "${others.filter((file) => file.endsWith(".so")).join(",")}" }
`);
fs.writeFileSync(`${folder}/janus.transport.http.jcfg`, `
general: { json = "compact", base_path = "/janus", http = true, port = ${PORT}, ip = "127.0.0.1", https = false }
admin: { admin_http = false, admin_https = false }
`);
fs.writeFileSync(`${folder}/janus.plugin.streaming.jcfg`, `general: { rtp_port_range = "40000-44999" }\n`);
// It makes folders where it runs.
const janus = spawn("janus", ["-F", folder, "-C", `${folder}/janus.jcfg`], { stdio: "ignore", cwd: folder });
process.on("exit", () => janus.kill());
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit());

const base = `http://127.0.0.1:${PORT}/janus`;
const waiting = new Map();
let transactions = 0;

async function post(path, message) {
  const body = JSON.stringify({ ...message, transaction: `t${transactions++}` });
  const reply = await (await fetch(base + path, { method: "POST", body })).json();
  if (reply.janus === "error") throw new Error(reply.error.reason);
  return reply;
}

// Events of all handles come through one long poll.
async function listen(session) {
  for (;;) {
    const events = await (await fetch(`${base}/${session}?maxev=10`)).json();
    for (const event of [events].flat()) {
      if (event.janus === "event") waiting.get(event.transaction)?.(event);
    }
  }
}

// A message to a plugin, and the event that answers it.
async function ask(handle, body, jsep) {
  const transaction = `t${transactions++}`;
  const event = new Promise((resolve) => waiting.set(transaction, resolve));
  const text = JSON.stringify({ janus: "message", transaction, body, jsep });
  const reply = await (await fetch(`${base}/${session}/${handle}`, { method: "POST", body: text })).json();
  const result = reply.janus === "ack" ? await event : reply;
  waiting.delete(transaction);
  const problem = result.error?.reason ?? result.plugindata?.data?.error;
  if (problem) throw new Error(problem);
  return result;
}

const started = async () => {
  for (const end = Date.now() + 15000; ; ) {
    try {
      return (await post("", { janus: "create" })).data.id;
    } catch (error) {
      if (Date.now() > end || janus.exitCode !== null) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
};
const session = await started();
listen(session);
const attach = async (plugin) => (await post(`/${session}`, { janus: "attach", plugin })).data.id;
const mounts = new Map();

await open(janus.pid, {
  async publish(name, sdp) {
    const room = mounts.size + 1;
    const handle = await attach("janus.plugin.videoroom");
    await ask(handle, { request: "create", room, videocodec: "h264", bitrate: 0, publishers: 10 });
    const joined = await ask(handle, { request: "joinandconfigure", ptype: "publisher", room, video: true }, { type: "offer", sdp });
    const fmtp = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    const media = [{ type: "video", mid: "v", label: "v", port: 0, rtcpport: 0, pt: 96, codec: "h264", fmtp }];
    const streaming = await attach("janus.plugin.streaming");
    const made = await ask(streaming, { request: "create", type: "rtp", id: room, media });
    const [{ port, rtcp_port }] = made.plugindata.data.stream.ports ?? made.plugindata.data.stream.media;
    await ask(handle, {
      request: "rtp_forward",
      room,
      publisher_id: joined.plugindata.data.id,
      host: "127.0.0.1",
      streams: [{ mid: "0", port, ...(rtcp_port ? { rtcp_port } : {}) }],
    });
    mounts.set(name, room);
    return joined.jsep.sdp;
  },
  async watch(name, sdp) {
    const handle = await attach("janus.plugin.streaming");
    return (await ask(handle, { request: "watch", id: mounts.get(name) }, { type: "offer", sdp })).jsep.sdp;
  },
});
