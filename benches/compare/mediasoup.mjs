// mediasoup 3 with one worker: a producer a published stream, a consumer a viewer, each on a transport of its own.
// mediasoup.mjs CACHE
import fs from "node:fs";
import { createRequire } from "node:module";
import { attribute, open } from "./door.mjs";

const cache = process.argv[2];
process.env.MEDIASOUP_WORKER_BIN = fs.readFileSync(`${cache}/worker.path`, "utf8").trim();
const mediasoup = createRequire(`${fs.realpathSync(cache)}/`)("mediasoup");

const TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const parameters = { "packetization-mode": 1, "profile-level-id": "42e01f", "level-asymmetry-allowed": 1 };
const codec = { kind: "video", mimeType: "video/H264", clockRate: 90000, parameters };
const feedback = [
  { type: "nack" },
  { type: "nack", parameter: "pli" },
  { type: "ccm", parameter: "fir" },
  { type: "transport-cc" },
];

const worker = await mediasoup.createWorker({
  logLevel: "error",
  rtcMinPort: 20000,
  rtcMaxPort: 29999,
});
const router = await worker.createRouter({ mediaCodecs: [{ ...codec, preferredPayloadType: 96 }] });
const extension = router.rtpCapabilities.headerExtensions.find(({ uri }) => uri === TRANSPORT_CC);
const extensions = [{ uri: TRANSPORT_CC, id: extension.preferredId }];
const producers = new Map();

async function transport(offer) {
  const transport = await router.createWebRtcTransport({ listenIps: ["127.0.0.1"], enableUdp: true, enableTcp: false });
  const [algorithm, value] = attribute(offer, "fingerprint").split(" ");
  await transport.connect({ dtlsParameters: { role: "client", fingerprints: [{ algorithm, value }] } });
  return transport;
}

function answer({ iceParameters, iceCandidates, dtlsParameters }, direction) {
  const { value } = dtlsParameters.fingerprints.find(({ algorithm }) => algorithm === "sha-256");
  const [{ foundation, priority, ip, port }] = iceCandidates;
  return [
    "v=0",
    "o=- 1 1 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=ice-lite",
    "a=group:BUNDLE 0",
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    "c=IN IP4 127.0.0.1",
    "a=mid:0",
    `a=${direction}`,
    "a=rtcp-mux",
    "a=setup:passive",
    `a=ice-ufrag:${iceParameters.usernameFragment}`,
    `a=ice-pwd:${iceParameters.password}`,
    `a=fingerprint:sha-256 ${value}`,
    `a=candidate:${foundation} 1 udp ${priority} ${ip} ${port} typ host`,
    `a=extmap:${extension.preferredId} ${TRANSPORT_CC}`,
    "a=rtpmap:96 H264/90000",
    ...feedback.map(({ type, parameter = "" }) => `a=rtcp-fb:96 ${type} ${parameter}`.trim()),
    "",
  ].join("\r\n");
}

await open(worker.pid, {
  async publish(room, offer) {
    const own = await transport(offer);
    const ssrc = Number(attribute(offer, "ssrc").split(" ")[0]);
    const producer = await own.produce({
      kind: "video",
      rtpParameters: {
        mid: "0",
        codecs: [{ ...codec, payloadType: 96, rtcpFeedback: feedback }],
        headerExtensions: extensions,
        encodings: [{ ssrc }],
        rtcp: { cname: "bench" },
      },
    });
    producers.set(room, producer.id);
    return answer(own, "recvonly");
  },
  async watch(room, offer) {
    const own = await transport(offer);
    const rtpCapabilities = {
      codecs: [{ ...codec, preferredPayloadType: 96, rtcpFeedback: feedback }],
      headerExtensions: [{ kind: "video", uri: TRANSPORT_CC, preferredId: extension.preferredId, preferredEncrypt: false }],
    };
    await own.consume({ producerId: producers.get(room), rtpCapabilities });
    return answer(own, "sendonly");
  },
});
