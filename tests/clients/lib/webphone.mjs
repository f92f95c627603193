// A telephone in a web page: JsSIP in a browser, over WebSocket.

import { bundle } from "./parties.mjs";
import { until } from "./server.mjs";

export class WebPhone {
  /** Starts one that plays a tone of `hz`; resolves once it is connected, or registered. */
  static async start(browser, server, { user, host, password = "secret", hz, register = true }) {
    const phone = new WebPhone();
    const code = (await bundle("webphone.js")).outputFiles[0].text;
    phone.page = await browser.page();
    await phone.page.addScriptTag({ content: code });
    const ws = `${server.origin.replace("http", "ws")}/sip`;
    await phone.page.evaluate((options) => window.startPhone(options), { ws, user, host, password, hz, register });
    await phone.event(register ? "registered" : "connected");
    return phone;
  }

  events() {
    return this.page.evaluate(() => window.phone.events);
  }

  /** Resolves once `count` events of that name have come. */
  event(name, count = 1) {
    let seen = [];
    return until(`${count} times ${name}`, async () => {
      seen = await this.events();
      return seen.filter((event) => event[0] === name).length >= count;
    }).catch((error) => {
      throw new Error(`${error.message}; ${JSON.stringify(seen)}`);
    });
  }

  /** Calls; resolves once it is answered. */
  async call(uri) {
    const count = (await this.events()).filter(([name]) => name === "confirmed").length;
    await this.do("call", uri);
    await this.event("confirmed", count + 1);
  }

  /** `hold`, `resume`, `hangUp`, or `keys` with digits and `RFC2833` or `INFO`. */
  do(what, ...args) {
    return this.page.evaluate((what, args) => void window.phone[what](...args), what, args);
  }

  /** Which share of what it hears now lies at `hz`. */
  share(hz) {
    return this.page.evaluate((hz) => window.phone.share(hz), hz);
  }
}
