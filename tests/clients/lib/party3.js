// A participant with the unmodified mediasoup-client 3, wherever that runs: in a page or in Node. It connects to its room
// by itself, with the unmodified protoo-client.
//
// `media` makes tracks and watches those that come: { track(kind), watch(consumer, track) }, where a watcher has report().

/** Since 3.20 the client has no word for it, and the application says so itself. */
const sctpCapabilities = { numStreams: { OS: 1024, MIS: 1024 } };

/** Bytes that cannot be cut, swapped or mixed up unseen. */
const pattern = (length) => Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8) * 7) & 255);

/** What came, in words. */
function judged(bytes) {
  const right = pattern(bytes.length).every((byte, at) => byte === bytes[at]);
  return `${bytes.length} bytes ${right ? "intact" : "broken"}`;
}

export class Party {
  constructor({ client, protoo, media, options = {} }) {
    Object.assign(this, { client, protoo, media, options });
    this.events = [];
    this.producers = new Map();
    this.watchers = new Map();
    this.messages = [];
    this.dataConsumers = new Map();
  }

  /** `way`: { tcp } for ICE over TCP alone, { ipv6 } for candidates of IPv6 alone. */
  async join(url, displayName, way = {}) {
    this.way = way;
    const { Peer, WebSocketTransport } = this.protoo;
    const peer = (this.peer = new Peer(new WebSocketTransport(url, { retry: { retries: 0 } })));
    peer.on("notification", ({ method, data }) => this.told(method, data));
    peer.on("request", ({ method, data }, accept, reject) => this.asked(method, data).then(accept, (error) => reject(500, String(error))));
    await new Promise((resolve, reject) => {
      peer.on("open", resolve);
      peer.on("close", () => {
        this.events.push(["closed"]);
        reject(new Error("the WebSocket was refused"));
      });
    });
    const device = (this.device = new this.client.Device(this.options));
    await device.load({ routerRtpCapabilities: await peer.send("getRouterRtpCapabilities") });
    this.sending = await this.transport("send");
    this.receiving = await this.transport("recv");
    const { rtpCapabilities } = device;
    const { peers } = await peer.send("join", { displayName, device: { flag: "test", name: "test", version: "1" }, rtpCapabilities, sctpCapabilities });
    return { peers: peers.map((one) => one.displayName).sort(), canSend: ["audio", "video"].filter((kind) => device.canProduce(kind)) };
  }

  async transport(direction) {
    const { peer, device } = this;
    const sending = direction === "send";
    const forceTcp = this.way.tcp === true;
    const facts = await peer.send("createWebRtcTransport", { forceTcp, producing: sending, consuming: !sending, sctpCapabilities });
    if (this.way.ipv6) facts.iceCandidates = facts.iceCandidates.filter(({ address }) => address.includes(":"));
    const transport = sending ? device.createSendTransport(facts) : device.createRecvTransport(facts);
    transport.on("connect", ({ dtlsParameters }, done, fail) => peer.send("connectWebRtcTransport", { transportId: transport.id, dtlsParameters }).then(done, fail));
    transport.on("produce", (track, done, fail) => peer.send("produce", { transportId: transport.id, ...track }).then(done, fail));
    transport.on("producedata", (channel, done, fail) => peer.send("produceData", { transportId: transport.id, ...channel }).then(done, fail));
    transport.on("connectionstatechange", (state) => this.events.push(["transport", direction, state]));
    return transport;
  }

  /** `mime` names the codec; the rest is what mediasoup-client takes. */
  async produce(kind, { mime, ...options } = {}) {
    const codec = mime && this.device.rtpCapabilities.codecs.find(({ mimeType }) => mimeType.toLowerCase() === mime.toLowerCase());
    const producer = await this.sending.produce({ track: await this.media.track(kind), ...(codec && { codec }), ...options });
    this.producers.set(kind, producer);
    return producer.id;
  }

  /** Asks the server about a producer of mine, or a consumer. */
  ask(method, what, key, more = {}) {
    const id = what === "producer" ? { producerId: this.producers.get(key).id } : { consumerId: this.watchers.get(key).consumer.id };
    return this.peer.send(method, { ...id, ...more });
  }

  /** Which way its media goes, as the server sees it. */
  async tuple(direction) {
    const { id } = direction === "send" ? this.sending : this.receiving;
    const [{ iceSelectedTuple }] = await this.peer.send("getTransportStats", { transportId: id });
    return iceSelectedTuple;
  }

  async restart(direction) {
    const transport = direction === "send" ? this.sending : this.receiving;
    const iceParameters = await this.peer.send("restartIce", { transportId: transport.id });
    await transport.restartIce({ iceParameters });
  }

  async channel(label, options = {}) {
    const producer = await this.sending.produceData({ label, ordered: true, ...options });
    if (producer.readyState !== "open") await new Promise((resolve) => producer.on("open", resolve));
    this.producers.set(`data/${label}`, producer);
  }

  say(label, text) { this.producers.get(`data/${label}`).send(text); }

  sayBytes(label, length) { this.producers.get(`data/${label}`).send(pattern(length)); }

  hush(label) { this.producers.get(`data/${label}`).close(); }

  async asked(method, data) {
    if (method === "newConsumer") {
      const { id, producerId, kind, rtpParameters, peerId, type, appData, producerPaused } = data;
      const consumer = await this.receiving.consume({ id, producerId, kind, rtpParameters, streamId: peerId });
      const key = `${this.names?.get(peerId) ?? peerId}/${kind}`;
      this.events.push(["consumer", "new", key, type, appData, producerPaused]);
      this.watchers.set(key, { consumer, watcher: await this.media.watch(consumer, consumer.track) });
    } else if (method === "newDataConsumer") {
      const { id, dataProducerId, sctpStreamParameters, label, protocol, peerId } = data;
      const consumer = await this.receiving.consumeData({ id, dataProducerId, sctpStreamParameters, label, protocol });
      consumer.binaryType = "arraybuffer";
      consumer.on("message", (said) => this.messages.push([peerId, label, typeof said === "string" ? said : judged(new Uint8Array(said))]));
      this.dataConsumers.set(id, consumer);
    } else {
      throw new Error(`unknown request ${method}`);
    }
    return {};
  }

  told(method, data) {
    if (method === "consumerClosed") {
      for (const [key, { consumer }] of this.watchers) if (consumer.id === data.consumerId) consumer.close();
    }
    this.events.push([method, data]);
  }

  leave() { this.peer.close(); }

  async report() {
    const watched = {};
    for (const [key, { consumer, watcher }] of this.watchers) watched[key] = { closed: consumer.closed, ...(await watcher.report()) };
    return { events: this.events, watched, messages: this.messages };
  }
}

/** What a test may tell a party to do. */
export const orders = (party, media) => ({
  sound: (given) => void Object.assign(media, given),
  join: (url, name, way) => party.join(url, name, way),
  produce: (...args) => party.produce(...args),
  ask: (...args) => party.ask(...args),
  restart: (direction) => party.restart(direction),
  tuple: (direction) => party.tuple(direction),
  channel: (...args) => party.channel(...args),
  say: (...args) => void party.say(...args),
  sayBytes: (...args) => void party.sayBytes(...args),
  hush: (label) => void party.hush(label),
  leave: () => party.leave(),
  report: () => party.report(),
});
