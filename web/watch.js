// Plays a room over WHEP, and goes on trying: nothing live yet, a restarted server, a lost network.

import { $, ask, el, roomOfPage, sleep, tokens } from "./common.js";
import { Backoff, Refused, Session, bitrate, measure, milliseconds } from "./rtc.js";

const room = roomOfPage();
const peer = new URLSearchParams(location.search).get("peer");
const endpoint = `/${room}/whep${peer ? `?peer=${encodeURIComponent(peer)}` : ""}`;
const video = $("video");
const backoff = new Backoff();
/** Seconds without a new frame or sound after which the room is asked what is going on. */
const STALLED = 3;

let session = null;
let last = null;
let still = 0;
/** Seconds of sound without a picture. */
let dark = 0;
let started = 0;
let firstPicture = null;
let everPlayed = false;
let wake = null;
let hideTimer = null;

document.title = `${room} – Viaduct`;
$("room").textContent = room;
$("publish").href = `/${room}/publish`;

// ---- what a person sees ----

function pill(text, kind = "") {
  $("pill").textContent = text;
  $("pill").className = `pill ${kind}`;
}

/** Words over the picture; none: the picture. */
function cover(title, text = "", { busy = false, form = false, again = false, actions = false } = {}) {
  $("cover").hidden = !title;
  document.body.classList.toggle("covered", Boolean(title));
  if (!title) return;
  $("cover-title").textContent = title;
  $("cover-text").textContent = text;
  $("cover-text").hidden = !text;
  $("spinner").hidden = !busy;
  $("token-form").hidden = !form;
  $("cover-actions").hidden = !(actions || again);
  $("again").hidden = !again;
  $("unmute").hidden = true;
  if (form) $("token").focus();
}

function waiting() {
  pill("Waiting");
  cover(`Nothing live in ${room} yet`, "This page starts by itself as soon as somebody publishes.", { busy: true, actions: true });
}

// ---- the session ----

async function run() {
  for (;;) {
    const pause = await attempt();
    if (pause === null) return;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      wake = () => { clearTimeout(timer); resolve(); };
    });
    wake = null;
  }
}

/** Has frames described: AV1 with several picture sizes in one stream is read only so, and browsers do not offer it by themselves. */
function describeFrames(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  const descriptor = extensions.find(({ uri }) => uri.endsWith("#dependency-descriptor-rtp-header-extension"));
  if (!descriptor) return;
  descriptor.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

/** One session from its beginning to its end; answers how long to wait before the next, null for never. */
async function attempt() {
  let lost;
  const over = new Promise((resolve) => { lost = resolve; });
  const mine = new Session(endpoint, tokens.get(`watch.${room}`), lost);
  session = mine;
  last = null;
  still = 0;
  firstPicture = null;
  started = performance.now();
  const stream = new MediaStream();
  describeFrames(mine.pc.addTransceiver("video", { direction: "recvonly" }));
  mine.pc.addTransceiver("audio", { direction: "recvonly" });
  mine.pc.addEventListener("track", (event) => stream.addTrack(event.track));
  mine.pc.addEventListener("connectionstatechange", () => {
    if (mine.pc.connectionState === "connected" && !everPlayed) pill("Buffering");
  });
  try {
    // Without this word Chromium mixes stereo down to one channel.
    await mine.open((sdp) => sdp.replace(/(a=fmtp:\d+ minptime=10;useinbandfec=1)/g, "$1;stereo=1"));
  } catch (error) {
    mine.close();
    return refused(error);
  }
  video.srcObject = stream;
  play();
  const why = await over;
  pill("Reconnecting", "warn");
  if (why === "unreachable") {
    cover("No media gets through", "The server answers, but its media port cannot be reached from here: a firewall, or an address the server does not announce. Trying again…", { busy: true, actions: true });
    return backoff.wait();
  }
  cover("Reconnecting…", "The connection was lost. The picture comes back by itself.", { busy: true });
  return 0;
}

/** Says in words why there is no session, and how long to wait. */
function refused(error) {
  if (!(error instanceof Refused)) {
    pill("No server", "warn");
    cover(everPlayed ? "Reconnecting…" : "The server does not answer", "Trying again until it does.", { busy: true });
    return backoff.wait();
  }
  if (error.status === 409) {
    backoff.reset();
    everPlayed = false;
    waiting();
    return (error.retryAfter ?? 2) * 1000;
  }
  if (error.status === 401 || error.status === 403) {
    const tried = Boolean(tokens.get(`watch.${room}`));
    pill("Closed room");
    cover("This room is closed", tried ? "That token does not open it. Is there another?" : "Whoever invited you can give you its token.", { form: true });
    return null;
  }
  if (error.status === 503 || error.status === 429 || error.status >= 500) {
    pill("Busy", "warn");
    cover("Not now", `${error.message} Trying again…`, { busy: true });
    return error.retryAfter ? error.retryAfter * 1000 : backoff.wait();
  }
  pill("Cannot play", "warn");
  cover("This cannot be played here", error.message, { again: true, actions: true });
  return null;
}

/** Plays with sound where the browser lets us, else without, with a button that turns it on. */
async function play() {
  const wanted = video.muted && !$("unmute").dataset.asked ? false : video.muted;
  video.muted = wanted;
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError") return;
    video.muted = true;
    $("unmute").dataset.blocked = "yes";
    await video.play().catch(() => {});
  }
  sound();
}

function sound() {
  const silent = video.muted || video.volume === 0;
  $("sound").classList.toggle("is-off", silent);
  $("sound").setAttribute("aria-label", silent ? "Turn sound on" : "Mute");
  $("unmute").hidden = !(video.muted && $("unmute").dataset.blocked) || !$("cover").hidden;
}

function setMuted(muted) {
  delete $("unmute").dataset.blocked;
  $("unmute").dataset.asked = "yes";
  video.muted = muted;
  if (!muted && video.volume === 0) { video.volume = 1; $("volume").value = 1; }
  video.play().catch(() => {});
  sound();
}

function playing() {
  everPlayed = true;
  backoff.reset();
  if (video.videoWidth) firstPicture ??= performance.now() - started;
  pill("Live", "live");
  cover("");
  sound();
  rest();
}

// ---- once a second: is it still moving? ----

async function tick() {
  const mine = session;
  if (!mine || mine.ended || mine.pc.connectionState !== "connected") return;
  const now = await measure(mine.pc, last);
  if (mine !== session || mine.ended) return;
  const moved = last && (now.frames > last.frames || (now.frames === 0 && now.packets > last.packets));
  still = moved ? 0 : still + 1;
  if (moved && !$("cover").hidden) playing();
  last = now;
  $("size").textContent = now.height ? `${now.height}p` : "";
  document.body.classList.toggle("sound-only", now.frames === 0 && Boolean(moved));
  dark = moved && now.frames === 0 ? dark + 1 : 0;
  if (still >= STALLED && still % STALLED === 0) await stalled(mine);
  if (dark === STALLED) await people();
  if (!$("stats").hidden) table(now, mine);
}

/** Connected, and nothing comes: says why. */
async function stalled(mine) {
  await mine.check();
  if (mine.ended) return;
  const summary = await ask(`/api/rooms/${room}`, mine.token);
  if (mine !== session || mine.ended || still === 0) return;
  const why = summary?.notices?.[0];
  if (summary === null || summary?.live === false) waiting();
  else if (why) cover("No picture for this browser", why, { actions: true });
  else if (!everPlayed) cover("Waiting for a picture…", "Somebody publishes; the next key picture will show.", { busy: true });
  video.requestVideoFrameCallback?.(() => { if (mine === session && !mine.ended) playing(); });
}

/** Sound comes and no picture: says why. */
function whyDark(summary, mine) {
  const codecs = summary.publishers.flatMap((one) => one.tracks).filter((track) => track.kind === "video").map((track) => track.codec.split("/")[1]);
  if (codecs.length === 0) return "";
  const offered = mine.pc.localDescription?.sdp.toLowerCase() ?? "";
  const known = codecs.some((codec) => offered.includes(` ${codec.toLowerCase()}/90000`));
  return known ? "" : `Sound only: this browser cannot decode ${codecs.join(" or ").replace("H26", "H.26")}, which is sent here. Try another browser.`;
}

async function people() {
  const mine = session;
  if (document.hidden || !mine || mine.ended) return;
  const summary = await ask(`/api/rooms/${room}`, mine.token);
  if (mine !== session || mine.ended) return;
  $("viewers").hidden = !summary?.viewers;
  $("viewers").textContent = summary?.viewers ? `${summary.viewers} watching` : "";
  // The room's notices are about whoever cannot have its picture, which may be somebody else.
  const notice = summary?.live && dark >= STALLED ? whyDark(summary, mine) || (summary.notices?.[0] ?? "") : "";
  $("notice").hidden = !notice || !$("cover").hidden;
  $("notice").textContent = notice;
}

function table(now, mine) {
  const lines = {
    Connection: [mine.pc.connectionState, now.path?.toUpperCase()].filter(Boolean).join(", "),
    Picture: now.width ? `${now.width}×${now.height}, ${(now.fps ?? 0).toFixed(0)} fps` : "–",
    Codecs: now.codecs.join(", ") || "–",
    Bitrate: bitrate(now.bitrate),
    "Round trip": milliseconds(now.rtt),
    Buffer: milliseconds(now.buffer),
    "Packets lost": `${now.lost} of ${now.packets + now.lost}`,
    "Frames dropped": now.dropped ?? "–",
    "First picture after": firstPicture === null ? "–" : `${Math.round(firstPicture)} ms`,
  };
  $("stats").replaceChildren(...Object.entries(lines).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

// ---- controls ----

/** Shows the controls, and hides them when nothing moves. */
function rest() {
  document.body.classList.remove("rest");
  clearTimeout(hideTimer);
  hideTimer = setTimeout(() => {
    const busy = document.querySelector(".bar :focus-visible") || !$("cover").hidden;
    if (!busy) document.body.classList.add("rest");
  }, 3000);
}

function toggleStats() {
  $("stats").hidden = !$("stats").hidden;
  $("stats-toggle").setAttribute("aria-expanded", !$("stats").hidden);
  if (last && session) table(last, session);
}

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (document.documentElement.requestFullscreen) document.documentElement.requestFullscreen().catch(() => {});
  else video.webkitEnterFullscreen?.();
}

video.addEventListener("playing", () => { if (video.videoWidth) playing(); });
video.addEventListener("resize", () => { if (video.videoWidth) playing(); });
video.addEventListener("click", rest);
video.addEventListener("dblclick", toggleFull);
for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) document.addEventListener(event, rest);
$("unmute").addEventListener("click", () => setMuted(false));
$("sound").addEventListener("click", () => setMuted(!(video.muted || video.volume === 0)));
$("volume").addEventListener("input", () => {
  video.volume = Number($("volume").value);
  setMuted(video.volume === 0);
});
$("stats-toggle").addEventListener("click", toggleStats);
$("again").addEventListener("click", () => { cover("Connecting…", "", { busy: true }); run(); });
$("full").addEventListener("click", toggleFull);
$("full").hidden = !(document.fullscreenEnabled || video.webkitEnterFullscreen);
$("pip").hidden = !document.pictureInPictureEnabled;
$("pip").addEventListener("click", () => {
  if (document.pictureInPictureElement) document.exitPictureInPicture();
  else video.requestPictureInPicture().catch(() => {});
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  tokens.set(`watch.${room}`, $("token").value.trim());
  $("token").value = "";
  cover("Connecting…", "", { busy: true });
  run();
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { m: () => setMuted(!video.muted), s: toggleStats, f: toggleFull }[event.key.toLowerCase()];
  if (act) { event.preventDefault(); act(); }
});
addEventListener("online", () => wake?.());
document.addEventListener("visibilitychange", () => { if (!document.hidden) wake?.(); });
addEventListener("pagehide", () => session?.close());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

run();
setInterval(tick, 1000);
(async () => { for (await sleep(1500); ; await sleep(10000)) await people(); })();
