// Headless Chromium and Firefox with page.js loaded, on a page of our own at 127.0.0.1 (a secure context).

import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

import { until } from "./server.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));

const chromiumFlags = [
  "--no-sandbox",
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
  "--no-first-run",
  "--mute-audio",
];

const firefoxPrefs = {
  "media.navigator.permission.disabled": true,
  "media.navigator.streams.fake": true,
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
  "media.autoplay.block-webaudio": false,
  "media.peerconnection.ice.loopback": true,
  "media.peerconnection.ice.obfuscate_host_addresses": false,
  "media.gmp-manager.updateEnabled": false,
  // H.264 by the system's libavcodec; people have it from a plug-in that cannot be fetched here.
  "media.webrtc.hw.h264.enabled": true,
  "gfx.blacklist.webrtc.hw.acceleration.h264": 1,
  "gfx.blacklist.webrtc.hw.acceleration.h264.failureid": "",
  "media.webrtc.platformencoder": true,
  "media.webrtc.encoder_creation_strategy": 1,
  "media.navigator.mediadatadecoder_h264_enabled": true,
  "media.ffmpeg.encoder.enabled": true,
  "app.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "browser.safebrowsing.downloads.remote.enabled": false,
  "extensions.getAddons.cache.enabled": false,
};

export class Browser {
  static async start(name = "chromium", { insecure = false } = {}) {
    const browser = new Browser();
    browser.name = name;
    browser.profile = fs.mkdtempSync(path.join(os.tmpdir(), `${name}.`));
    browser.web = http.createServer((request, response) => {
      const script = request.url === "/page.js";
      response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
      response.end(script ? fs.readFileSync(path.join(here, "page.js")) : "<!doctype html><meta charset=utf-8><body><script src=/page.js></script>");
    });
    await new Promise((resolve) => browser.web.listen(0, "127.0.0.1", resolve));
    const common = { headless: true, userDataDir: browser.profile, acceptInsecureCerts: insecure };
    browser.puppet = await puppeteer.launch(
      name === "firefox"
        ? { ...common, browser: "firefox", executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr", extraPrefsFirefox: firefoxPrefs, env: { ...process.env, HOME: browser.profile } }
        : { ...common, browser: "chrome", executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: chromiumFlags },
    );
    return browser;
  }

  /** A page with page.js. */
  async page() {
    const page = await this.puppet.newPage();
    await page.goto(`http://127.0.0.1:${this.web.address().port}/`);
    return page;
  }

  /** Watches `url` on a page of its own, or on `page`. */
  async watch(url, { page, ...options } = {}) {
    page ??= await this.page();
    const canvas = this.name === "firefox";
    const number = await page.evaluate((o) => window.watch(o), { url, canvas, ...options });
    return new Watching(page, number);
  }

  /** Publishes to `url` on a page of its own. */
  async publish(url, token, options = {}) {
    const page = await this.page();
    const number = await page.evaluate((o) => window.publish(o), { url, token, ...options });
    return {
      page,
      report: () => page.evaluate((n) => window.published(n), number),
      speak: (on) => page.evaluate((n, on) => window.publishers[n].speak(on), number, on),
      stop: () => page.evaluate((n) => window.publishers[n].stop(), number),
    };
  }

  async stop() {
    await this.puppet.close().catch(() => {});
    this.web.close();
    fs.rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Watching {
  constructor(page, number) {
    this.page = page;
    this.number = number;
  }

  report() {
    return this.page.evaluate((n) => window.viewers[n].report(), this.number);
  }

  /** Which share of what it hears now lies at `hz`. */
  share(hz) {
    return this.page.evaluate((n, hz) => window.viewers[n].share(hz), this.number, hz);
  }

  /** Resolves once `count` pictures have been read (of source `id`). */
  async frames(count, { id, ms = 20000, since = 0 } = {}) {
    let seen = 0;
    try {
      return await until(`${count} pictures${id === undefined ? "" : ` of source ${id}`}`, async () => {
        seen = await this.page.evaluate(
          (n, id, since) => window.viewers[n].frames.filter((f) => f.at >= since && (id === null || f.id === id)).length,
          this.number, id ?? null, since,
        );
        return seen >= count;
      }, ms);
    } catch (error) {
      const { frames, state, states, damaged, stats, errors } = await this.report();
      const more = { seen, read: frames.length, damaged, state, states, errors, video: stats.video, audio: stats.audio };
      throw new Error(`${error.message}; ${JSON.stringify(more)}`);
    }
  }

  /** Lets it run until `seconds` of pictures have been shown by the clock of the page. */
  async run(seconds) {
    await this.page.evaluate((ms) => new Promise((resolve) => setTimeout(resolve, ms)), seconds * 1000);
    return this.report();
  }

  now() {
    return this.page.evaluate(() => performance.now());
  }

  stop() {
    return this.page.evaluate((n) => window.viewers[n].stop(), this.number);
  }
}
