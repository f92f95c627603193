// The room: everybody in a grid, whatever door they came by; screen, chat, devices.

import { $, ask, el, roomOfPage, tokens } from "./common.js";
import { QUALITY, available, capture, insecure, list, meter, whyNot } from "./devices.js";
import { Backoff, measure } from "./rtc.js";
import { Room } from "./room.js";

const room = roomOfPage();
const backoff = new Backoff(500, 5000);
/** Codes of the server after which there is no use in trying again: refused, removed, or another tab took over. */
const FINAL = new Set([400, 401, 403, 404, 4000]);
/** The layers a camera is sent in: how much smaller, and the share of its bits. */
const LAYERS = [{ rid: "q", scaleResolutionDownBy: 4, share: 0.07 }, { rid: "h", scaleResolutionDownBy: 2, share: 0.25 }, { rid: "f", scaleResolutionDownBy: 1, share: 1 }];

/** What is mine: tracks by what they show, and how they are sent at the moment. */
const mine = { mic: null, cam: null, screen: null };
const sent = { mic: null, cam: null, screen: null };
const peers = new Map();
let stay = null;
let wanted = false;
let quiet = null;
let sink = "";
let tab = null;
const self = { id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), displayName: "" };

document.title = `${room} – Viaduct`;
$("lobby-room").textContent = `Join ${room}`;
$("room").textContent = room;
$("name").value = localStorage.getItem("viaduct.name") ?? "";
$("token").value = tokens.get("publish");

function problem(...parts) {
  $("problem").hidden = parts.length === 0;
  $("problem").replaceChildren(...parts);
}

function state(text, kind = "warn") {
  $("state").hidden = !text;
  $("state").textContent = text;
  $("state").className = `pill ${kind}`;
}

// ---- tiles ----

const PHONE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6.6 3h3l1.5 4.5-2 1.6a12 12 0 0 0 5.8 5.8l1.6-2 4.5 1.500v3a2 2 0 0 1-2.2 2A17 17 0 0 1 4.6 5.200 2 2 0 0 1 6.6 3z"/></svg>';
const MUTED = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3z"/><path class="stroke" d="M6 11.5a6 6 0 0 0 12 0M12 17.5V21M4 4l16 16"/></svg>';
const DOORS = { sip: "Telephone", rtmp: "RTMP", whip: "WHIP", clip: "Built-in picture", whep: "Viewer" };

/** Markup of our own, as an element. */
function picture(svg, name) {
  const box = el("span", { class: name });
  box.innerHTML = svg;
  return box;
}

const initials = (name) => name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join("") || "?";

function tile(peer, screen = false) {
  const video = el("video", { autoplay: true, playsinline: true, muted: true });
  video.muted = true;
  const face = peer.device?.flag === "sip" ? picture(PHONE, "face") : el("span", { class: "face" }, initials(peer.displayName));
  const label = el("span", { class: "label" }, picture(MUTED, "muted-mark"), el("span", { class: "who" }));
  const box = el("div", { class: `tile${screen ? " is-screen" : ""}` }, face, video, label);
  box.addEventListener("dblclick", () => box.requestFullscreen?.().catch(() => {}));
  return { box, video, label };
}

function caption(peer) {
  const door = DOORS[peer.device?.flag];
  return `${peer.displayName}${peer === self ? " (you)" : door ? ` · ${door}` : ""}`;
}

/** Brings a peer's tiles up to date. */
function draw(peer) {
  const { camera } = peer.tiles;
  camera.label.querySelector(".who").textContent = caption(peer);
  if (peer.device?.flag !== "sip") camera.box.querySelector(".face").textContent = initials(peer.displayName);
  const picture = peer.pictures.find((one) => !one.screen);
  const shown = picture && !picture.paused;
  camera.box.classList.toggle("dark", !shown);
  camera.box.classList.toggle("is-muted", peer.sounds.length > 0 ? peer.sounds.every((one) => one.paused) : peer !== self || !mine.mic?.enabled);
  if (shown && camera.video.srcObject?.getTracks()[0] !== picture.track) camera.video.srcObject = new MediaStream([picture.track]);
  if (!shown) camera.video.srcObject = null;
  const screen = peer.pictures.find((one) => one.screen);
  if (screen && !peer.tiles.screen) {
    peer.tiles.screen = tile(peer, true);
    peer.tiles.screen.video.srcObject = new MediaStream([screen.track]);
    $("grid").prepend(peer.tiles.screen.box);
  } else if (!screen && peer.tiles.screen) {
    peer.tiles.screen.box.remove();
    peer.tiles.screen = null;
  }
  if (peer.tiles.screen) peer.tiles.screen.label.querySelector(".who").textContent = `${caption(peer)}: screen`;
  arrange();
}

/** As large as they can be: the number of columns that leaves each tile the most room. */
function arrange() {
  const grid = $("grid");
  const tiles = grid.childElementCount;
  const { clientWidth: width, clientHeight: height } = grid;
  if (!tiles || !width || !height) return;
  const gap = 12;
  let wide = 0;
  for (let columns = 1; columns <= tiles; columns++) {
    wide = Math.max(wide, Math.min(width / columns - gap, (height / Math.ceil(tiles / columns) - gap) * 16 / 9));
  }
  grid.style.setProperty("--tile", `${Math.floor(wide)}px`);
  const lines = wide * 9 / 16 * devicePixelRatio;
  const layer = lines <= 200 ? 0 : lines <= 400 ? 1 : 2;
  for (const peer of peers.values()) {
    for (const one of peer.pictures.filter((picture) => picture.id && picture.layer !== layer && !picture.screen)) {
      one.layer = layer;
      stay?.prefer(one.id, layer);
    }
  }
}

function enterPeer(peer) {
  if (peers.has(peer.id)) return;
  Object.assign(peer, { tiles: { camera: tile(peer), screen: null }, pictures: [], sounds: [], since: Date.now() });
  peers.set(peer.id, peer);
  $("grid").append(peer.tiles.camera.box);
  peer.tiles.camera.box.dataset.peer = peer.id;
  draw(peer);
  people();
}

function dropPeer(id) {
  const peer = peers.get(id);
  if (!peer) return;
  peers.delete(id);
  peer.tiles.camera.box.remove();
  peer.tiles.screen?.box.remove();
  for (const sound of peer.sounds) sound.element.remove();
  arrange();
  people();
}

function people() {
  $("count").textContent = peers.size === 1 ? "Only you" : `${peers.size} here`;
  $("people").replaceChildren(...[...peers.values()].map((peer) => el("li", {}, peer.device?.flag === "sip" ? picture(PHONE, "small-face") : el("span", { class: "small-face" }, initials(peer.displayName)), caption(peer))));
}

// ---- what the room tells ----

function listen(current) {
  const on = (name, handler) => current.addEventListener(name, ({ detail }) => { if (stay === current) handler(detail); });
  on("peer", enterPeer);
  on("gone", ({ peerId }) => dropPeer(peerId));
  on("name", ({ peerId, displayName }) => {
    const peer = peers.get(peerId);
    if (!peer) return;
    peer.displayName = displayName;
    draw(peer);
    people();
  });
  on("track", ({ peerId, id, kind, track, appData, producerPaused }) => {
    const peer = peers.get(peerId);
    if (!peer) return;
    if (kind === "audio") {
      const element = el("audio", { autoplay: true });
      element.srcObject = new MediaStream([track]);
      if (sink) element.setSinkId?.(sink).catch(() => {});
      document.body.append(element);
      element.play().catch(() => state("Click anywhere for sound"));
      peer.sounds.push({ id, track, element, paused: producerPaused });
    } else {
      peer.pictures.push({ id, track, screen: appData?.source === "screen", paused: producerPaused });
    }
    draw(peer);
  });
  on("untrack", ({ consumerId }) => {
    for (const peer of peers.values()) {
      const sound = peer.sounds.find((one) => one.id === consumerId);
      sound?.element.remove();
      peer.sounds = peer.sounds.filter((one) => one !== sound);
      peer.pictures = peer.pictures.filter((one) => one.id !== consumerId);
      draw(peer);
    }
  });
  on("paused", ({ consumerId, paused }) => {
    for (const peer of peers.values()) {
      const one = [...peer.sounds, ...peer.pictures].find((track) => track.id === consumerId);
      if (!one) continue;
      one.paused = paused;
      draw(peer);
    }
  });
  on("speaker", ({ peerId }) => {
    for (const peer of peers.values()) peer.tiles.camera.box.classList.toggle("speaks", peer.id === peerId);
  });
  on("talks", () => { $("chat").hidden = false; });
  on("message", ({ peerId, text }) => message(peers.get(peerId)?.displayName ?? "Somebody", text));
  on("lost", (error) => again(error));
}

function message(who, text, own = false) {
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  $("messages").append(el("li", { class: own ? "own" : "" }, el("span", { class: "from" }, own ? time : `${who} · ${time}`), el("span", { class: "text" }, text)));
  $("messages").lastElementChild.scrollIntoView({ block: "end" });
  if (tab !== "chat") $("unread").hidden = own;
}

// ---- my tracks ----

function encodings(what, track) {
  if (what === "mic") return [{}];
  const most = QUALITY[$("quality").value][1];
  if (what === "screen") return [{ maxBitrate: 2_500_000 }];
  const { height = 720 } = track.getSettings();
  // A small picture is not worth three layers.
  const layers = height >= 480 ? LAYERS : LAYERS.slice(1);
  return layers.map(({ share, ...layer }) => ({ ...layer, maxBitrate: Math.round(most * share) }));
}

async function send(what) {
  const track = mine[what];
  if (!stay || !track || sent[what]) return;
  const current = stay;
  sent[what] = {};
  try {
    const producer = await current.produce(track, encodings(what, track), { source: what });
    if (stay !== current) return;
    sent[what] = producer;
    // It may have changed while the room was asked.
    if (mine[what] !== track) await unsend(what).then(() => send(what));
    else if (!track.enabled) await current.pause(producer, true);
  } catch (error) {
    sent[what] = null;
    if (stay === current) state(error.message);
  }
}

async function unsend(what) {
  const producer = sent[what];
  sent[what] = null;
  if (producer?.id && stay) await stay.stop(producer).catch(() => {});
}

/** Another track in place of one of mine; none: it ends. */
async function use(what, track) {
  const before = mine[what];
  mine[what] = track;
  track?.addEventListener("ended", () => { if (mine[what] === track) use(what, null); });
  if (sent[what]?.id && track) await sent[what].transceiver.sender.replaceTrack(track);
  else if (track) await send(what);
  else await unsend(what);
  if (before && before !== track) before.stop();
  if (what === "mic") {
    quiet?.();
    quiet = track && $("lobby").hidden === false ? meter(track, $("level")) : null;
  }
  mirror();
}

/** Shows my own tracks. */
function mirror() {
  $("preview").srcObject = mine.cam ? new MediaStream([mine.cam]) : null;
  $("stage-cover").hidden = Boolean(mine.cam);
  for (const [button, what, on, off] of [[$("mic"), "mic", "Mute the microphone", "Turn the microphone on"], [$("cam"), "cam", "Turn the camera off", "Turn the camera on"],
    [$("lobby-mic"), "mic", "Mute the microphone", "Turn the microphone on"], [$("lobby-cam"), "cam", "Turn the camera off", "Turn the camera on"]]) {
    const silent = !mine[what]?.enabled;
    button.classList.toggle("is-off", silent);
    button.setAttribute("aria-pressed", silent);
    button.setAttribute("aria-label", silent ? off : on);
  }
  $("screen").classList.toggle("is-on", Boolean(mine.screen));
  $("screen").setAttribute("aria-pressed", Boolean(mine.screen));
  if (!peers.has(self.id)) return;
  const own = peers.get(self.id);
  own.pictures = [["cam", false], ["screen", true]].filter(([what]) => mine[what]).map(([what, screen]) => ({ track: mine[what], screen, paused: false }));
  own.tiles.camera.video.classList.toggle("mirror", mine.cam?.getSettings().facingMode !== "environment");
  draw(own);
}

/** Asks for the camera, the microphone or both. */
async function open(camera, microphone) {
  if (!available()) {
    problem(...(await insecure(`/${room}/join`)));
    return;
  }
  try {
    const stream = await capture($("quality").value, camera, microphone);
    problem();
    const [sound] = stream.getAudioTracks();
    const [view] = stream.getVideoTracks();
    if (sound) {
      sound.enabled = mine.mic ? mine.mic.enabled : true;
      await use("mic", sound);
    }
    if (view) {
      view.contentHint = "motion";
      await use("cam", view);
    }
    await list($("camera"), $("microphone"), new MediaStream([mine.cam, mine.mic].filter(Boolean)));
  } catch (error) {
    if ($("lobby").hidden) state(whyNot(error));
    else problem(whyNot(error));
  }
}

async function toggleMicrophone() {
  if (!mine.mic) { await open(false); return; }
  mine.mic.enabled = !mine.mic.enabled;
  mirror();
  if (sent.mic?.id) await stay?.pause(sent.mic, !mine.mic.enabled).catch(() => {});
}

async function toggleCamera() {
  if (mine.cam) await use("cam", null);
  else await open(undefined, false);
}

async function toggleScreen() {
  if (mine.screen) { await use("screen", null); return; }
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30, max: 30 } } });
    const [track] = stream.getVideoTracks();
    track.contentHint = "detail";
    await use("screen", track);
  } catch (error) {
    if (error.name !== "NotAllowedError") state(`The screen could not be shared: ${error.message}`);
  }
}

// ---- coming and going ----

async function attempt() {
  const current = new Room({ room, peer: self.id, token: $("token").value.trim(), name: self.displayName });
  stay = current;
  listen(current);
  await current.join();
  if (stay !== current) return;
  backoff.reset();
  enterPeer(self);
  $("lobby").hidden = true;
  $("meeting").hidden = false;
  quiet?.();
  quiet = null;
  state("");
  arrange();
  mirror();
  for (const what of ["mic", "cam", "screen"]) await send(what);
}

/** Away from the room: for good, or to come back. */
function empty() {
  const before = stay;
  stay = null;
  before?.leave();
  for (const id of [...peers.keys()]) dropPeer(id);
  for (const what of Object.keys(sent)) sent[what] = null;
  $("chat").hidden = true;
}

function again(error) {
  empty();
  if (!wanted) return;
  if (FINAL.has(error.code)) { back(error); return; }
  state("Reconnecting");
  setTimeout(() => { if (wanted) attempt().catch(again); }, backoff.wait());
}

/** Back to the lobby. */
function back(error) {
  wanted = false;
  empty();
  $("meeting").hidden = true;
  $("lobby").hidden = false;
  if (error?.code === 401) {
    $("key-field").hidden = false;
    $("token").focus();
    problem($("token").value ? "The server does not know this key." : "This room needs a key.");
  } else if (error) {
    problem(error.message);
  }
  $("go").disabled = false;
  mirror();
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  self.displayName = $("name").value.trim() || "Guest";
  localStorage.setItem("viaduct.name", $("name").value.trim());
  tokens.set("publish", $("token").value.trim());
  wanted = true;
  problem();
  $("go").disabled = true;
  try {
    await attempt();
  } catch (error) {
    back(error);
  }
  $("go").disabled = false;
});

// ---- the panel ----

function show(which) {
  tab = tab === which ? null : which;
  $("panel").hidden = tab === null;
  document.body.classList.toggle("with-side", tab !== null);
  $("panel-title").textContent = { chat: "Chat", list: "Participants", gear: "Devices" }[tab] ?? "";
  for (const [id, of] of [["messages", "chat"], ["say", "chat"], ["people", "list"], ["settings", "gear"]]) $(id).hidden = tab !== of;
  for (const id of ["chat", "list", "gear"]) $(id).setAttribute("aria-expanded", tab === id);
  if (tab === "chat") { $("unread").hidden = true; $("text").focus(); }
  if (tab === "gear") speakers();
  arrange();
}

async function speakers() {
  if (!("setSinkId" in HTMLMediaElement.prototype)) return;
  const devices = (await navigator.mediaDevices?.enumerateDevices() ?? []).filter((device) => device.kind === "audiooutput" && device.deviceId);
  $("speaker-field").hidden = devices.length < 2;
  $("speaker").replaceChildren(...devices.map((device, place) => el("option", { value: device.deviceId, selected: device.deviceId === sink }, device.label || `Loudspeaker ${place + 1}`)));
}

for (const id of ["chat", "list", "gear"]) $(id).addEventListener("click", () => show(id));
$("panel-close").addEventListener("click", () => show(tab));
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !stay?.talks) return;
  stay.say(text);
  message(self.displayName, text, true);
  $("text").value = "";
});
$("camera").addEventListener("change", () => open($("camera").value, false));
$("microphone").addEventListener("change", () => open(false, $("microphone").value));
$("quality").addEventListener("change", () => { if (mine.cam) open($("camera").value || undefined, false); });
$("speaker").addEventListener("change", () => {
  sink = $("speaker").value;
  for (const element of document.querySelectorAll("audio")) element.setSinkId(sink).catch(() => {});
});
for (const id of ["mic", "lobby-mic"]) $(id).addEventListener("click", toggleMicrophone);
for (const id of ["cam", "lobby-cam"]) $(id).addEventListener("click", toggleCamera);
$("screen").addEventListener("click", toggleScreen);
$("leave").addEventListener("click", () => back());
addEventListener("keydown", (event) => {
  if ($("meeting").hidden || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const action = { m: toggleMicrophone, v: toggleCamera, p: () => show("list"), c: () => { if (!$("chat").hidden) show("chat"); } }[event.key.toLowerCase()];
  if (action) { event.preventDefault(); action(); }
});
// Browsers may hold sound back until somebody does something.
addEventListener("pointerdown", () => {
  for (const element of document.querySelectorAll("audio")) if (element.paused) element.play().then(() => state(""), () => {});
});
document.addEventListener("visibilitychange", () => {
  for (const peer of peers.values()) for (const one of peer.pictures) if (one.id) stay?.rest(one.id, document.hidden);
});
addEventListener("pagehide", () => stay?.leave());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
new ResizeObserver(arrange).observe($("grid"));
navigator.mediaDevices?.addEventListener("devicechange", () => list($("camera"), $("microphone"), new MediaStream([mine.cam, mine.mic].filter(Boolean))));
$("screen").hidden = !navigator.mediaDevices?.getDisplayMedia;

mirror();
const here = await ask(`/api/rooms/${encodeURIComponent(room)}`);
const names = here?.publishers?.map((one) => one.display_name ?? one.name) ?? [];
$("who").textContent = names.length ? `In the room: ${names.join(", ")}` : "Nobody is in the room yet.";
if (!available()) problem(...(await insecure(`/${room}/join`)));
else {
  const states = await Promise.all(["camera", "microphone"].map((name) => navigator.permissions?.query({ name }).catch(() => null)));
  // Somebody who has said yes before need not press a button.
  if (states.every((one) => one?.state === "granted")) open();
}
