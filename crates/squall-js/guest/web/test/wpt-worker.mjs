// Runs one file of the Web Platform Tests in a world of its own.

import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { makeWorld } from "./host.mjs";
import { asFunction, readMeta, scriptsOf } from "../../../../../tests/wpt/files.mjs";

const { root, file, variant, timeoutMs } = workerData;
const read = (name) => readFileSync(path.join(root, name), "utf8");
const origin = file.includes(".https.") ? "https://web-platform.test:8443" : "http://web-platform.test:8000";
const TYPES = { ".json": "application/json", ".txt": "text/plain", ".html": "text/html", ".js": "text/javascript" };
/** What the tests' server has under another name. */
const SERVED = { "/resources/WebIDLParser.js": "resources/webidl2/lib/webidl2.js" };

let nextHandle = 1;
/** Files of the copy stand in for the server that the tests are written for. */
function serve(method, url) {
  const { pathname } = new URL(url);
  const name = path.join(root, decodeURIComponent(pathname));
  if (!url.startsWith(origin) || !existsSync(name)) throw Object.assign(new Error(`nothing at ${url}`), { name: "TypeError" });
  const handle = nextHandle++;
  world.bodies.set(handle, [readFileSync(name)]);
  const type = TYPES[path.extname(name)] ?? "application/octet-stream";
  return [200, "OK", ["content-type", type], handle, url, false];
}

const world = makeWorld({
  reportRejections: true,
  allowEval: true,
  operations: { 30: async (method, url) => serve(method, url) },
  onLog(level, text) {
    if (text.startsWith("#wpt ")) finish(JSON.parse(text.slice(5)));
    else parentPort.postMessage({ log: `${level}: ${text}` });
  },
});

function finish(outcome) {
  parentPort.postMessage({ outcome });
  setImmediate(() => process.exit());
}

process.on("uncaughtException", (error) => parentPort.postMessage({ log: `uncaught: ${error?.stack ?? error}` }));

world.load({ default: { fetch() {} } });
const timer = setTimeout(() => world.run("timeout()"), timeoutMs);
timer.unref();
// Tests that wait when nothing can come any more.
process.once("beforeExit", () => world.run("timeout()"));
try {
  world.run(readFileSync(new URL("../../../../../tests/wpt/prelude.js", import.meta.url), "utf8"), "prelude.js");
  world.run(`__wptStart(${JSON.stringify(`${origin}/${file}${variant}`)})`);
  world.run(read("resources/testharness.js"), "testharness.js");
  world.run('__wptSetup((outcome) => console.log("%s", `#wpt ${JSON.stringify(outcome)}`))');
  const names = scriptsOf(file, readMeta(read(file)));
  const scripts = names.map((name) => read((SERVED[name] ?? name).replace(/^\//, "")));
  world.run(`"use strict"; (${asFunction(scripts)}).call(globalThis)`, file);
  world.run("done()");
} catch (error) {
  finish({ results: [], status: 1, message: String(error?.stack ?? error) });
}
