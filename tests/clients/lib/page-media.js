// A drawn picture and a tone to send, an eye and an ear for what comes: for parties in pages, beside page.js, whose
// viewer they watch with.

import { draw } from "./signs.js";

export const media = {
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
