// The list of rooms, and the fields to paste into an encoder.

import { $, ask, copyable, el, hostWith, isRoomName } from "./common.js";

const DOORS = { whip: "WHIP", rtmp: "RTMP", clip: "Built-in picture", whep: "WHEP", sip: "Telephone", room: "Room page", roomv2: "Room client" };
const REFRESH = 3000;
const shown = new Map();
let facts = {};

const CODECS = { h264: "H.264", h265: "H.265", opus: "Opus", "mpeg4-generic": "AAC", pcmu: "G.711", pcma: "G.711" };

const describe = (publisher) => {
  const name = (mime) => mime.split("/")[1] ?? mime;
  const codecs = [...new Set(publisher.tracks.map((track) => CODECS[name(track.codec).toLowerCase()] ?? name(track.codec)))];
  return [DOORS[publisher.kind] ?? publisher.kind, codecs.join(" + ")].filter(Boolean).join(" · ");
};

/** A hue that stays with the name. */
const hueOf = (name) => [...name].reduce((hash, c) => (hash * 31 + c.codePointAt(0)) % 360, 7);

function card(name) {
  const parts = {
    badge: el("span", { class: "pill" }),
    viewers: el("span", { class: "viewers" }),
    detail: el("p", { class: "muted small detail" }),
  };
  const art = el("a", { class: "art", href: `/${name}`, tabindex: "-1", "aria-hidden": "true" }, el("span", { class: "arch" }), el("span", { class: "play" }));
  art.style.setProperty("--hue", hueOf(name));
  parts.item = el("li", { class: "room" }, art,
    el("div", { class: "room-body" },
      el("div", { class: "room-head" }, el("h2", {}, el("a", { href: `/${name}` }, name)), parts.badge, el("span", { class: "grow" }), parts.viewers),
      parts.detail,
      el("div", { class: "actions" },
        el("a", { class: "button watch", href: `/${name}`, "aria-label": `Watch ${name}` }, "Watch"),
        el("a", { class: "button", href: `/${name}/join`, "aria-label": `Join ${name}` }, "Join"),
        el("a", { class: "button", href: `/${name}/publish`, "aria-label": `Publish to ${name}` }, "Publish"))));
  return parts;
}

function fill(parts, room) {
  parts.item.classList.toggle("live", room.live);
  parts.badge.textContent = room.live ? "Live" : "Waiting";
  parts.badge.className = room.live ? "pill live" : "pill";
  parts.viewers.textContent = room.viewers ? `${room.viewers} watching` : "";
  const who = room.publishers.map((publisher) => (publisher.name === "live" ? describe(publisher) : `${publisher.display_name ?? publisher.name} (${describe(publisher)})`));
  parts.detail.textContent = who.join(", ") || "Nobody publishes";
}

function show(rooms) {
  const list = $("rooms");
  rooms.sort((a, b) => b.live - a.live || a.name.localeCompare(b.name));
  const names = new Set(rooms.map((room) => room.name));
  for (const [name, parts] of shown) {
    if (!names.has(name)) { parts.item.remove(); shown.delete(name); }
  }
  rooms.forEach((room, place) => {
    const parts = shown.get(room.name) ?? card(room.name);
    shown.set(room.name, parts);
    fill(parts, room);
    if (list.children[place] !== parts.item) list.insertBefore(parts.item, list.children[place] ?? null);
  });
  const live = rooms.filter((room) => room.live).length;
  $("summary").textContent = rooms.length === 0 ? "Nothing is live. Send a picture with the fields below." : live === 1 ? "1 room is live" : `${live} rooms are live`;
}

async function refresh() {
  if (!document.hidden) {
    const rooms = await ask("/api/rooms");
    document.body.classList.toggle("stale", !rooms);
    if (rooms) show(rooms);
    else $("summary").textContent = "The server does not answer; asking again…";
  }
  clearTimeout(refresh.timer);
  refresh.timer = setTimeout(refresh, REFRESH);
}

function set(id, text) {
  $(id).textContent = text;
  const line = $(id).parentElement;
  line.querySelector(".copy")?.remove();
  line.append(copyable(text));
}

function fields() {
  const room = $("send-room").value.trim();
  const good = isRoomName(room);
  $("send-problem").hidden = good;
  $("send-problem").textContent = good ? "" : "A room’s name has up to 64 letters a–z, A–Z, digits and . _ ~ - and does not begin with a dot.";
  if (!good) return;
  const rtmp = `rtmp://${hostWith(facts.rtmp_port, 1935)}/${room}`;
  set("whip-server", `${location.origin}/${room}/whip`);
  set("whep-server", `${location.origin}/${room}/whep`);
  set("watch-page", `${location.origin}/${room}`);
  set("rtmp-server", rtmp);
  set("ffmpeg-rtmp", `ffmpeg -re -i video.mp4 -c:v libx264 -c:a aac -f flv ${rtmp}/KEY`);
  $("browser-link").href = `/${room}/publish`;
  $("browser-link").textContent = `Publish to ${room}`;
}

function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")];
  const choose = (chosen, focus) => {
    for (const tab of all) {
      const on = tab === chosen;
      tab.setAttribute("aria-selected", on);
      tab.tabIndex = on ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !on;
    }
    if (focus) chosen.focus();
  };
  all.forEach((tab, place) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = () => { const at = all.filter((one) => !one.hidden); return at[(at.indexOf(tab) + step + at.length) % at.length]; };
      if (step) choose(next(), true);
    });
  });
}

$("open").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("open-name").value.trim();
  if (isRoomName(name)) location.href = `/${name}`;
  else {
    $("open-name").setCustomValidity("Letters a–z, A–Z, digits and . _ ~ - only");
    $("open-name").reportValidity();
  }
});
$("open-name").addEventListener("input", () => $("open-name").setCustomValidity(""));
$("send-room").addEventListener("input", fields);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

tabs();
fields();
refresh();
facts = (await ask("/api/server")) ?? {};
$("version").textContent = facts.version ? `Version ${facts.version}` : "";
for (const key of document.querySelectorAll(".key")) {
  key.textContent = `The publish key: ${facts.key_hint || "printed when the server started"}.`;
}
if (!facts.rtmp_port) {
  $("tab-rtmp").hidden = true;
  $("tab-ffmpeg").hidden = true;
}
fields();
