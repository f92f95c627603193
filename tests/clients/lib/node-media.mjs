// A drawn picture and a tone to send, an eye and an ear for what comes: for parties in Node, over libwebrtc
// (@roamhq/wrtc).

import { createRequire } from "node:module";

import { COLUMNS, draw, loudest, readCode } from "./signs.js";

const wrtc = createRequire(import.meta.url)("@roamhq/wrtc");
const { RTCAudioSink, RTCAudioSource, RTCVideoSink, RTCVideoSource } = wrtc.nonstandard;

// Clients choose their handler by the browser they believe to be in.
const agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0.4430.93 Safari/537.36";
Object.defineProperty(globalThis, "navigator", { value: { userAgent: agent }, configurable: true });
Object.assign(globalThis, {
  RTCPeerConnection: wrtc.RTCPeerConnection,
  RTCSessionDescription: wrtc.RTCSessionDescription,
  RTCRtpTransceiver: wrtc.RTCRtpTransceiver,
  MediaStream: wrtc.MediaStream,
  MediaStreamTrack: wrtc.MediaStreamTrack,
});

const [width, height, fps] = [320, 240, 15];

export const media = {
  hertz: 440,
  id: 1,

  track(kind) {
    return this[kind]();
  },

  audio() {
    const source = new RTCAudioSource();
    const [rate, frames] = [48000, 480];
    const began = performance.now();
    let sent = 0;
    setInterval(() => {
      for (; sent * 10 <= performance.now() - began; sent++) {
        const samples = Int16Array.from({ length: frames }, (_, at) => 8000 * Math.sin((2 * Math.PI * this.hertz * (sent * frames + at)) / rate));
        source.onData({ samples, sampleRate: rate, bitsPerSample: 16, channelCount: 1, numberOfFrames: frames });
      }
    }, 10);
    return source.createTrack();
  },

  video() {
    const source = new RTCVideoSource();
    let n = 0;
    setInterval(() => {
      const data = new Uint8ClampedArray((width * height * 3) / 2).fill(128);
      draw({ n: n++, id: this.id, width, height }, (x, y, w, h, luma) => {
        for (let row = y; row < y + h; row++) data.fill(luma, row * width + x, row * width + x + w);
      });
      // Grain that costs bits, so that a bound on them is felt.
      for (let at = width * 100; at < width * 160; at++) data[at] = Math.random() * 256;
      source.onFrame({ width, height, data });
    }, 1000 / fps);
    return source.createTrack();
  },

  watch(consumer, track) {
    return consumer.kind === "video" ? new Eye(track) : new Ear(track);
  },
};

class Eye {
  frames = [];
  damaged = 0;

  constructor(track) {
    this.sink = new RTCVideoSink(track);
    this.sink.onframe = ({ frame: { width, height, data } }) => {
      const row = (height / 22.5) * 2;
      const luma = (column, line) => data[Math.floor((line + 0.5) * row) * width + Math.floor(((column + 0.5) * width) / COLUMNS)];
      const code = readCode(luma);
      if (code) this.frames.push({ ...code, at: Date.now(), width });
      else this.damaged++;
    };
  }

  report() {
    return { frames: this.frames, damaged: this.damaged };
  }
}

class Ear {
  samples = [];

  constructor(track) {
    this.sink = new RTCAudioSink(track);
    this.sink.ondata = ({ samples, sampleRate, channelCount }) => {
      this.rate = sampleRate;
      for (let at = 0; at < samples.length; at += channelCount) this.samples.push(samples[at] / 32768);
      if (this.samples.length > sampleRate) this.samples.splice(0, this.samples.length - sampleRate / 2);
    };
  }

  report() {
    const window = this.samples.slice(-(this.rate ?? 48000) / 4);
    return { tone: window.length ? loudest(window, this.rate) : null };
  }
}
