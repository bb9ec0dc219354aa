// A node of the built binary, and the tests' own server beside it.

import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { asFunction } from "./files.mjs";

/** Far longer than a node or a server takes to start. */
const PATIENCE_MS = 60_000;

const manifest = (name, ports) => `name = "${name}"

[functions.run]
source = "tests.js"
routes = ["/*"]
allowed_hosts = [${ports.map((port) => `"localhost:${port}", "127.0.0.1:${port}"`).join(", ")}]
allow_private = true

[functions.run.limits]
memory_bytes = 536870912
wall_time_ms = 120000
cpu_time_ms = 120000
log_bytes = 16777216
outbound_requests = 1000
`;

/** Starts both. `stop` ends them and removes the data. */
export async function startProduct({ squall, python, root }) {
  const folder = mkdtempSync(path.join(tmpdir(), "squall-wpt-"));
  const running = [];
  const stop = async () => {
    for (const child of running.reverse()) await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const server = spawn(python, [new URL("server.py", import.meta.url).pathname, root], {
      stdio: ["pipe", "pipe", openSync(path.join(folder, "server.log"), "w")],
    });
    running.push(server);
    const ports = await firstLine(server).then((line) => line.split(" ").map(Number));

    const data = path.join(folder, "data");
    const log = openSync(path.join(folder, "node.log"), "w");
    const listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    const node = spawn(squall, ["up", "--data-dir", data, ...listen], { stdio: ["ignore", log, log] });
    running.push(node);
    const gateway = await gatewayOf(data, node, path.join(folder, "node.log"));

    const origin = `http://localhost:${ports[0]}`;
    const deploy = makeDeployer({ squall, data, folder, ports });
    /** What the node said when it has ended before its time; null while it runs. */
    const lastWords = () =>
      node.exitCode === null && node.signalCode === null
        ? null
        : `the node ended with ${node.exitCode ?? node.signalCode}:\n${readFileSync(path.join(folder, "node.log"), "utf8")}`;
    return { gateway, origin, deploy, lastWords, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Deploys an app with the function for these tests, { file, scripts } each, and returns its name.
 * Throws what the command said when it fails.
 */
function makeDeployer({ squall, data, folder, ports }) {
  let count = 0;
  return (tests, { prelude, harness }) => {
    const name = `wpt-${++count}`;
    const app = path.join(folder, name);
    mkdirSync(app);
    cpSync(new URL("handler.js", import.meta.url).pathname, path.join(app, "handler.js"));
    writeFileSync(
      path.join(app, "harness.js"),
      `export const prelude = ${asFunction([prelude])};\nexport const harness = ${asFunction([harness])};\n`,
    );
    const entries = tests.map(({ file, scripts }) => `${JSON.stringify(file)}: ${asFunction(scripts)}`);
    const source = `import { makeHandler } from "./handler.js";\nexport default makeHandler({\n${entries.join(",\n")}\n});\n`;
    writeFileSync(path.join(app, "tests.js"), source);
    writeFileSync(path.join(app, "squall.toml"), manifest(name, ports));
    const { status, stderr, error } = spawnSync(squall, ["deploy", app, "--data-dir", data], { encoding: "utf8" });
    if (status !== 0) throw new Error(String(error ?? stderr));
    return name;
  };
}

function firstLine(child) {
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`${child.spawnfile} ended with ${code} before it served`)));
    child.once("error", reject);
  });
}

async function gatewayOf(data, node, log) {
  const facts = path.join(data, "node.json");
  for (const begun = Date.now(); Date.now() - begun < PATIENCE_MS; ) {
    if (node.exitCode !== null) throw new Error(`the node ended:\n${readFileSync(log, "utf8")}`);
    if (existsSync(facts)) {
      const { gateway_urls: [url], supervisor_pid: supervisor } = JSON.parse(readFileSync(facts, "utf8"));
      if (supervisor === node.pid) return url;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`the node did not start:\n${readFileSync(log, "utf8")}`);
}

/** The tests' server ends with its input, and takes its own children along; the node drains on a signal. */
function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return null;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  if (child.stdin !== null) child.stdin.end();
  else child.kill("SIGTERM");
  const limit = setTimeout(() => child.kill("SIGKILL"), 10_000);
  return ended.then(() => clearTimeout(limit));
}
