// A node of the built binary with an app that caches, in front of the tests' own origin.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

/** Far longer than a node takes to start. */
const PATIENCE_MS = 60_000;

/** Starts both. `base` is where the tests' client asks; `stop` ends them and removes the data. */
export async function startProduct(squall, suite) {
  const folder = mkdtempSync(path.join(tmpdir(), "squall-cache-tests-"));
  const running = [];
  const stop = async () => {
    for (const child of running.reverse()) await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const origin = spawn(process.execPath, ["--no-warnings", suite.server], {
      cwd: suite.root,
      env: {
        ...process.env,
        npm_config_protocol: "http",
        npm_config_port: "0",
        npm_config_pidfile: path.join(folder, "origin.pid"),
      },
      stdio: ["ignore", "pipe", openSync(path.join(folder, "origin.log"), "w")],
    });
    running.push(origin);
    const port = await portOf(origin);

    const data = path.join(folder, "data");
    const log = openSync(path.join(folder, "node.log"), "w");
    const listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    const node = spawn(squall, ["up", "--data-dir", data, ...listen], { stdio: ["ignore", log, log] });
    running.push(node);
    const base = await gatewayOf(data, node, path.join(folder, "node.log"));

    const app = path.join(folder, "app");
    mkdirSync(app);
    const manifest = readFileSync(new URL("squall.toml", import.meta.url), "utf8");
    writeFileSync(path.join(app, "squall.toml"), manifest.replace("PORT", port));
    const { status, stderr, error } = spawnSync(squall, ["deploy", app, "--data-dir", data], { encoding: "utf8" });
    if (status !== 0) throw new Error(String(error ?? stderr));
    return { base: base.replace(/\/$/, ""), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The origin says where it listens, and later of each request that it does not understand. */
function portOf(origin) {
  return new Promise((resolve, reject) => {
    createInterface({ input: origin.stdout }).on("line", (line) => {
      const port = /^Listening on .*:(\d+)\/$/.exec(line)?.[1];
      if (port !== undefined) resolve(port);
    });
    origin.once("exit", (code) => reject(new Error(`the tests' origin ended with ${code} before it served`)));
    origin.once("error", reject);
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

function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return null;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const limit = setTimeout(() => child.kill("SIGKILL"), 10_000);
  return ended.then(() => clearTimeout(limit));
}
