// Runs files of the Web Platform Tests against the layer alone, in a realm of node's, and prints how
// many of their subtests pass. What counts is scripts/wpt, which runs them through the product; this
// takes no build and is for work on the layer.
//
//   npm run wpt -- --root <copy of the tests> [--json <file>] [--verbose] <folder or file>...
//
// The JSON is a list of { file, variant, passed, total, status } in the order of the files. Status is
// that of the harness: 0 fine, 1 error, 2 timeout, 9 the world ended before its tests did.

import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { readMeta, testsBelow } from "../../../../../tests/wpt/files.mjs";

const TIMEOUT_MS = 15_000;

const options = { root: process.env.WPT_ROOT, json: null, verbose: false };
const targets = [];
for (let index = 2; index < process.argv.length; index++) {
  const argument = process.argv[index];
  if (argument === "--root") options.root = process.argv[++index];
  else if (argument === "--json") options.json = process.argv[++index];
  else if (argument === "--verbose") options.verbose = true;
  else targets.push(argument);
}
if (options.root === undefined || targets.length === 0) {
  console.error("usage: npm run wpt -- --root <copy of the tests> [--json <file>] [--verbose] <folder or file>...");
  process.exit(2);
}
const root = path.resolve(options.root);

const variantsOf = (file) => readMeta(readFileSync(path.join(root, file), "utf8")).variants;

function runFile(file, variant) {
  return new Promise((resolve) => {
    const logs = [];
    let outcome = { results: [], status: 9, message: "ended without results" };
    const worker = new Worker(new URL("wpt-worker.mjs", import.meta.url), {
      workerData: { root, file, variant, timeoutMs: TIMEOUT_MS },
      stderr: false,
    });
    const limit = setTimeout(() => worker.terminate(), TIMEOUT_MS * 2);
    worker.on("message", (message) => {
      if (message.outcome !== undefined) outcome = message.outcome;
      else logs.push(message.log);
    });
    worker.on("error", (error) => logs.push(String(error?.stack ?? error)));
    worker.on("exit", () => {
      clearTimeout(limit);
      resolve({ outcome, logs });
    });
  });
}

const report = [];
for (const file of targets.flatMap((target) => testsBelow(root, target))) {
  for (const variant of variantsOf(file)) {
    const { outcome, logs } = await runFile(file, variant);
    const passed = outcome.results.filter((result) => result.passed).length;
    const total = outcome.results.length;
    report.push({ file, variant, passed, total, status: outcome.status });
    const note = outcome.status === 0 ? "" : `  (harness ${outcome.status}: ${outcome.message?.split("\n")[0] ?? ""})`;
    console.log(`${`${passed}/${total}`.padStart(11)}  ${file}${variant}${note}`);
    if (!options.verbose) continue;
    for (const { name, passed: fine, message } of outcome.results) {
      if (!fine) console.log(`             FAIL ${name.slice(0, 160)}: ${(message ?? "").slice(0, 300)}`);
    }
    for (const line of logs.slice(0, 20)) console.log(`             ${line.slice(0, 500).replaceAll("\n", "\n             ")}`);
  }
}
const passed = report.reduce((sum, entry) => sum + entry.passed, 0);
const total = report.reduce((sum, entry) => sum + entry.total, 0);
console.log(`${`${passed}/${total}`.padStart(11)}  ${((100 * passed) / Math.max(total, 1)).toFixed(2)} %`);
if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
