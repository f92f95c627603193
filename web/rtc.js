// One WHIP or WHEP session (RFC 9725, draft-ietf-wish-whep): offer by POST, end by DELETE.
//
// The server answers with all its addresses and only waits to be reached, so nothing is gathered
// before the offer goes out and no candidate needs to follow it: one round trip, then media.

/** The server said no: its status, its sentence, and when to ask again. */
export class Refused extends Error {
  constructor(status, text, retryAfter) {
    super(text);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export class Session {
  /** `onlost` is called once when an open session breaks. */
  constructor(endpoint, token, onlost) {
    this.endpoint = endpoint;
    this.token = token;
    this.onlost = onlost;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.resource = null;
    this.ended = false;
    this.patience = null;
    this.pc.addEventListener("connectionstatechange", () => this.#watch());
  }

  /** Opens the session; throws Refused, or another error when the server cannot be reached. */
  async open(tune = (sdp) => sdp) {
    const offer = await this.pc.createOffer();
    offer.sdp = tune(offer.sdp);
    await this.pc.setLocalDescription(offer);
    const answer = await fetch(this.endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", ...this.#authorization() },
      body: offer.sdp,
      signal: AbortSignal.timeout(10000),
    });
    const text = await answer.text();
    if (answer.status !== 201) {
      const retryAfter = Number.parseFloat(answer.headers.get("Retry-After") ?? "");
      throw new Refused(answer.status, text.trim(), Number.isFinite(retryAfter) ? retryAfter : null);
    }
    const place = answer.headers.get("Location");
    this.resource = place && new URL(place, answer.url).href;
    this.tag = answer.headers.get("ETag") ?? "*";
    if (this.ended) {
      this.#remove();
      throw new DOMException("closed meanwhile", "AbortError");
    }
    await this.pc.setRemoteDescription({ type: "answer", sdp: text });
    // What was agreed may still be out of reach: a firewall that lets HTTP through but no media.
    this.patience = setTimeout(() => {
      if (this.pc.connectionState !== "connected") this.#lost("unreachable");
    }, 12000);
  }

  close() {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.patience);
    this.pc.close();
    this.#remove();
  }

  /** Asks whether the server still has the session, which a restarted one has not; if not, it is lost. */
  async check() {
    if (this.ended || !this.resource) return;
    const body = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n";
    const headers = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": this.tag, ...this.#authorization() };
    try {
      const answer = await fetch(this.resource, { method: "PATCH", headers, body, signal: AbortSignal.timeout(4000) });
      if (answer.status === 404) this.#lost("gone");
    } catch {
      this.#lost("gone");
    }
  }

  #watch() {
    const state = this.pc.connectionState;
    clearTimeout(this.grace);
    if (state === "connected") clearTimeout(this.patience);
    if (state === "failed" || state === "closed") this.#lost("broken");
    if (state === "disconnected") {
      this.grace = setTimeout(() => this.#lost("broken"), 4000);
      this.check();
    }
  }

  #lost(why) {
    if (this.ended) return;
    this.close();
    this.onlost?.(why);
  }

  /** Also sent while the page goes away. */
  #remove() {
    if (!this.resource) return;
    fetch(this.resource, { method: "DELETE", headers: this.#authorization(), keepalive: true }).catch(() => {});
    this.resource = null;
  }

  #authorization() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }
}

/** Waits between attempts: doubling, never quite the same, so that a thousand pages do not knock at once. */
export class Backoff {
  constructor(first = 400, most = 8000) {
    this.first = first;
    this.most = most;
    this.reset();
  }

  reset() { this.next = this.first; }

  wait() {
    const wait = this.next * (0.7 + 0.6 * Math.random());
    this.next = Math.min(this.next * 2, this.most);
    return wait;
  }
}

/** What getStats() says about one direction, as numbers; `before` is the last result. */
export async function measure(pc, before) {
  const report = await pc.getStats();
  const byId = (id) => (id ? report.get(id) : undefined);
  const now = { at: performance.now(), bytes: 0, frames: 0, lost: 0, packets: 0, codecs: [] };
  for (const stat of report.values()) {
    if (stat.type === "inbound-rtp" || stat.type === "outbound-rtp") {
      now.bytes += stat.bytesReceived ?? stat.bytesSent ?? 0;
      now.packets += stat.packetsReceived ?? stat.packetsSent ?? 0;
      now.lost += stat.packetsLost ?? 0;
      const codec = byId(stat.codecId)?.mimeType?.split("/")[1];
      if (codec) now.codecs.push(codec);
      if (stat.kind === "video") {
        now.frames = stat.framesDecoded ?? stat.framesEncoded ?? 0;
        now.width = stat.frameWidth;
        now.height = stat.frameHeight;
        now.dropped = stat.framesDropped;
        now.held = stat.jitterBufferDelay;
        now.emitted = stat.jitterBufferEmittedCount;
      }
    } else if (stat.type === "remote-inbound-rtp") {
      now.lost += stat.packetsLost ?? 0;
      now.heard = Math.max(now.heard ?? 0, stat.timestamp);
    } else if (stat.type === "candidate-pair" && stat.nominated && stat.state === "succeeded") {
      now.rtt = stat.currentRoundTripTime;
      now.path = byId(stat.localCandidateId)?.protocol;
    }
  }
  if (before) {
    const seconds = (now.at - before.at) / 1000;
    now.bitrate = Math.max(0, (now.bytes - before.bytes) * 8 / seconds);
    now.fps = Math.max(0, (now.frames - before.frames) / seconds);
    if (now.emitted > before.emitted) now.buffer = (now.held - before.held) / (now.emitted - before.emitted);
  }
  return now;
}

export function bitrate(bits) {
  if (bits === undefined) return "–";
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;
}

export const milliseconds = (seconds) => (seconds === undefined ? "–" : `${Math.round(seconds * 1000)} ms`);
