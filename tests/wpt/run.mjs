// Runs the Web Platform Tests through a node; scripts/wpt starts this and says what is missing.
//
//   run.mjs --squall BINARY --python INTERPRETER --root COPY [--check | --update | --verbose] [FILE OR FOLDER]...

import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { parseArgs } from "node:util";
import { readMeta, reasonToLeaveOut, scriptsOf, selectedFiles, subtestCounts, testsBelow } from "./files.mjs";
import { startProduct } from "./product.mjs";
import { conformancePage, judge, readExpected, settle, tableOf, writeExpected } from "./report.mjs";

const { values: options, positionals: targets } = parseArgs({
  allowPositionals: true,
  options: {
    squall: { type: "string" },
    python: { type: "string" },
    root: { type: "string" },
    check: { type: "boolean" },
    update: { type: "boolean" },
    verbose: { type: "boolean" },
  },
});
const root = options.root;
const whole = targets.length === 0;
if (!whole && options.update) {
  console.error("--update writes the counts of everything; it takes no files");
  process.exit(2);
}

/** Time for a file's tests, and for those that ask for more. */
const TIMEOUT_MS = 10_000;
const LONG_TIMEOUT_MS = 30_000;
/** Answers that have not come by then never will. */
const ANSWER_MS = 150_000;
const CONCURRENCY = 2;

/** Tests share a deployment while their scripts are not longer than this. */
const GROUP_LENGTH = 2_000_000;

const product = await startProduct(options);
process.once("SIGINT", () => void product.stop().then(() => process.exit(130)));
let failed = false;
try {
  const jobs = await prepare(whole ? selectedFiles(root) : targets.flatMap((target) => testsBelow(root, target)));
  const expected = readExpected();
  const results = await runAll(jobs, expected);
  console.log(`\n${tableOf(results).join("\n")}`);
  if (options.update && product.lastWords() === null) {
    const settled = settle(results, expected);
    writeExpected(settled);
    const page = new URL("../../docs/conformance.md", import.meta.url);
    // What follows is scripts/test-cache's and scripts/conformance-door's.
    const [, ...others] = readFileSync(page, "utf8").split(/^(?=# The (?:edge cache|door)$)/m);
    const rest = others.join("");
    writeFileSync(page, [conformancePage(settled).trimEnd(), ...(rest ? ["", rest] : [""])].join("\n"));
  } else if (options.check) {
    // Nothing is to be learnt of files that a node did not live to see.
    const complaints = product.lastWords() === null ? judge(results, expected, whole) : [];
    for (const complaint of complaints) console.log(`FAILED: ${complaint}`);
    failed = complaints.length > 0;
  }
} finally {
  const lastWords = product.lastWords();
  if (lastWords !== null) console.log(`FAILED: ${lastWords}`);
  failed ||= lastWords !== null;
  await product.stop();
}
process.exit(failed ? 1 : 0);

/** Loads and deploys the files; a job for each of their variants. */
async function prepare(files) {
  const tests = [];
  for (const file of files) {
    const meta = readMeta(await load(`/${file}`));
    const variants = meta.variants.filter((variant) => {
      const reason = reasonToLeaveOut(file, variant);
      if (reason !== null && !whole) console.log(`   left out  ${file}${variant}: ${reason}`);
      return reason === null;
    });
    if (variants.length === 0) continue;
    const scripts = await Promise.all(scriptsOf(file, meta).map(load));
    const length = scripts.reduce((sum, script) => sum + script.length, 0);
    tests.push({ file, variants, scripts, length, timeoutMs: meta.long ? LONG_TIMEOUT_MS : TIMEOUT_MS });
  }
  const shared = {
    prelude: readFileSync(new URL("prelude.js", import.meta.url), "utf8"),
    harness: await load("/resources/testharness.js"),
  };
  const apps = new Map();
  const deploy = (group) => {
    try {
      const app = product.deploy(group, shared);
      for (const { file } of group) apps.set(file, { app });
    } catch (error) {
      if (group.length === 1) apps.set(group[0].file, { refusal: error.message });
      else for (const half of [group.slice(0, group.length / 2), group.slice(group.length / 2)]) deploy(half);
    }
  };
  groupsOf(tests).forEach(deploy);
  return tests.flatMap(({ file, variants, timeoutMs }) =>
    variants.map((variant) => ({ file, variant, timeoutMs, ...apps.get(file) })),
  );
}

function groupsOf(tests) {
  const groups = [];
  let left = 0;
  for (const test of tests) {
    if (test.length > left || groups.length === 0) {
      groups.push([]);
      left = GROUP_LENGTH;
    }
    groups.at(-1).push(test);
    left -= test.length;
  }
  return groups;
}

/** Each job's result, in their order. One that falls short is run again by itself: some tests measure time. */
async function runAll(jobs, expected) {
  const results = new Array(jobs.length);
  let next = 0;
  const work = async () => {
    for (let index = next++; index < jobs.length; index = next++) {
      results[index] = await runFile(jobs[index]);
      print(results[index]);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  if (!options.check && !options.update) return results;
  for (const [index, job] of jobs.entries()) {
    const least = expected.get(job.file + job.variant)?.passed ?? 0;
    if (results[index].passed >= least) continue;
    const again = await runFile(job);
    print(again);
    if (again.passed > results[index].passed) results[index] = again;
  }
  return results;
}

async function runFile(job) {
  const { file, variant } = job;
  let outcome;
  try {
    outcome = await ask(job);
  } catch (error) {
    outcome = { results: [], status: 9, message: String(error?.message ?? error) };
  }
  const counted = outcome.results.filter(({ name }) => subtestCounts(file, name));
  const passed = counted.filter((result) => result.passed).length;
  const failures = counted.filter((result) => !result.passed);
  return { file, variant, passed, total: counted.length, failures, status: outcome.status, message: outcome.message };
}

async function ask({ file, variant, timeoutMs, app, refusal }) {
  if (refusal !== undefined) throw new Error(refusal);
  const body = JSON.stringify({ file, url: `${product.origin}/${file}${variant}`, timeoutMs });
  const { status, text } = await post(product.gateway, `${app}.localhost`, body);
  if (status !== 200) throw new Error(`status ${status}: ${text.slice(0, 300)}`);
  return JSON.parse(text);
}

/** A script as the tests' server gives it, with its placeholders filled in. */
async function load(name) {
  const response = await fetch(product.origin + name);
  if (!response.ok) throw new Error(`${name}: status ${response.status}`);
  return response.text();
}

/** By hand, because fetch gives up on answers that take minutes. */
function post(url, host, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", headers: { host }, agent: false }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString() }));
    });
    request.setTimeout(ANSWER_MS, () => request.destroy(new Error("no answer")));
    request.on("error", reject);
    request.end(body);
  });
}

function print({ file, variant, passed, total, failures, status, message }) {
  const note = status === 0 ? "" : `  (harness ${status}: ${(message ?? "").split("\n")[0]})`;
  console.log(`${`${passed}/${total}`.padStart(11)}  ${file}${variant}${note}`);
  if (!options.verbose) return;
  if (status !== 0) console.log(`             ${message ?? ""}`);
  for (const { name, message: why } of failures) {
    console.log(`             FAIL ${name.slice(0, 160)}: ${(why ?? "").slice(0, 300)}`);
  }
}
