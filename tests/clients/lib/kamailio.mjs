// Kamailio as registrar and proxy: digest for everybody (password `secret`, realm `kam.test`), Record-Route on everything,
// UDP and TCP on one port and TLS, which wants a client certificate, on the next.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { freePorts, until } from "./server.mjs";
import { folder } from "./telephony.mjs";

const modules = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"].map((lib) => `${lib}/kamailio/modules`).find((dir) => fs.existsSync(dir));

const config = (work, port, tls, algorithm) => `#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=2
tcp_children=2
enable_tls=${tls ? "yes" : "no"}
auto_aliases=no
listen=udp:127.0.0.1:${port}
listen=tcp:127.0.0.1:${port}
${tls ? `listen=tls:127.0.0.1:${port + 1}` : ""}
mpath="${modules}/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "auth.so"
${tls ? `loadmodule "tls.so"\nmodparam("tls", "config", "${work}/tls.cfg")` : ""}
modparam("rr", "enable_double_rr", 2)
${algorithm ? `modparam("auth", "algorithm", "${algorithm}")` : ""}
request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (is_method("OPTIONS") && uri == myself) { sl_send_reply("200", "OK"); exit; }
  force_rport();
  if (has_totag()) {
    if (!loose_route()) { if (is_method("ACK") && t_check_trans()) { t_relay(); exit; } sl_send_reply("404", "Not here"); exit; }
    xlog("L_NOTICE", "WITHIN $rm by $pr\\n");
    t_relay();
    exit;
  }
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("kam.test", "secret", "0")) { www_challenge("kam.test", "1"); exit; }
    save("location");
    xlog("L_NOTICE", "REGISTERED $fU\\n");
    exit;
  }
  if (!pv_proxy_authenticate("kam.test", "secret", "0")) { proxy_challenge("kam.test", "1"); exit; }
  consume_credentials();
  record_route();
  if (lookup("location")) { t_relay(); exit; }
  sl_send_reply("404", "Nobody of that name");
}
`;

export class Kamailio {
  /** `algorithm`: the digest's, where it is not MD5; `tls`: { certificate, key, ca } of its own and of those who may connect by TLS. */
  static async start(tls, algorithm) {
    const kamailio = new Kamailio();
    kamailio.work = folder();
    kamailio.port = await freePorts(2);
    if (tls) {
      const common = `method = TLSv1.2+\nprivate_key = ${tls.key}\ncertificate = ${tls.certificate}\nca_list = ${tls.ca}\n`;
      fs.writeFileSync(`${kamailio.work}/tls.cfg`, `[server:default]\n${common}verify_certificate = yes\nrequire_certificate = yes\n[client:default]\n${common}verify_certificate = no\nrequire_certificate = no\n`);
    }
    const file = path.join(kamailio.work, "kamailio.cfg");
    fs.writeFileSync(file, config(kamailio.work, kamailio.port, tls, algorithm));
    const args = ["-f", file, "-P", path.join(kamailio.work, "pid"), "-Y", kamailio.work, "-m", "32", "-M", "8", "-DD", "-E"];
    kamailio.process = spawn("/usr/sbin/kamailio", args, { stdio: ["ignore", "pipe", "pipe"] });
    kamailio.log = "";
    for (const stream of [kamailio.process.stdout, kamailio.process.stderr]) stream.on("data", (data) => (kamailio.log += data));
    kamailio.ended = new Promise((resolve) => kamailio.process.once("exit", resolve));
    await until("Kamailio listens", async () => {
      if (kamailio.process.exitCode !== null) throw new Error(`Kamailio ended:\n${kamailio.log.slice(-2000)}`);
      return fs.existsSync(path.join(kamailio.work, "pid"));
    });
    return kamailio;
  }

  /** How many requests of a method within a dialog came past. */
  within(method) {
    return this.log.split(`WITHIN ${method} `).length - 1;
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    fs.rmSync(this.work, { recursive: true, force: true });
  }
}
