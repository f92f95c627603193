// A participant with the unmodified mediasoup-client 2, wherever that runs: in a page or in Node.
//
// `signal` is { request(message), notify(message) }, the way to its room; `media` makes tracks and watches those that
// come: { track(kind), watch(consumer, track) }, where a watcher has report() and stop().

export class Party {
  constructor({ client, signal, media, supported = () => true }) {
    Object.assign(this, { client, signal, media, supported });
    this.events = [];
    this.producers = new Map();
    this.watchers = new Map();
  }

  async join(name, { spy = false, appData } = {}) {
    const room = (this.room = new this.client.Room({ requestTimeout: 15000, spy }));
    room.on("request", (message, ok, fail) => this.signal.request(message).then(ok, fail));
    room.on("notify", (message) => this.signal.notify(message));
    room.on("close", (originator) => this.events.push(["room", "close", originator]));
    room.on("newpeer", (peer) => {
      this.events.push(["peer", "join", peer.name]);
      this.meet(peer);
    });
    const peers = await room.join(name, appData);
    if (!spy) this.sending = room.createTransport("send");
    this.receiving = room.createTransport("recv");
    for (const peer of peers) this.meet(peer);
    return { peers: peers.map((peer) => peer.name), canSend: ["audio", "video"].filter((kind) => room.canSend(kind)) };
  }

  meet(peer) {
    peer.on("newconsumer", (consumer) => this.receive(peer, consumer));
    peer.on("close", (originator) => this.events.push(["peer", "close", peer.name, originator]));
    for (const consumer of peer.consumers) this.receive(peer, consumer);
  }

  receive(peer, consumer) {
    const key = `${peer.name}/${consumer.kind}`;
    const note = (event) => (...args) => this.events.push(["consumer", event, key, ...args]);
    for (const event of ["close", "pause", "resume", "effectiveprofilechange"]) consumer.on(event, note(event));
    consumer.on("stats", (stats) => (this.stats = { ...this.stats, [key]: stats }));
    this.events.push(["consumer", "new", key, consumer.appData]);
    if (!consumer.supported) return;
    consumer.receive(this.receiving).then(
      async (track) => this.watchers.set(key, { consumer, watcher: await this.media.watch(consumer, track) }),
      (error) => this.events.push(["consumer", "error", key, String(error)]),
    );
  }

  async produce(kind, options, appData) {
    const producer = this.room.createProducer(await this.media.track(kind), options, appData);
    for (const event of ["pause", "resume", "close", "handled", "unhandled"]) {
      producer.on(event, (...args) => this.events.push(["producer", event, kind, ...args]));
    }
    producer.on("stats", (stats) => (this.stats = { ...this.stats, [kind]: stats }));
    this.producers.set(kind, producer);
    await producer.send(this.sending);
    return producer.id;
  }

  /** Calls a method of something the party has: ["room"], ["producer", kind], ["consumer", key], ["sending"]. */
  async act([what, which], method, ...args) {
    const target = {
      room: () => this.room,
      producer: () => this.producers.get(which),
      consumer: () => this.watchers.get(which).consumer,
      sending: () => this.sending,
      receiving: () => this.receiving,
    }[what]();
    const result = await target[method](...args);
    return ["string", "number", "boolean"].includes(typeof result) ? result : undefined;
  }

  notified(message) {
    this.room.receiveNotification(message);
  }

  async report() {
    const watched = {};
    for (const [key, { consumer, watcher }] of this.watchers) {
      const { paused, locallyPaused, remotelyPaused, preferredProfile, effectiveProfile, closed } = consumer;
      watched[key] = { paused, locallyPaused, remotelyPaused, preferredProfile, effectiveProfile, closed, ...(await watcher.report()) };
    }
    return { events: this.events, watched, stats: this.stats, closed: this.room?.closed };
  }
}
