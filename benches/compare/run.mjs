// Measures Viaduct and what its users could install instead, one after the other, with the same load: one stream of
// 30 frames a second of 7 packets of 1,200 bytes, each frame in a burst, to N receivers over WHEP.
//
// run.mjs [--seconds 8] [--settle 3] [--receivers 1,10,100,300,500] [--only viaduct,mediasoup,janus] [--output FOLDER]
//
// Every server but Viaduct, which does so itself, is bound to the last core; the load runs on the first. Writes
// compare.md, compare.json and compare.svg.
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { plot } from "./plot.mjs";

const here = import.meta.dirname;
const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "8" },
    settle: { type: "string", default: "3" },
    receivers: { type: "string", default: "1,10,100,300,500" },
    only: { type: "string", default: "viaduct,viaduct2,mediasoup,janus" },
    output: { type: "string", default: path.join(here, "../results") },
    binary: { type: "string", default: path.join(here, "../../target/release/viaduct") },
    cache: { type: "string", default: path.join(here, "../../.cache/compare") },
  },
});
const receivers = options.receivers.split(",").map(Number);
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "compare-"));
const shell = (command) => execFileSync("sh", ["-c", command], { encoding: "utf8" }).trim();

// What each server is called, how it is started, and the receivers beyond which one core of it does not reach.
const rivals = {
  viaduct: { name: "Viaduct, one worker", flags: ["--workers", "1"] },
  viaduct2: { name: "Viaduct, two workers", flags: ["--workers", "2"] },
  mediasoup: { name: "mediasoup 3.8.4, one worker", script: "mediasoup.mjs", most: 300 },
  janus: { name: `Janus ${shell("dpkg-query -W -f '${Version}' janus 2>/dev/null || true")}`, script: "janus.mjs", most: 200 },
};

async function start(script) {
  const cores = os.cpus().length;
  const child = spawn("taskset", ["-c", String(cores - 1), process.execPath, path.join(here, script), options.cache], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((_, reject) => child.once("exit", (code) => reject(new Error(`${script} ended: ${code}`))));
  ended.catch(() => {});
  const [line] = await Promise.race([new Promise((done) => createInterface(child.stdout).once("line", (line) => done([line]))), ended]);
  return { child, ...JSON.parse(line) };
}

async function bench(flags, sizes) {
  const file = path.join(temporary, "report.json");
  const measure = ["--seconds", options.seconds, "--settle", options.settle, "--viewers", sizes.join(",")];
  const child = spawn(options.binary, ["bench", ...measure, "--json", file, ...flags], { stdio: ["ignore", "ignore", "inherit"] });
  const code = await new Promise((done) => child.once("exit", done));
  if (code !== 0) throw new Error(`the bench ended with ${code}`);
  return JSON.parse(fs.readFileSync(file, "utf8"));
}

async function measure({ name, flags, script, most = Infinity }) {
  const wanted = receivers.filter((count) => count <= most);
  const last = receivers.find((count) => count > most);
  const sizes = last && wanted.at(-1) < most ? [...wanted, most] : wanted;
  console.error(`== ${name}`);
  if (!script) return { name, ...(await bench(flags, sizes)) };
  const { child, url, pid } = await start(script);
  try {
    return { name, ...(await bench(["--url", url, "--pid", String(pid)], sizes)) };
  } finally {
    child.kill();
  }
}

const number = (value, digits) => (value === null ? "-" : value.toFixed(digits));
const row = (cells) => `| ${cells.join(" | ")} |`;

// One line a stage; the ratio is to one worker of Viaduct at the same number of receivers.
function table(results) {
  const ours = results.find(({ name }) => name === rivals.viaduct.name)?.stages ?? [];
  const head = ["server", "receivers", "CPU µs/packet", "times Viaduct's", "% of a core", "lost", "delay p50 ms", "p99", "p99.9", "first picture p95 ms", "KiB/receiver"];
  const lines = [row(head), row(head.map(() => "---"))];
  for (const { name, stages } of results) {
    for (const stage of stages) {
      const same = ours.find(({ receivers }) => receivers === stage.receivers);
      const ratio = same ? stage.cpuNanosPerPacket / same.cpuNanosPerPacket : null;
      lines.push(row([
        name,
        stage.receivers,
        number(stage.cpuNanosPerPacket / 1000, 2),
        number(ratio, 1),
        number(stage.cpuOfACore * 100, 1),
        stage.packetsLost,
        number(stage.delay.p50, 2),
        number(stage.delay.p99, 2),
        number(stage.delay["p99.9"], 2),
        number(stage.firstPicture.p95, 0),
        number(stage.residentKiBPerReceiver, 0),
      ]));
    }
  }
  return lines.join("\n");
}

const results = [];
const load = os.loadavg()[0];
for (const key of options.only.split(",")) {
  try {
    results.push(await measure(rivals[key]));
  } catch (error) {
    console.error(`${rivals[key].name}: ${error.message}`);
  }
}
const date = new Date().toISOString().slice(0, 10);
const circumstances = results.map(({ name, circumstances }) => `- ${name}: ${circumstances}`).join("\n");
const text = `# Compared, ${date}

One stream of 30 frames a second of 7 packets of 1,200 bytes, each frame in a burst, to N receivers over WHEP with SRTP on
loopback; receivers take whole buffers (\`UDP_GRO\`). ${options.seconds} s a stage, load average before: ${load.toFixed(1)}. Made by \`make bench-compare\`.

${circumstances}

${table(results)}

![CPU against receivers](compare.svg)
`;
fs.mkdirSync(options.output, { recursive: true });
fs.writeFileSync(path.join(options.output, "compare.md"), text);
fs.writeFileSync(path.join(options.output, "compare.json"), `${JSON.stringify({ date, load, results }, null, 1)}\n`);
fs.writeFileSync(path.join(options.output, "compare.svg"), plot(results));
fs.rmSync(temporary, { recursive: true });
console.log(text);
