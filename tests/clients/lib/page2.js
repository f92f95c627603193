// A participant in a page: mediasoup-client 2 with the browser's own WebRTC. Built by esbuild; runs beside page.js,
// whose viewer it watches with. The test exposes `toRoom` as the way to the room, or has it connect by itself.

import * as client from "mediasoup-client2";
import * as protoo from "protoo-client3";

import { draw } from "./signs.js";
import { Party } from "./party2.js";

let socket;
const signal = {
  request: async (message) => {
    if (socket) return socket.send("mediasoup-request", message);
    const { data, error } = await window.toRoom({ request: message });
    if (error !== undefined) throw new Error(error);
    return data;
  },
  notify: (message) => void (socket ? socket.notify("mediasoup-notification", message) : window.toRoom({ notify: message })),
};

const media = {
  hertz: 440,
  id: 1,
  size: [640, 360],

  track(kind) {
    return this[kind]();
  },

  async audio() {
    const audio = (window.studio ??= new AudioContext({ sampleRate: 48000 }));
    await Promise.race([audio.resume(), new Promise((resolve) => setTimeout(resolve, 1000))]);
    // Firefox gives a page no running context on a machine without a sound card; its own false microphone hums 1 kHz.
    if (audio.state !== "running") return (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks()[0];
    const [oscillator, gain, out] = [audio.createOscillator(), audio.createGain(), audio.createMediaStreamDestination()];
    oscillator.frequency.value = this.hertz;
    gain.gain.value = 0.2;
    oscillator.connect(gain).connect(out);
    oscillator.start();
    return out.stream.getAudioTracks()[0];
  },

  video() {
    const [width, height] = this.size;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    const stream = canvas.captureStream(0);
    const track = stream.getVideoTracks()[0];
    let n = 0;
    setInterval(() => {
      draw({ n: n++, id: this.id, width, height }, (x, y, w, h, luma) => {
        context.fillStyle = `rgb(${luma} ${luma} ${luma})`;
        context.fillRect(x, y, w, h);
      });
      (track.requestFrame ? track : stream).requestFrame();
    }, 1000 / 15);
    return track;
  },

  watch(consumer, track) {
    const viewer = new Viewer();
    viewer.stream = new MediaStream([track]);
    if (consumer.kind === "video") viewer.watch(track, !window.MediaStreamTrackProcessor);
    else viewer.listen(track).catch((error) => viewer.errors.push(String(error)));
    return {
      report: async () => ({ frames: viewer.frames, damaged: viewer.damaged, errors: viewer.errors, tone: await viewer.tone() }),
    };
  },
};

const party = new Party({ client, signal, media });
window.party = party;
window.orders = {
  connect: (url) =>
    new Promise((resolve, reject) => {
      const peer = new protoo.Peer(new protoo.WebSocketTransport(url, { retry: { retries: 0 } }));
      peer.on("notification", ({ method, data }) => {
        if (method === "mediasoup-notification") party.notified(data);
        else party.events.push(["application", method, data]);
      });
      peer.on("close", () => reject(new Error("the WebSocket was refused")));
      peer.on("open", () => resolve(void (socket = peer)));
    }),
  sound: (given) => void Object.assign(media, given),
  join: (name, options) => party.join(name, options),
  produce: (...args) => party.produce(...args),
  act: (...args) => party.act(...args),
  report: () => party.report(),
};
