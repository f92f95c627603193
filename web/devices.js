// Camera and microphone: asking for them, saying why there are none, listing them, and the level of a microphone.

import { ask, el } from "./common.js";

/** Lines of the picture: width, and the most bits a second to spend on it. */
export const QUALITY = { 1080: [1920, 4_500_000], 720: [1280, 2_500_000], 480: [854, 1_000_000] };

export const available = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

function constraints(lines, camera, microphone) {
  return {
    video: camera === false ? false : {
      ...(camera ? { deviceId: { exact: camera } } : { facingMode: "user" }),
      width: { ideal: QUALITY[lines][0] }, height: { ideal: Number(lines) }, frameRate: { ideal: 30 },
    },
    audio: microphone === false ? false : {
      ...(microphone ? { deviceId: { exact: microphone } } : {}),
      echoCancellation: true, noiseSuppression: true, autoGainControl: true,
    },
  };
}

/** Asks for both (`false`: not for that one); where one is missing, for the other alone. */
export async function capture(lines, camera, microphone) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints(lines, camera, microphone));
  } catch (error) {
    if (error.name === "OverconstrainedError" && (camera || microphone)) return capture(lines, camera === false ? false : undefined, microphone === false ? false : undefined);
    if (error.name !== "NotFoundError" || camera === false || microphone === false) throw error;
  }
  const devices = await navigator.mediaDevices.enumerateDevices();
  const has = (kind) => devices.some((device) => device.kind === kind);
  if (has("videoinput")) return capture(lines, camera, false);
  if (has("audioinput")) return capture(lines, false, microphone);
  throw new DOMException("", "NotFoundError");
}

export function whyNot(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser was told not to let this page use the camera and the microphone. Click the icon beside the address, allow both, and press the button again.";
    case "NotFoundError":
      return "There is no camera and no microphone on this device. Plug one in and press the button again.";
    case "NotReadableError":
    case "AbortError":
      return "The camera or the microphone is busy: another program holds it. Close that program and press the button again.";
    default:
      return `The camera could not be opened: ${error.message || error.name}.`;
  }
}

/** The camera is only for addresses that browsers call secure: says which one would be. `path` is this page's. */
export async function insecure(path) {
  const facts = (await ask("/api/server")) ?? {};
  const link = (address) => el("a", { href: address }, address);
  const here = location.hostname.includes(":") && !location.hostname.startsWith("[") ? `[${location.hostname}]` : location.hostname;
  if (facts.https_port) {
    return [el("b", {}, "Browsers give the camera only to secure addresses. "), "This one is not; this one is: ", link(`https://${here}:${facts.https_port}${path}`)];
  }
  return [el("b", {}, "Browsers give the camera only to secure addresses, "), `and ${location.origin} is not one. On the server’s own machine, open `,
    link(`http://localhost:${facts.http_port ?? location.port ?? 80}${path}`),
    ". From anywhere else the server must speak HTTPS: start it with ", el("code", {}, "--dev"), " or set ", el("code", {}, "http.tls"), `, then open https://${location.host}${path}`];
}

/** Fills the lists of cameras and microphones; `stream` tells which are in use. */
export async function list(camera, microphone, stream) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const [select, kind, track] of [
    [camera, "videoinput", stream?.getVideoTracks()[0]],
    [microphone, "audioinput", stream?.getAudioTracks()[0]],
  ]) {
    const found = devices.filter((device) => device.kind === kind && device.deviceId);
    select.disabled = found.length === 0;
    const current = track?.getSettings().deviceId;
    select.replaceChildren(...(found.length ? found : [{ label: "None", deviceId: "" }]).map((device, place) =>
      el("option", { value: device.deviceId, selected: device.deviceId === current }, device.label || `${kind === "videoinput" ? "Camera" : "Microphone"} ${place + 1}`)));
  }
}

/** Shows the level of a track of sound as the length of `bar`; answers what ends it. */
export function meter(track, bar) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let over = false;
  const draw = () => {
    if (over) return;
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
    const level = Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-9) / 5));
    bar.style.transform = `scaleX(${level.toFixed(3)})`;
    requestAnimationFrame(draw);
  };
  draw();
  return () => { over = true; context.close(); };
}
