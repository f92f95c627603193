// A member of a room. Signalling: protoo messages over a WebSocket, in the words of mediasoup's demo (see
// docs/room-protocol.md). Media: two connections, one for what is sent and one for what is received, whose remote
// descriptions are written here from the parameters that the server tells.

const PROTOCOL = "protoo";
/** Milliseconds until an answer is given up. */
const PATIENCE = 15000;
/** Milliseconds a connection may be interrupted before its addresses are tried anew, and before it is given up. */
const INTERRUPTED = 2500;
const GONE = 12000;

/** The server said no, with its code and its sentence. */
export class RequestError extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

/** Requests, answers and notifications over a WebSocket. Fires `request`, `notification` and `close`. */
class Signalling extends EventTarget {
  #socket;
  #waiting = new Map();
  #next = Math.floor(Math.random() * 1e6);

  constructor(url) {
    super();
    this.#socket = new WebSocket(url, PROTOCOL);
    this.opened = new Promise((resolve, reject) => {
      this.#socket.addEventListener("open", resolve);
      this.#socket.addEventListener("close", ({ code, reason }) => {
        const error = new RequestError(code, reason || "The connection to the server is gone.");
        reject(error);
        for (const { refuse, timer } of this.#waiting.values()) { clearTimeout(timer); refuse(error); }
        this.#waiting.clear();
        this.dispatchEvent(new CustomEvent("close", { detail: error }));
      });
    });
    this.#socket.addEventListener("message", ({ data }) => this.#take(JSON.parse(data)));
  }

  request(method, data = {}) {
    return new Promise((resolve, refuse) => {
      if (this.#socket.readyState !== WebSocket.OPEN) { refuse(new RequestError(0, "The connection to the server is gone.")); return; }
      const id = this.#next++;
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        refuse(new RequestError(0, `The server does not answer (${method}).`));
      }, PATIENCE);
      this.#waiting.set(id, { resolve, refuse, timer });
      this.#socket.send(JSON.stringify({ request: true, id, method, data }));
    });
  }

  answer(id, error) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const result = error ? { ok: false, errorCode: 500, errorReason: String(error.message ?? error) } : { ok: true, data: {} };
    this.#socket.send(JSON.stringify({ response: true, id, ...result }));
  }

  close() { this.#socket.close(1000); }

  #take(message) {
    if (message.response) {
      const waiting = this.#waiting.get(message.id);
      if (!waiting) return;
      this.#waiting.delete(message.id);
      clearTimeout(waiting.timer);
      if (message.ok) waiting.resolve(message.data ?? {});
      else waiting.refuse(new RequestError(message.errorCode, message.errorReason));
    } else {
      this.dispatchEvent(new CustomEvent(message.request ? "request" : "notification", { detail: message }));
    }
  }
}

// ---- descriptions ----

const CRLF = "\r\n";
/** The media sections of a description, each as its lines. */
const sections = (sdp) => sdp.split(/\r?\n(?=m=)/).slice(1).map((text) => text.trim().split(/\r?\n/));
const values = (lines, name) => lines.filter((line) => line.startsWith(`a=${name}:`)).map((line) => line.slice(name.length + 3));
const value = (lines, name) => values(lines, name)[0];

/** Format parameters as an object: "apt=96;x=y" to {apt: 96, x: "y"}. */
function parseParameters(text = "") {
  const pairs = text.split(";").map((pair) => pair.trim()).filter(Boolean);
  return Object.fromEntries(pairs.map((pair) => {
    const [name, ...rest] = pair.split("=");
    const content = rest.join("=");
    return [name, /^\d+$/.test(content) && name !== "profile-level-id" ? Number(content) : content];
  }));
}

const writeParameters = (parameters = {}) => Object.entries(parameters).map(([name, content]) => (content === "" ? name : `${name}=${content}`)).join(";");

/** The codecs of a media section. */
function readCodecs(kind, lines) {
  return lines[0].split(" ").slice(3).flatMap((text) => {
    const payloadType = Number(text);
    const of = (name) => values(lines, name).filter((line) => line.split(" ")[0] === text).map((line) => line.slice(text.length + 1));
    const [name, clockRate, channels] = (of("rtpmap")[0] ?? "").split("/");
    if (!name) return [];
    const rtcpFeedback = of("rtcp-fb").map((line) => {
      const [type, ...parameter] = line.split(" ");
      return { type, parameter: parameter.join(" ") };
    });
    const codec = { mimeType: `${kind}/${name}`, payloadType, clockRate: Number(clockRate), parameters: parseParameters(of("fmtp")[0]), rtcpFeedback };
    return [kind === "audio" ? { ...codec, channels: Number(channels ?? 1) } : codec];
  });
}

const isRtx = (codec) => /\/rtx$/i.test(codec.mimeType);

/** Whether two codecs are the same to a decoder. */
function same(a, b) {
  if (a.mimeType.toLowerCase() !== b.mimeType.toLowerCase() || a.clockRate !== b.clockRate || (a.channels ?? 1) !== (b.channels ?? 1)) return false;
  const [x, y] = [a.parameters ?? {}, b.parameters ?? {}];
  const equal = (name, otherwise) => String(x[name] ?? otherwise) === String(y[name] ?? otherwise);
  switch (a.mimeType.toLowerCase()) {
    // The first byte is the profile; constrained baseline is baseline for everybody who sends or decodes it.
    case "video/h264": return equal("packetization-mode", 0) && String(x["profile-level-id"] ?? "42").slice(0, 2).toLowerCase() === String(y["profile-level-id"] ?? "42").slice(0, 2).toLowerCase();
    case "video/vp9": return equal("profile-id", 0);
    case "video/av1": return equal("profile", 0);
    default: return true;
  }
}

const codecLines = (codecs) => codecs.flatMap((codec) => {
  const { payloadType: type, mimeType, clockRate, channels } = codec;
  const parameters = writeParameters(codec.parameters);
  return [
    `a=rtpmap:${type} ${mimeType.split("/")[1]}/${clockRate}${channels > 1 ? `/${channels}` : ""}`,
    ...(parameters ? [`a=fmtp:${type} ${parameters}`] : []),
    ...(codec.rtcpFeedback ?? []).map(({ type: kind, parameter }) => `a=rtcp-fb:${type} ${kind}${parameter ? ` ${parameter}` : ""}`),
  ];
});

/** What a server's transport says of itself in every media section. */
const transportLines = ({ iceParameters, iceCandidates, dtlsParameters }, setup) => [
  "c=IN IP4 127.0.0.1",
  `a=ice-ufrag:${iceParameters.usernameFragment}`,
  `a=ice-pwd:${iceParameters.password}`,
  ...iceCandidates.map((one) => `a=candidate:${one.foundation} 1 ${one.protocol} ${one.priority} ${one.address} ${one.port} typ ${one.type}${one.tcpType ? ` tcptype ${one.tcpType}` : ""}`),
  "a=end-of-candidates",
  ...dtlsParameters.fingerprints.slice(-1).map(({ algorithm, value: digest }) => `a=fingerprint:${algorithm} ${digest}`),
  `a=setup:${setup}`,
];

const dataLines = (sctp) => [`a=sctp-port:${sctp?.port ?? 5000}`, `a=max-message-size:${sctp?.maxReceiveMessageSize ?? 262144}`];

function description(version, media) {
  const open = media.filter((section) => section.open).map((section) => section.mid);
  return ["v=0", `o=viaduct 1 ${version} IN IP4 127.0.0.1`, "s=-", "t=0 0", "a=ice-lite", ...(open.length ? [`a=group:BUNDLE ${open.join(" ")}`] : []), "a=msid-semantic: WMS *",
    ...media.flatMap((section) => section.lines)].join(CRLF) + CRLF;
}

/** What this browser takes of what the room offers, in the room's payload types. */
export function receivable(room) {
  const codecs = [];
  const headerExtensions = [];
  for (const kind of ["audio", "video"]) {
    const native = RTCRtpReceiver.getCapabilities(kind);
    const known = native.codecs.map((codec) => ({ ...codec, parameters: parseParameters(codec.sdpFmtpLine) }));
    const taken = room.codecs.filter((codec) => codec.kind === kind && !isRtx(codec) && known.some((mine) => same(mine, codec)));
    const repairs = (codec) => room.codecs.filter((rtx) => isRtx(rtx) && rtx.parameters?.apt === codec.preferredPayloadType);
    codecs.push(...taken.flatMap((codec) => [codec, ...(kind === "video" ? repairs(codec) : [])]));
    headerExtensions.push(...room.headerExtensions.filter((one) => one.kind === kind && one.direction !== "recvonly" && native.headerExtensions.some((mine) => mine.uri === one.uri)));
  }
  return { codecs, headerExtensions };
}

// ---- the two connections ----

class Connection {
  /** `facts`: the server's transport; `signalling`: where to say who we are; `onlost`: it cannot be mended. */
  constructor(facts, signalling, onlost) {
    this.facts = facts;
    this.signalling = signalling;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    this.version = 0;
    this.connected = false;
    this.queue = Promise.resolve();
    this.pc.addEventListener("connectionstatechange", () => this.#watch(onlost));
  }

  /** One negotiation after the other. */
  step(work) {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  close() {
    clearTimeout(this.mend);
    clearTimeout(this.doom);
    this.pc.close();
  }

  /** Tells the server our certificate, once. */
  async connect(local) {
    if (this.connected) return;
    this.connected = true;
    const [algorithm, digest] = /^a=fingerprint:(\S+) (\S+)/m.exec(local).slice(1);
    const dtlsParameters = { role: "client", fingerprints: [{ algorithm, value: digest }] };
    await this.signalling.request("connectWebRtcTransport", { transportId: this.facts.id, dtlsParameters });
  }

  #watch(onlost) {
    const state = this.pc.connectionState;
    if (state === "connected") {
      clearTimeout(this.mend);
      clearTimeout(this.doom);
      [this.mend, this.doom] = [null, null];
    } else if (state === "failed" || state === "disconnected") {
      this.mend ??= setTimeout(() => this.#restart().catch(() => {}), state === "failed" ? 0 : INTERRUPTED);
      this.doom ??= setTimeout(onlost, GONE);
    }
  }

  async #restart() {
    const iceParameters = await this.signalling.request("restartIce", { transportId: this.facts.id });
    await this.step(() => {
      this.facts = { ...this.facts, iceParameters };
      return this.negotiate({ iceRestart: true });
    });
  }
}

/** What is sent. The browser offers, and the answer is written here. */
class Sending extends Connection {
  /** Media sections in the order of the browser's offer: mid to {kind, codecs, extensions, rids, live}. */
  #media = new Map();
  /** What the next new section is for: the room's capabilities and the layers. */
  #next = null;

  async negotiate(options) {
    const offer = await this.pc.createOffer(options);
    await this.pc.setLocalDescription(offer);
    const local = this.pc.localDescription.sdp;
    await this.connect(local);
    const media = sections(local).map((lines) => this.#answer(lines));
    await this.pc.setRemoteDescription({ type: "answer", sdp: description(++this.version, media) });
    return sections(local);
  }

  #answer(lines) {
    const mid = value(lines, "mid");
    const kind = lines[0].slice(2).split(" ")[0];
    const transport = transportLines(this.facts, "passive");
    if (kind === "application") {
      return { mid, open: true, lines: ["m=application 7 UDP/DTLS/SCTP webrtc-datachannel", ...transport, `a=mid:${mid}`, ...dataLines(this.facts.sctpParameters)] };
    }
    const known = this.#media.get(mid) ?? this.#begin(mid, kind, lines);
    const { codecs, extensions, rids } = known;
    return {
      mid, open: true,
      lines: [
        `m=${kind} 7 UDP/TLS/RTP/SAVPF ${codecs.map((codec) => codec.payloadType).join(" ")}`, ...transport, `a=mid:${mid}`, known.live ? "a=recvonly" : "a=inactive", "a=rtcp-mux", "a=rtcp-rsize",
        ...codecLines(codecs), ...extensions.map(({ id, uri }) => `a=extmap:${id} ${uri}`),
        ...(rids.length ? [...rids.map((rid) => `a=rid:${rid} recv`), `a=simulcast:recv ${rids.join(";")}`] : []),
      ],
    };
  }

  /** A section that the browser offers for the first time. */
  #begin(mid, kind, lines) {
    const { room, rids } = this.#next;
    const extensions = values(lines, "extmap").map((line) => ({ id: Number(line.split(" ")[0].split("/")[0]), uri: line.split(" ")[1] }))
      .filter(({ uri }) => room.headerExtensions.some((one) => one.kind === kind && one.uri === uri && one.direction !== "sendonly"));
    const section = { codecs: choose(room, kind, readCodecs(kind, lines)), extensions, rids, live: true };
    this.#media.set(mid, section);
    return section;
  }

  /** Sends a track; answers the producer. `encodings` as for addTransceiver. */
  produce(room, track, encodings, appData) {
    return this.step(async () => {
      const transceiver = this.pc.addTransceiver(track, { direction: "sendonly", sendEncodings: encodings });
      const rids = encodings.map((one) => one.rid).filter(Boolean);
      this.#next = { room, rids };
      const local = await this.negotiate();
      const { mid } = transceiver;
      const described = local.find((one) => value(one, "mid") === mid);
      const { codecs, extensions } = this.#media.get(mid);
      const rtpParameters = {
        mid, codecs, headerExtensions: extensions.map(({ id, uri }) => ({ uri, id, encrypt: false, parameters: {} })),
        encodings: rids.length ? encodings.map((one) => ({ ...one, active: true })) : [streams(described, codecs.some(isRtx))],
        rtcp: { cname: /^a=ssrc:\d+ cname:(\S+)/m.exec(described.join("\n"))?.[1] ?? "", reducedSize: true },
      };
      try {
        const { id } = await this.signalling.request("produce", { transportId: this.facts.id, kind: track.kind, rtpParameters, appData });
        return { id, mid, track, transceiver };
      } catch (error) {
        await this.#silence(mid, transceiver);
        throw error;
      }
    });
  }

  /** Sends no more of a producer. */
  stop(producer) {
    this.signalling.request("closeProducer", { producerId: producer.id }).catch(() => {});
    return this.step(() => this.#silence(producer.mid, producer.transceiver));
  }

  async #silence(mid, transceiver) {
    this.#media.get(mid).live = false;
    transceiver.direction = "inactive";
    await transceiver.sender.replaceTrack(null);
    await this.negotiate();
  }

  /** Opens a channel for text; answers it. */
  channel(label, id) {
    return this.step(async () => {
      const channel = this.pc.createDataChannel(label, { negotiated: true, id, ordered: true });
      await this.negotiate();
      const sctpStreamParameters = { streamId: id, ordered: true };
      await this.signalling.request("produceData", { transportId: this.facts.id, sctpStreamParameters, label, protocol: "", appData: {} });
      return channel;
    });
  }
}

/** The first codec of the room that this browser can send, with its retransmission. */
function choose(room, kind, offered) {
  for (const wanted of room.codecs.filter((codec) => codec.kind === kind && !isRtx(codec))) {
    const codec = offered.find((mine) => same(mine, wanted));
    if (!codec) continue;
    const feedback = codec.rtcpFeedback.filter((mine) => (wanted.rtcpFeedback ?? []).some((one) => one.type === mine.type && (one.parameter ?? "") === mine.parameter));
    const rtx = offered.find((mine) => isRtx(mine) && mine.parameters.apt === codec.payloadType);
    return [{ ...codec, rtcpFeedback: feedback }, ...(rtx && kind === "video" ? [rtx] : [])];
  }
  throw new RequestError(0, `This browser sends no ${kind === "audio" ? "sound" : "picture"} that the room takes.`);
}

/** The synchronisation sources of a section with one stream. */
function streams(lines, repaired) {
  const ssrcs = values(lines, "ssrc").map((line) => Number(line.split(" ")[0]));
  const rtx = value(lines, "ssrc-group")?.split(" ");
  return repaired && rtx?.[0] === "FID" ? { ssrc: Number(rtx[1]), rtx: { ssrc: Number(rtx[2]) } } : { ssrc: ssrcs[0] };
}

/** What is received. The offer is written here, and the browser answers. */
class Receiving extends Connection {
  /** Media sections: {id, mid, kind, rtp, live}. Packets name their section, so that its mid is the server's. */
  #media = [];

  async negotiate() {
    const transport = transportLines(this.facts, "actpass");
    const media = this.#media.map((section) => ({ mid: section.mid, open: section.live || section === this.#media[0], lines: section.kind === "application" ? this.#data(section, transport) : this.#track(section, transport) }));
    await this.pc.setRemoteDescription({ type: "offer", sdp: description(++this.version, media) });
    const answer = await this.pc.createAnswer();
    await this.pc.setLocalDescription(answer);
    await this.connect(this.pc.localDescription.sdp);
  }

  #data({ mid }, transport) {
    return ["m=application 7 UDP/DTLS/SCTP webrtc-datachannel", ...transport, `a=mid:${mid}`, ...dataLines(this.facts.sctpParameters)];
  }

  #track({ mid, kind, rtp, live, id }, transport) {
    const [{ ssrc, rtx }] = rtp.encodings;
    const cname = rtp.rtcp?.cname || "viaduct";
    return [
      // The first section carries the connection for all: it may fall silent, but not go away.
      `m=${kind} ${live || this.#media[0].mid === mid ? 7 : 0} UDP/TLS/RTP/SAVPF ${rtp.codecs.map((codec) => codec.payloadType).join(" ")}`, ...transport, `a=mid:${mid}`, live ? "a=sendonly" : "a=inactive",
      `a=msid:${cname} ${id}`, "a=rtcp-mux", "a=rtcp-rsize", ...codecLines(rtp.codecs), ...(rtp.headerExtensions ?? []).map(({ id: number, uri }) => `a=extmap:${number} ${uri}`),
      `a=ssrc:${ssrc} cname:${cname}`, ...(rtx ? [`a=ssrc:${rtx.ssrc} cname:${cname}`, `a=ssrc-group:FID ${ssrc} ${rtx.ssrc}`] : []),
    ];
  }

  /** Receives what a consumer sends; answers the track. */
  consume({ id, kind, rtpParameters }) {
    return this.step(async () => {
      const section = { id, mid: rtpParameters.mid, kind, rtp: rtpParameters, live: true };
      // The place of a section that went away is taken again (RFC 8829 §5.2.2).
      const free = this.#media.findIndex((one, place) => place > 0 && !one.live);
      this.#media.splice(free < 0 ? this.#media.length : free, free < 0 ? 0 : 1, section);
      await this.negotiate();
      return this.pc.getTransceivers().find((transceiver) => transceiver.mid === section.mid).receiver.track;
    });
  }

  /** Receives no more of a consumer. */
  drop(id) {
    return this.step(async () => {
      const section = this.#media.find((one) => one.id === id);
      if (!section) return;
      section.live = false;
      await this.negotiate();
    });
  }

  /** Opens the other end of somebody's channel. */
  channel({ label, protocol, sctpStreamParameters: { streamId, ordered = true, maxPacketLifeTime, maxRetransmits } }) {
    return this.step(async () => {
      const options = { negotiated: true, id: streamId, ordered, protocol: protocol ?? "", ...(maxPacketLifeTime && { maxPacketLifeTime }), ...(maxRetransmits !== undefined && { maxRetransmits }) };
      const channel = this.pc.createDataChannel(label ?? "", options);
      if (!this.#media.some((section) => section.kind === "application")) {
        this.#media.push({ mid: "data", kind: "application", live: true });
        await this.negotiate();
      }
      return channel;
    });
  }
}

/** A WebSocket does not say why it was refused; the same address without one does. */
async function why(url, error) {
  const answer = await fetch(url).catch(() => null);
  // 426: it lets us in now, or would have.
  throw answer && answer.status !== 426 ? new RequestError(answer.status, (await answer.text()).trim()) : error;
}

// ---- the room ----

/**
 * One stay in a room. Fires `peer`, `gone`, `track`, `untrack`, `paused`, `speaker`, `message` and `name` with what happened in
 * `detail`, and `lost` once when the stay is over though nobody left.
 */
export class Room extends EventTarget {
  #signalling;
  #sending;
  #receiving;
  #capabilities;
  #over = false;
  #chat = null;
  #owners = new Map();

  constructor({ room, peer, token, name }) {
    super();
    Object.assign(this, { room, peer, token, name });
  }

  /** Whether this stay has text. */
  get talks() { return this.#chat !== null; }

  /** Enters the room; answers who is there. */
  async join() {
    const url = new URL("/ws", location.href);
    url.searchParams.set("roomId", this.room);
    url.searchParams.set("peerId", this.peer);
    if (this.token) url.searchParams.set("token", this.token);
    const signalling = new Signalling(url.href.replace("http", "ws"));
    this.#signalling = signalling;
    signalling.addEventListener("close", ({ detail }) => this.#lost(detail));
    signalling.addEventListener("request", ({ detail }) => this.#asked(detail));
    signalling.addEventListener("notification", ({ detail }) => this.#told(detail));
    await signalling.opened.catch((error) => why(url, error));
    this.#capabilities = await signalling.request("getRouterRtpCapabilities");
    const sctpCapabilities = { numStreams: { OS: 1024, MIS: 1024 } };
    const transport = (producing) => signalling.request("createWebRtcTransport", { forceTcp: false, producing, consuming: !producing, sctpCapabilities });
    const [outward, inward] = await Promise.all([transport(true), transport(false)]);
    const lost = () => this.#lost(new RequestError(0, "The media connection broke."));
    this.#sending = new Sending(outward, signalling, lost);
    this.#receiving = new Receiving(inward, signalling, lost);
    const { peers } = await signalling.request("join", {
      displayName: this.name, device: { flag: "viaduct", name: "room page", version: "" }, rtpCapabilities: receivable(this.#capabilities), sctpCapabilities,
    });
    for (const peer of peers) this.#fire("peer", peer);
    if (outward.sctpParameters) this.#openChat();
    return peers;
  }

  async #openChat() {
    try {
      const channel = await this.#sending.channel("chat", 0);
      if (channel.readyState !== "open") await new Promise((resolve) => channel.addEventListener("open", resolve, { once: true }));
      this.#chat = channel;
      this.#fire("talks", {});
    } catch { /* the room goes on without text */ }
  }

  say(text) { this.#chat?.send(text); }

  /** Sends a track; see {@link Sending#produce}. */
  produce(track, encodings, appData) { return this.#sending.produce(this.#capabilities, track, encodings, appData); }

  stop(producer) { return this.#sending.stop(producer); }

  pause(producer, paused) { return this.#signalling.request(paused ? "pauseProducer" : "resumeProducer", { producerId: producer.id }); }

  rename(displayName) { return this.#signalling.request("changeDisplayName", { displayName }); }

  /** Asks for no more than is shown. */
  prefer(consumerId, spatialLayer) { return this.#signalling.request("setConsumerPreferredLayers", { consumerId, spatialLayer, temporalLayer: 2 }).catch(() => {}); }

  /** Lets a picture rest that nobody looks at. */
  rest(consumerId, resting) { return this.#signalling.request(resting ? "pauseConsumer" : "resumeConsumer", { consumerId }).catch(() => {}); }

  statistics() { return Promise.all([this.#sending?.pc.getStats(), this.#receiving?.pc.getStats()]); }

  leave() {
    if (this.#over) return;
    this.#over = true;
    this.#sending?.close();
    this.#receiving?.close();
    this.#signalling?.close();
  }

  #lost(error) {
    if (this.#over) return;
    this.leave();
    this.#fire("lost", error);
  }

  #fire(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }

  async #asked({ id, method, data }) {
    try {
      if (method === "newConsumer") {
        const track = await this.#receiving.consume(data);
        this.#owners.set(data.id, data.peerId);
        this.#fire("track", { ...data, track });
      } else if (method === "newDataConsumer") {
        const channel = await this.#receiving.channel(data);
        channel.addEventListener("message", ({ data: text }) => {
          if (data.label === "chat" && typeof text === "string") this.#fire("message", { peerId: data.peerId, text });
        });
      } else {
        throw new Error(`${method} is not known here`);
      }
      this.#signalling.answer(id);
    } catch (error) {
      this.#signalling.answer(id, error);
    }
  }

  #told({ method, data }) {
    switch (method) {
      case "newPeer": this.#fire("peer", data); break;
      case "peerClosed": this.#fire("gone", data); break;
      case "peerDisplayNameChanged": this.#fire("name", data); break;
      case "activeSpeaker": this.#fire("speaker", data); break;
      case "consumerPaused": this.#fire("paused", { ...data, paused: true }); break;
      case "consumerResumed": this.#fire("paused", { ...data, paused: false }); break;
      case "consumerClosed":
        this.#owners.delete(data.consumerId);
        this.#receiving.drop(data.consumerId).catch(() => {});
        this.#fire("untrack", data);
        break;
      case "kicked": this.#lost(new RequestError(4403, data.reason ?? "Somebody removed you from the room.")); break;
      default: // scores, layers and estimates are for those who draw them
    }
  }
}
