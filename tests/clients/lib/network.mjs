// A network of one host of our own, for a server: two links lead there, of which one can be made narrow.

import { spawnSync } from "node:child_process";

function run(...words) {
  const { status, stderr } = spawnSync(words[0], words.slice(1), { encoding: "utf8" });
  if (status !== 0) throw new Error(`${words.join(" ")}: ${stderr}`);
}

let made = 0;

export class Network {
  /** Makes it; answers null where network namespaces may not be made. */
  static start() {
    const network = new Network();
    const tag = `${process.pid % 100000}x${made++}`;
    network.name = `vd${tag}`;
    network.links = ["a", "b"].map((side, at) => {
      const net = `10.${100 + (process.pid % 100)}.${(process.pid >> 8) % 250}.${16 * made + 4 * at}`.split(".");
      const host = (add) => [...net.slice(0, 3), (Number(net[3]) + add) % 256].join(".");
      return { near: `vn${tag}${side}`, far: `vf${tag}${side}`, here: host(1), there: host(2) };
    });
    try {
      run("ip", "netns", "add", network.name);
      network.inside("ip", "link", "set", "lo", "up");
      // What comes by one link from an address of the other is dropped: answers would go the other way.
      network.inside("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1");
      for (const { near, far, here, there } of network.links) {
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", network.name);
        run("ip", "addr", "add", `${here}/30`, "dev", near);
        run("ip", "link", "set", near, "up");
        network.inside("ip", "addr", "add", `${there}/30`, "dev", far);
        network.inside("ip", "link", "set", far, "up");
      }
      return network;
    } catch {
      network.stop();
      return null;
    }
  }

  /** How a command is run in it. */
  get prefix() {
    return ["ip", "netns", "exec", this.name];
  }

  /** The server's address at the end of the wide link. */
  get address() {
    return this.links[0].there;
  }

  /** The server's address at the end of the link that can be narrow. */
  get narrow() {
    return this.links[1].there;
  }

  inside(...words) {
    run(...this.prefix, ...words);
  }

  /** What the server sends by the narrow link goes at most so fast (kbit/s), and waits no longer than `queue` ms. */
  limit(kbit, queue = 200) {
    const shape = ["tbf", "rate", `${kbit}kbit`, "burst", "6kb", "latency", `${queue}ms`];
    this.inside("tc", "qdisc", "replace", "dev", this.links[1].far, "root", ...shape);
  }

  /** The narrow link is wide. */
  free() {
    this.inside("tc", "qdisc", "del", "dev", this.links[1].far, "root");
  }

  stop() {
    spawnSync("ip", ["netns", "del", this.name]);
    for (const { near } of this.links) spawnSync("ip", ["link", "del", near]);
  }
}
