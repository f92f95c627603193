// Runs inside the browser: viewers over WHEP that write down what they see and hear, and publishers over WHIP that
// draw the picture of encoder.mjs themselves.

const COLUMNS = 20;
const KEEP = 20000;
const now = () => performance.now();
window.viewers = [];
window.publishers = [];

/** Reads the two rows of columns out of luma samples; null for a picture that is not ours or damaged. */
function readCode(luma) {
  let n = 0, id = 0;
  for (let column = 0; column < COLUMNS; column++) {
    const bit = luma(column, 0) > 128;
    if (bit === luma(column, 1) > 128) return null;
    if (bit) column < 16 ? (n |= 1 << column) : (id |= 1 << (column - 16));
  }
  return { n, id };
}

async function request(url, token, sdp) {
  const headers = { "Content-Type": "application/sdp" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(url, { method: "POST", headers, body: sdp });
  const text = await response.text();
  if (response.status !== 201) throw Object.assign(new Error(`${response.status} ${text}`), { status: response.status });
  return { sdp: text, location: new URL(response.headers.get("location"), url).href, etag: response.headers.get("etag") };
}

class Viewer {
  constructor() {
    this.frames = [];   // every decoded picture: number, source, when it came, its timestamp
    this.shown = [];    // every presented picture: when, number, whether the foot is white
    this.flashes = [];
    this.beeps = [];
    this.damaged = 0;
    this.states = [];
    this.errors = [];
  }

  async start({ url, token, tcpOnly = false, audio = true, video = true, canvas = false, onlyCodec, bandwidth, via, described = false }) {
    const pc = (this.pc = new RTCPeerConnection());
    pc.onconnectionstatechange = () => this.states.push(pc.connectionState);
    this.stream = new MediaStream();
    pc.ontrack = ({ track }) => {
      this.stream.addTrack(track);
      if (track.kind === "video") this.watch(track, canvas);
      else this.listen(track).catch((error) => this.errors.push(String(error)));
    };
    if (audio) pc.addTransceiver("audio", { direction: "recvonly" });
    if (video) {
      const transceiver = pc.addTransceiver("video", { direction: "recvonly" });
      if (described) {
        // What a browser reads beyond what it offers by itself: AV1 with several sizes in one stream needs it.
        const wanted = (extension) => extension.uri.endsWith("#dependency-descriptor-rtp-header-extension");
        const extensions = transceiver.getHeaderExtensionsToNegotiate();
        extensions.filter(wanted).forEach((extension) => (extension.direction = "sendrecv"));
        transceiver.setHeaderExtensionsToNegotiate(extensions);
      }
      if (onlyCodec) {
        const all = RTCRtpReceiver.getCapabilities("video").codecs;
        transceiver.setCodecPreferences(all.filter((c) => [`video/${onlyCodec}`, "video/rtx"].includes(c.mimeType.toLowerCase())));
      }
    }
    await pc.setLocalDescription(await pc.createOffer());
    this.posted = now();
    let offer = pc.localDescription.sdp;
    // What a player says it takes, in kbit/s.
    if (bandwidth) offer = offer.replace(/(m=video.*\r\nc=.*\r\n)/, `$1b=AS:${bandwidth}\r\n`);
    const answer = await request(url, token, offer);
    this.answered = now();
    this.location = answer.location;
    let sdp = answer.sdp;
    if (tcpOnly) sdp = sdp.split("\r\n").filter((line) => !/^a=candidate:\S+ \d+ udp /i.test(line)).join("\r\n");
    // By one address of the server alone.
    if (via) sdp = sdp.split("\r\n").filter((line) => !line.startsWith("a=candidate:") || line.split(" ")[4] === via).join("\r\n");
    this.answer = sdp;
    await pc.setRemoteDescription({ type: "answer", sdp });
  }

  watch(track, canvas) {
    const video = (this.video = document.createElement("video"));
    Object.assign(video, { autoplay: true, playsInline: true, muted: false, width: 640, height: 360, srcObject: this.stream });
    document.body.append(video);
    video.play().catch((error) => this.errors.push(String(error)));
    this.present(video, canvas);
    if (!canvas) this.read(track).catch((error) => this.errors.push(String(error)));
  }

  /** Every decoded picture, whether or not the page gets to show it. */
  async read(track) {
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 60 }).readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      const at = now();
      const { width, height, x, y } = frame.visibleRect;
      const row = (height / 22.5) * 2;
      const rect = { x, y, width, height: Math.ceil(row) * 2 };
      const bytes = new Uint8Array(frame.allocationSize({ rect }));
      const [{ offset, stride }] = await frame.copyTo(bytes, { rect });
      const code = readCode((column, line) => bytes[offset + Math.floor((line + 0.5) * row) * stride + Math.floor(((column + 0.5) * width) / COLUMNS)]);
      this.keep(code, at, frame.timestamp, width);
      frame.close();
    }
  }

  keep(code, at, ts, width) {
    // A picture that can be read, not one that stands for "nothing yet".
    if (code) this.first ??= at;
    if (!code) this.damaged++;
    else if (this.frames.length < KEEP) this.frames.push({ ...code, at, ts, width });
  }

  /** Pictures as the page shows them; in browsers without a track processor also the way to read them. */
  present(video, all) {
    const canvas = document.createElement("canvas");
    canvas.width = COLUMNS * 2;
    canvas.height = 45;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    let white = false;
    const look = (time, data) => {
      context.drawImage(video, 0, 0, canvas.width, canvas.height);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
      const luma = (x, y) => pixels[(y * canvas.width + x) * 4 + 1];
      const code = readCode((column, line) => luma(column * 2 + 1, line === 0 ? 2 : 6));
      const at = data.expectedDisplayTime ?? time;
      if (all) this.keep(code, now(), Math.round(data.mediaTime * 1e6), video.videoWidth);
      if (code && this.shown.length < KEEP) this.shown.push({ ...code, at });
      const flash = luma(COLUMNS, 42) > 160;
      if (flash && !white) this.flashes.push(at);
      white = flash;
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  }

  async listen(track) {
    // Chromium feeds remote sound into WebAudio only while an element plays it too.
    const element = new Audio();
    element.srcObject = new MediaStream([track]);
    element.muted = true;
    element.play().catch(() => {});
    this.element = element;
    this.track = track;
    const context = (window.sound ??= new AudioContext({ latencyHint: "interactive" }));
    await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, 1000))]);
    // Firefox gives a page no running context on a machine without a sound card; it can record all the same.
    if (context.state !== "running") return;
    window.worklet ??= context.audioWorklet.addModule(URL.createObjectURL(new Blob([`
      registerProcessor("beeps", class extends AudioWorkletProcessor {
        constructor() { super(); this.s1 = this.s2 = 0; this.count = 0; this.loud = false; }
        process([input]) {
          const samples = input[0] ?? [];
          const k = 2 * Math.cos(2 * Math.PI * 2000 / sampleRate);
          for (let i = 0; i < samples.length; i++) {
            const s0 = samples[i] + k * this.s1 - this.s2; this.s2 = this.s1; this.s1 = s0;
            if (++this.count === 240) {
              const power = Math.sqrt(Math.max(0, this.s1 ** 2 + this.s2 ** 2 - k * this.s1 * this.s2)) / 120;
              this.s1 = this.s2 = this.count = 0;
              const loud = power > (this.loud ? 0.1 : 0.2);
              if (loud && !this.loud) this.port.postMessage(currentTime + (i - 240) / sampleRate);
              this.loud = loud;
            }
          }
          return true;
        }
      });`], { type: "text/javascript" })));
    await window.worklet;
    const source = context.createMediaStreamSource(new MediaStream([track]));
    const beeps = new AudioWorkletNode(context, "beeps", { numberOfInputs: 1, channelCount: 1 });
    beeps.port.onmessage = ({ data }) => this.beeps.push(now() - (context.currentTime - data) * 1000);
    this.analyser = context.createAnalyser();
    this.analyser.fftSize = 16384;
    this.analyser.smoothingTimeConstant = 0;
    source.connect(beeps);
    source.connect(this.analyser);
    const silent = context.createGain();
    silent.gain.value = 0;
    this.analyser.connect(silent).connect(context.destination);
    beeps.connect(silent);
  }

  /** The loudest frequency below 1500 Hz. */
  async tone() {
    if (!this.analyser) return this.track ? this.recordedTone() : null;
    const bins = new Float32Array(this.analyser.frequencyBinCount);
    this.analyser.getFloatFrequencyData(bins);
    const width = this.analyser.context.sampleRate / this.analyser.fftSize;
    let best = Math.ceil(60 / width);
    for (let bin = best; bin < 1500 / width; bin++) if (bins[bin] > bins[best]) best = bin;
    return { hertz: best * width, decibel: bins[best] };
  }

  /** Which share of what is heard now lies within 25 Hz of a frequency; 0 where nothing is heard. */
  share(hertz) {
    if (!this.analyser) return 0;
    const bins = new Float32Array(this.analyser.frequencyBinCount);
    this.analyser.getFloatFrequencyData(bins);
    const width = this.analyser.context.sampleRate / this.analyser.fftSize;
    let [all, near] = [0, 0];
    bins.forEach((decibel, at) => {
      const power = decibel > -90 ? 10 ** (decibel / 10) : 0;
      all += power;
      if (Math.abs(at * width - hertz) < 25) near += power;
    });
    return all > 0 ? near / all : 0;
  }

  async recordedTone() {
    const recorder = new MediaRecorder(new MediaStream([this.track]));
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    setTimeout(() => recorder.stop(), 1500);
    await stopped;
    const decoded = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(await new Blob(parts).arrayBuffer());
    const samples = decoded.getChannelData(0).slice(-32768);
    let best = { hertz: 0, power: 0 };
    for (let hertz = 60; hertz < 1500; hertz += 2) {
      const k = 2 * Math.cos((2 * Math.PI * hertz) / decoded.sampleRate);
      let s1 = 0, s2 = 0;
      for (const sample of samples) [s1, s2] = [sample + k * s1 - s2, s1];
      const power = s1 * s1 + s2 * s2 - k * s1 * s2;
      if (power > best.power) best = { hertz, power };
    }
    return { hertz: best.hertz, decibel: 10 * Math.log10((4 * best.power) / samples.length ** 2) };
  }

  async report() {
    const stats = {};
    for (const stat of (await this.pc.getStats()).values()) {
      if (stat.type === "inbound-rtp") stats[stat.kind] = stat;
      if (stat.type === "transport") stats.transport = stat;
      if (stat.type === "candidate-pair" && stat.nominated) stats.pair = stat;
      if (stat.type === "codec") (stats.codecs ??= []).push(stat.mimeType);
    }
    const remote = stats.pair && [...(await this.pc.getStats()).values()].find((s) => s.id === stats.pair.remoteCandidateId);
    return {
      now: now(), posted: this.posted, answered: this.answered, first: this.first, frames: this.frames, shown: this.shown,
      flashes: this.flashes, beeps: this.beeps, damaged: this.damaged, states: this.states, errors: this.errors,
      state: this.pc.connectionState, dtls: this.pc.getReceivers()[0]?.transport?.state, tone: await this.tone(), location: this.location, stats, protocol: remote?.protocol,
      size: this.video && [this.video.videoWidth, this.video.videoHeight],
    };
  }

  async stop() {
    if (this.location) await fetch(this.location, { method: "DELETE" }).catch(() => {});
    this.pc.close();
    this.video?.remove();
  }
}

/** Begins to watch; answers the viewer's number. */
window.watch = async (options) => {
  const viewer = new Viewer();
  const number = window.viewers.push(viewer) - 1;
  await viewer.start(options);
  return number;
};

/** A canvas full of grain. */
function grainy(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const image = height && new ImageData(Uint8ClampedArray.from({ length: width * height * 4 }, () => Math.random() * 256), width, height);
  if (height) canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Publishes a drawn picture and a tone. */
window.publish = async ({
  url, token, id = 1, codec, fps = 30, width = 640, height = 360, hz = 440, loud = 0.2, silent = false, noise = 0, encodings = [{ maxBitrate: 2000000 }],
}) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const publisher = { drawn: 0 };
  const track = canvas.captureStream(0).getVideoTracks()[0];
  const grain = grainy(width, Math.round(height * noise));
  const column = width / COLUMNS, row = Math.round(height / 22.5) * 2;
  const draw = () => {
    const n = publisher.drawn++;
    context.fillStyle = `hsl(${n % 360} 60% 40%)`;
    context.fillRect(0, 0, width, height);
    // Something that does not compress, so that the encoder uses the rate it is given.
    if (noise) context.drawImage(grain, (n * 37) % width, height / 2), context.drawImage(grain, ((n * 37) % width) - width, height / 2);
    context.fillStyle = "#ccc";
    context.fillRect((n * 4) % width, height / 2, 40, 40);
    for (let at = 0; at < COLUMNS; at++) {
      const bit = at < 16 ? (n >> at) & 1 : (id >> (at - 16)) & 1;
      context.fillStyle = bit ? "#fff" : "#000";
      context.fillRect(at * column, 0, column, row);
      context.fillStyle = bit ? "#000" : "#fff";
      context.fillRect(at * column, row, column, row);
    }
    context.fillStyle = n % fps < 2 ? "#fff" : "#000";
    context.fillRect(0, height - 60, width, 60);
    track.requestFrame();
  };
  draw();
  publisher.timer = setInterval(draw, 1000 / fps);
  const audio = (window.studio ??= new AudioContext({ sampleRate: 48000 }));
  await audio.resume();
  const oscillator = audio.createOscillator();
  oscillator.frequency.value = hz;
  const gain = audio.createGain();
  publisher.speak = (on) => (gain.gain.value = on ? loud : 0);
  publisher.speak(!silent);
  const out = audio.createMediaStreamDestination();
  oscillator.connect(gain).connect(out);
  oscillator.start();
  const pc = (publisher.pc = new RTCPeerConnection());
  publisher.states = [];
  pc.onconnectionstatechange = () => publisher.states.push(pc.connectionState);
  pc.addTransceiver(out.stream.getAudioTracks()[0], { direction: "sendonly" });
  const transceiver = pc.addTransceiver(track, { direction: "sendonly", sendEncodings: encodings });
  if (codec) {
    const all = RTCRtpSender.getCapabilities("video").codecs;
    transceiver.setCodecPreferences(all.filter((c) => [`video/${codec}`, "video/rtx"].includes(c.mimeType.toLowerCase())));
  }
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await request(url, token, pc.localDescription.sdp);
  publisher.location = answer.location;
  await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  publisher.stop = async () => {
    clearInterval(publisher.timer);
    await fetch(publisher.location, { method: "DELETE", headers: token ? { Authorization: `Bearer ${token}` } : {} }).catch(() => {});
    pc.close();
  };
  return window.publishers.push(publisher) - 1;
};

/** What a publisher has sent so far. */
window.published = async (number) => {
  const { pc, drawn, states } = window.publishers[number];
  const out = { drawn, states, state: pc.connectionState, dtls: pc.getSenders()[0]?.transport?.state };
  for (const stat of (await pc.getStats()).values()) {
    if (stat.type === "outbound-rtp") out[stat.kind] = stat;
    if (stat.type === "outbound-rtp" && stat.rid) (out.layers ??= {})[stat.rid] = stat;
    if (stat.type === "remote-inbound-rtp") out[`report_${stat.kind}`] = stat;
  }
  return out;
};
