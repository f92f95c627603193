// Publishes camera and microphone over WHIP.

import { $, ask, el, roomOfPage, tokens } from "./common.js";
import { QUALITY, available, capture, insecure, list, meter, whyNot } from "./devices.js";
import { Backoff, Refused, Session, bitrate, measure, milliseconds } from "./rtc.js";

const room = roomOfPage();
const backoff = new Backoff(500, 5000);

/** Milliseconds without a report of the server after which it is asked whether it still knows us. */
const SILENT = 6000;

let stream = null;
let session = null;
/** Whether the person wants to be live; a lost session is then opened again. */
let wanted = false;
let liveSince = null;
let last = null;
/** Ends the meter of the microphone. */
let quiet = null;
let wake = null;

document.title = `Publish to ${room} – Viaduct`;
$("room").textContent = room;
$("watch-link").href = `/${room}`;
$("token").value = tokens.get("publish");

// ---- what a person sees ----

function pill(text, kind = "") {
  $("pill").textContent = text;
  $("pill").className = `pill ${kind}`;
}

/** A problem in words; parts may be links. */
function problem(...parts) {
  $("problem").hidden = parts.length === 0;
  $("problem").replaceChildren(...parts);
}

function buttons() {
  const audio = stream?.getAudioTracks()[0];
  const picture = stream?.getVideoTracks()[0];
  for (const [button, track, on, off] of [
    [$("mic"), audio, "Mute the microphone", "Turn the microphone on"],
    [$("cam"), picture, "Turn the camera off", "Turn the camera on"],
  ]) {
    button.disabled = !track;
    const silent = !track || !track.enabled;
    button.classList.toggle("is-off", silent);
    button.setAttribute("aria-pressed", Boolean(track) && silent);
    button.setAttribute("aria-label", silent ? off : on);
  }
  const dark = !picture || !picture.enabled;
  $("stage-cover").hidden = Boolean(stream) && !dark;
  $("allow").hidden = Boolean(stream);
  if (stream && dark) $("stage-text").textContent = picture ? "Your camera is off." : "Sound only: there is no camera.";
  $("go").disabled = !stream;
  $("go").textContent = wanted ? "Stop" : "Go live";
  $("go").classList.toggle("danger", wanted);
  for (const id of ["quality", "name", "token", "reveal"]) $(id).disabled = wanted;
}

// ---- devices ----

async function start(camera, microphone) {
  let fresh;
  try {
    fresh = await capture($("quality").value, camera, microphone);
  } catch (error) {
    problem(whyNot(error));
    $("stage-text").textContent = "No picture yet.";
    return;
  }
  problem();
  const muted = { audio: stream?.getAudioTracks()[0]?.enabled === false, video: stream?.getVideoTracks()[0]?.enabled === false };
  for (const track of fresh.getTracks()) {
    track.enabled = !muted[track.kind];
    if (track.kind === "video") track.contentHint = "motion";
    track.addEventListener("ended", () => problem(track.kind === "video" ? "The camera was taken away." : "The microphone was taken away."));
  }
  const before = stream;
  stream = fresh;
  $("preview").srcObject = fresh;
  // A mirror is what people expect of the camera that looks at them; others see it the right way round.
  $("preview").classList.toggle("mirror", fresh.getVideoTracks()[0]?.getSettings().facingMode !== "environment");
  if (session && !session.ended) {
    for (const sender of session.pc.getSenders()) {
      const kind = sender.track?.kind ?? sender.kind;
      const track = fresh.getTracks().find((one) => one.kind === kind);
      if (track) await sender.replaceTrack(track);
    }
  }
  for (const track of before?.getTracks() ?? []) track.stop();
  await list($("camera"), $("microphone"), stream);
  quiet?.();
  const microphoneTrack = fresh.getAudioTracks()[0];
  quiet = microphoneTrack ? meter(microphoneTrack, $("level")) : null;
  buttons();
}

// ---- the session ----

async function run() {
  while (wanted) {
    const pause = await attempt();
    if (!wanted) return;
    if (pause === null) { wanted = false; buttons(); return; }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      wake = () => { clearTimeout(timer); resolve(); };
    });
  }
}

async function attempt() {
  let lost;
  const over = new Promise((resolve) => { lost = resolve; });
  const name = $("name").value.trim();
  const mine = new Session(`/${room}/whip${name ? `?name=${encodeURIComponent(name)}` : ""}`, $("token").value.trim(), lost);
  session = mine;
  last = null;
  pill(liveSince ? "Reconnecting" : "Connecting", "warn");
  for (const track of [...stream.getVideoTracks(), ...stream.getAudioTracks()]) {
    const sendEncodings = track.kind === "video" ? [{ maxBitrate: QUALITY[$("quality").value][1] }] : undefined;
    mine.pc.addTransceiver(track, { direction: "sendonly", streams: [stream], ...(sendEncodings && { sendEncodings }) });
  }
  mine.pc.addEventListener("connectionstatechange", () => {
    if (mine.pc.connectionState !== "connected") return;
    backoff.reset();
    liveSince ??= Date.now();
    pill("Live", "live");
    problem();
  });
  try {
    await mine.open();
  } catch (error) {
    mine.close();
    return refused(error);
  }
  const why = await over;
  if (!wanted) return null;
  pill("Reconnecting", "warn");
  $("stats").hidden = true;
  if (why === "unreachable") {
    problem("The server answers, but its media port cannot be reached from here: a firewall, or an address the server does not announce. Trying again…");
    return backoff.wait();
  }
  return 0;
}

function refused(error) {
  if (!wanted) return null;
  if (!(error instanceof Refused)) {
    problem("The server does not answer. Trying again…");
    return backoff.wait();
  }
  if (error.status >= 500 || error.status === 429) {
    problem(`${error.message} Trying again…`);
    return error.retryAfter ? error.retryAfter * 1000 : backoff.wait();
  }
  pill("Not live");
  liveSince = null;
  if (error.status === 401) {
    problem($("token").value ? "The server does not know this publish key. Look for blanks at its ends, and for an older key." : "Publishing needs the publish key.");
    $("token").focus();
  } else if (error.status === 403) {
    problem("This key does not allow publishing in this room.");
    $("token").focus();
  } else if (error.status === 409) {
    const name = $("name").value.trim() || "live";
    problem(`Somebody else already publishes as “${name}” in ${room}. Choose another name in the room.`);
    $("name").focus();
  } else {
    problem(error.message || `The server refused with status ${error.status}.`);
  }
  return null;
}

function stop() {
  wanted = false;
  liveSince = null;
  session?.close();
  wake?.();
  pill("Not live");
  $("stats").hidden = true;
  $("clock").hidden = true;
  buttons();
}

async function tick() {
  const live = liveSince !== null && wanted;
  $("clock").hidden = !live;
  if (live) {
    const seconds = Math.floor((Date.now() - liveSince) / 1000);
    const two = (value) => String(value).padStart(2, "0");
    $("clock").textContent = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  }
  const mine = session;
  if (!live || !mine || mine.ended || mine.pc.connectionState !== "connected") return;
  last = await measure(mine.pc, last);
  // Nothing heard of the server for a while, though it reports every second or so.
  if (last.heard && last.heard < Date.now() - SILENT) mine.check();
  const lines = {
    Picture: last.width ? `${last.width}×${last.height}, ${(last.fps ?? 0).toFixed(0)} fps` : "–",
    Sending: bitrate(last.bitrate),
    "Round trip": milliseconds(last.rtt),
    "Packets lost": `${last.lost}`,
  };
  $("stats").hidden = false;
  $("stats").replaceChildren(...Object.entries(lines).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

// ---- controls ----

$("allow").addEventListener("click", () => start());
$("camera").addEventListener("change", () => start($("camera").value, $("microphone").value || undefined));
$("microphone").addEventListener("change", () => start($("camera").value || undefined, $("microphone").value));
$("quality").addEventListener("change", () => { if (stream) start($("camera").value || undefined, $("microphone").value || undefined); });
for (const [id, tracks] of [["mic", () => stream.getAudioTracks()], ["cam", () => stream.getVideoTracks()]]) {
  $(id).addEventListener("click", () => {
    for (const track of tracks()) track.enabled = !track.enabled;
    buttons();
  });
}
$("reveal").addEventListener("click", () => {
  const hidden = $("token").type === "password";
  $("token").type = hidden ? "text" : "password";
  $("reveal").textContent = hidden ? "Hide" : "Show";
  $("reveal").setAttribute("aria-pressed", hidden);
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (wanted) { stop(); return; }
  if (!stream) return;
  tokens.set("publish", $("token").value.trim());
  wanted = true;
  problem();
  buttons();
  run();
});
addEventListener("online", () => wake?.());
addEventListener("pagehide", () => session?.close());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
addEventListener("beforeunload", (event) => { if (wanted) event.preventDefault(); });

setInterval(tick, 1000);
buttons();
if (!available()) {
  $("stage-text").textContent = "No camera at this address.";
  $("allow").hidden = true;
  problem(...(await insecure(`/${room}/publish`)));
} else {
  navigator.mediaDevices.addEventListener("devicechange", () => { if (stream) list($("camera"), $("microphone"), stream); });
  // Somebody who has said yes before need not press a button.
  const states = await Promise.all(["camera", "microphone"].map((name) => navigator.permissions?.query({ name }).catch(() => null)));
  if (states.every((state) => state?.state === "granted")) start();
}
const facts = (await ask("/api/server")) ?? {};
$("key-hint").textContent = `The key: ${facts.key_hint || "printed when the server started"}. What you type stays in this tab.`;
