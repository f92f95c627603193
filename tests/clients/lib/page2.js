// A participant in a page: mediasoup-client 2 with the browser's own WebRTC. Built by esbuild; runs beside page.js,
// whose viewer it watches with. The test exposes `toRoom` as the way to the room.

import * as client from "mediasoup-client2";

import { draw } from "./signs.js";
import { Party } from "./party2.js";

const signal = {
  request: async (message) => {
    const { data, error } = await window.toRoom({ request: message });
    if (error !== undefined) throw new Error(error);
    return data;
  },
  notify: (message) => void window.toRoom({ notify: message }),
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
    await audio.resume();
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
    const track = canvas.captureStream(0).getVideoTracks()[0];
    let n = 0;
    setInterval(() => {
      draw({ n: n++, id: this.id, width, height }, (x, y, w, h, luma) => {
        context.fillStyle = `rgb(${luma} ${luma} ${luma})`;
        context.fillRect(x, y, w, h);
      });
      track.requestFrame();
    }, 1000 / 15);
    return track;
  },

  watch(consumer, track) {
    const viewer = new Viewer();
    viewer.stream = new MediaStream([track]);
    if (consumer.kind === "video") viewer.watch(track);
    else viewer.listen(track).catch((error) => viewer.errors.push(String(error)));
    return {
      report: async () => ({ frames: viewer.frames, damaged: viewer.damaged, errors: viewer.errors, tone: await viewer.tone() }),
    };
  },
};

const party = new Party({ client, signal, media });
window.party = party;
window.orders = {
  sound: (given) => void Object.assign(media, given),
  join: (name, options) => party.join(name, options),
  produce: (...args) => party.produce(...args),
  act: (...args) => party.act(...args),
  report: () => party.report(),
};
