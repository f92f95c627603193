// A telephone in a page: JsSIP with the browser's own WebRTC. It sings a tone and listens. Built by esbuild; runs beside
// page.js.

import JsSIP from "jssip";

import { media } from "./page-media.js";

window.startPhone = async ({ ws, user, host, password, hz, register }) => {
  media.hertz = hz;
  const options = { mediaStream: new MediaStream([await media.audio()]), pcConfig: { iceServers: [] } };
  const phone = (window.phone = { events: [], ear: new Viewer() });
  const note = (name) => (data) => phone.events.push([name, data?.cause ?? data?.originator ?? null]);
  const agent = new JsSIP.UA({ sockets: [new JsSIP.WebSocketInterface(ws)], uri: `sip:${user}@${host}`, password, register });
  for (const name of ["connected", "disconnected", "registered", "registrationFailed"]) agent.on(name, note(name));
  agent.on("newRTCSession", ({ session, originator }) => {
    phone.session = session;
    for (const name of ["progress", "confirmed", "ended", "failed", "hold", "unhold"]) session.on(name, note(name));
    const listen = (pc) => pc.addEventListener("track", ({ track }) => phone.ear.listen(track));
    if (session.connection) listen(session.connection);
    else session.on("peerconnection", ({ peerconnection }) => listen(peerconnection));
    if (originator === "remote") session.answer(options);
  });
  phone.call = (uri) => void agent.call(uri, options);
  phone.keys = (digits, transportType) => phone.session.sendDTMF(digits, { transportType, duration: 120, interToneGap: 150 });
  phone.hold = () => phone.session.hold();
  phone.resume = () => phone.session.unhold();
  phone.hangUp = () => phone.session.terminate();
  phone.share = (hertz) => phone.ear.share(hertz);
  agent.start();
};
