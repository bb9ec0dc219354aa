// Runs the public tests of HTTP caches; scripts/test-cache starts this and says what is missing.
//
//   run.mjs --squall BINARY --installed FOLDER --newest COMMIT [--check | --update | --one TEST]

import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { startProduct } from "./product.mjs";
import { count, judge, pagePart, readExpected, tableOf, writeExpected } from "./report.mjs";

const { values: options } = parseArgs({
  options: {
    squall: { type: "string" },
    installed: { type: "string" },
    newest: { type: "string" },
    check: { type: "boolean" },
    update: { type: "boolean" },
    one: { type: "string" },
  },
});

const packaged = {
  name: "packaged",
  root: path.join(options.installed, "node_modules/http-cache-tests"),
  client: "cli.mjs",
  server: "server/server.mjs",
  results: "lib/display.mjs",
};
const newest = {
  name: "newest",
  root: path.join(options.installed, "newest"),
  client: "test-engine/cli.mjs",
  server: "test-engine/server/server.mjs",
  results: "test-engine/lib/results.mjs",
};

const commit = path.join(newest.root, "commit");
const hasNewest = existsSync(commit) && readFileSync(commit, "utf8").trim() === options.newest;
const suites = hasNewest ? [packaged, newest] : [packaged];
if (!hasNewest) {
  console.log(`The newest tests are left out: there is no copy of their commit ${options.newest} (scripts/test-cache --copy).`);
  if (options.update) {
    console.error("--update writes the counts of both; make the copy first");
    process.exit(2);
  }
}

let failed = false;
const counts = {};
for (const suite of suites) {
  const product = await startProduct(options.squall, suite);
  const interrupted = () => void product.stop().then(() => process.exit(130));
  process.once("SIGINT", interrupted);
  try {
    if (options.one !== undefined) {
      console.log(`${suite.name}:\n${await ask(suite, product.base, options.one)}`);
      continue;
    }
    const expected = readExpected()[suite.name];
    const printed = await ask(suite, product.base, "");
    const results = JSON.parse(printed.slice(printed.indexOf("\n{") + 1));
    let counted = await count(suite, results);
    // The tests run many at once and have seconds in them: what a busy machine spoiled is asked again, alone.
    for (const { id } of counted.tests.filter((test) => !test.passed && !expected?.failing.includes(test.id))) {
      const again = await ask(suite, product.base, id);
      if (/^✅/m.test(again)) results[id] = true;
    }
    counted = await count(suite, results);
    counts[suite.name] = counted;
    console.log(tableOf(suite, counted).join("\n"));
    if (options.check) {
      for (const complaint of judge(counted, expected)) {
        console.log(`FAILED: ${complaint}`);
        failed = true;
      }
    }
  } finally {
    process.removeListener("SIGINT", interrupted);
    await product.stop();
  }
}
if (options.update) {
  writeExpected(counts);
  const page = new URL("../../docs/conformance.md", import.meta.url);
  // Before this part is that of scripts/wpt, behind it that of scripts/conformance-door.
  const [before, behind] = readFileSync(page, "utf8").split(/^(?=# The door$)/m);
  const [first] = before.split(/^(?=# The edge cache$)/m);
  writeFileSync(page, [first.trimEnd(), pagePart(counts).trimEnd(), behind ?? ""].join("\n\n"));
}
process.exitCode = failed ? 1 : 0;

/** What the tests' client prints about all of them, or about one. */
function ask(suite, base, id) {
  return new Promise((resolve, reject) => {
    const client = spawn(process.execPath, ["--no-warnings", suite.client], {
      cwd: suite.root,
      env: { ...process.env, npm_config_base: base, npm_config_id: id, npm_package_config_id: "" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "\n";
    client.stdout.setEncoding("utf8").on("data", (text) => (printed += text));
    client.once("error", reject);
    client.once("close", (code) => (code === 0 ? resolve(printed) : reject(new Error(`the tests' client ended with ${code}`))));
  });
}
