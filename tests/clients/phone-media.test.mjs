// What flows between telephones and the rest: keys by DTLS with and without ICE, keys pressed, pictures both ways.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { Browser } from "./lib/browser.mjs";
import { picture } from "./lib/encoder.mjs";
import { Phone, hangUpAll } from "./lib/phone.mjs";
import { until } from "./lib/server.mjs";
import { ROOMS, TRUSTED, gateway } from "./lib/telephony.mjs";
import { Voice } from "./lib/voice.mjs";

const LIMIT = { timeout: 90_000 };

/** A clip of a minute for a phone to show; see encoder.mjs for what is in it. */
function clip(folder, id) {
  const file = path.join(folder, `${id}.mp4`);
  const input = ["-f", "lavfi", "-i", picture({ id }), "-t", "60"];
  const made = spawnSync("ffmpeg", ["-nostdin", "-loglevel", "error", ...input, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-bf", "0", file]);
  assert.equal(made.status, 0, String(made.stderr));
  return file;
}

describe("media of telephones", { timeout: 600_000 }, () => {
  let server, browser, folder, film;
  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "phone-media."));
    film = clip(folder, 3);
    server = await gateway({ trunks: [TRUSTED], dispatch: [{ number: "pin", pins: { 42: "behind-a-pin" } }, ROOMS] });
    browser = await Browser.start();
  });
  after(async () => {
    hangUpAll();
    await browser?.stop();
    await server?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });
  const uri = (name) => `sip:${name}@127.0.0.1:${server.sip}`;

  for (const [name, how] of [
    ["DTLS-SRTP with an RSA certificate", { mediaenc: "dtls_srtp" }],
    ["DTLS-SRTP behind ICE", { mediaenc: "dtls_srtp", medianat: "ice" }],
  ]) {
    test(`two phones hear each other, and keys are heard: ${name}`, LIMIT, async () => {
      const alice = await Phone.start({ user: "alice", hz: 440, codecs: ["pcma"], ...how });
      const bob = await Phone.start({ user: "bob", hz: 1000, codecs: ["opus"], ...how });
      for (const phone of [alice, bob]) assert.ok(await phone.call(uri(`room-${how.medianat ?? "direct"}`)));
      await until("they hear each other", async () => (await alice.lately(1000)) > 0.9 && (await bob.lately(440)) > 0.9);
      const [own] = await alice.stop(440);
      const [mine] = await bob.stop(1000);
      assert.ok(own < 0.05 && mine < 0.05, `alice heard herself: ${own}, bob himself: ${mine}`);
      const carol = await Phone.start({ user: "carol", hz: 440, ...how });
      const before = server.log.split("the PIN is right").length;
      assert.ok(await carol.call(uri("pin")));
      await until("the prompt is heard", async () => (await carol.packets()) > 20);
      await carol.keys("42#");
      await until("the PIN is taken", () => server.log.split("the PIN is right").length > before);
      await carol.stop();
    });
  }

  test("who is put on hold hears music in place of the room, and is not heard", LIMIT, async () => {
    // A real phone's recording ends with the hold.
    const alice = await Voice.call(uri("room-music"), server.sip, { hz: 440 });
    const [call] = (await server.calls()).filter((call) => call.room === "music");
    const bob = await Voice.call(uri("room-music"), server.sip, { hz: 1000 });
    const both = () => alice.lately(1000) > 0.9 && bob.lately(440) > 0.9;
    await until("they hear each other", both);
    assert.equal((await server.api("PATCH", `calls/${call.id}`, { hold: true })).status, 204);
    await until("music", () => alice.lately(1000) < 0.05 && alice.lately(330) > 0.2);
    await until("silence", () => bob.lately(440) < 0.05);
    const noise = bob.packets;
    await until("a line that is not dead", () => bob.packets > noise + 20);
    assert.equal((await server.api("PATCH", `calls/${call.id}`, { hold: false })).status, 204);
    await until("they hear each other again", both);
    assert.deepEqual(alice.directions, ["sendonly", "sendrecv"]);
    alice.stop();
    bob.stop();
  });

  for (const [name, video, codec] of [
    ["packetization modes 0 and 1 offered", "all", "h264"],
    ["packetization mode 0 only", "h264", "h264"],
    ["the browser sends VP8", "all", "vp8"],
    ["the browser sends VP9", "all", "vp9"],
  ]) {
    test(`a phone shows the speaker's picture and a viewer the phone's: ${name}`, LIMIT, async (t) => {
      const room = `video-${video}-${codec}`;
      const publisher = await browser.publish(server.url(`${room}/whip`), server.key, { id: 5, codec });
      await server.live(room);
      const phone = await Phone.start({ user: "carol", hz: 660, video, clip: film });
      t.after(() => phone.stop());
      assert.ok(await phone.call(uri(`room-${room}`)));
      const first = await until("the phone shows the browser's picture", async () => {
        const shown = await phone.picture();
        return shown?.id === 5 && shown;
      });
      const viewer = await browser.watch(server.url(`${room}/whep`));
      await viewer.frames(60, { id: 3 });
      const later = await until("its pictures move", async () => {
        const shown = await phone.picture();
        return shown?.id === 5 && shown.n > first.n + 10 && shown;
      });
      t.diagnostic(`the phone showed pictures ${first.n} and ${later.n} of ${later.width}x${later.height}`);
      const report = await viewer.report();
      assert.equal(report.damaged, 0);
      const numbers = report.frames.map((frame) => frame.n);
      assert.ok(numbers.at(-1) > numbers[0] + 50, `the viewer saw pictures ${numbers[0]} to ${numbers.at(-1)}`);
      await viewer.page.close();
      await publisher.stop();
      await publisher.page.close();
      // A picture of ours, with nothing of a publisher's in it.
      await until("the phone shows a slate", async () => {
        const shown = await phone.picture();
        return server.log.includes(`a slate is shown room=${room}`) && shown?.width === 640 && shown.id === null;
      });
    });
  }
});
