// Counts as the tests' own page of results counts, expected counts, and the page that publishes them.

import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const EXPECTED = new URL("expected.json", import.meta.url);

/** What nobody may ever get wrong: others would see what is not theirs, or what is not true any more. */
const SAFETY = /^(cc-resp-(no-store|private)|cdn-(private|no-store)|other-authorization|invalidate-)/;

/**
 * The tests that count with their outcome. One that depends on another which failed has not
 * passed, as on the tests' own page; tests for browsers and mere questions do not count.
 */
export async function count(suite, results) {
  const load = (file) => import(pathToFileURL(path.join(suite.root, file)));
  const { default: groups } = await load("tests/index.mjs");
  const { determineTestResult } = await load(suite.results);
  const tests = [];
  for (const group of groups) {
    for (const { id, name, kind = "required", browser_only: browserOnly } of group.tests) {
      if (browserOnly || kind === "check") continue;
      const outcome = determineTestResult(groups, id, results)[2];
      const why = results[id] === true ? "a test that it depends on" : results[id]?.[1] ?? "it did not run";
      // Their page has one column for caches of any place; what is only for those of a CDN stands apart in it.
      tests.push({ group: group.name, id, name, kind, targeted: group.id === "cdn-cache-control", passed: outcome === "✅", why });
    }
  }
  return { tests };
}

const sum = (tests, kind) => {
  const of = tests.filter((test) => test.kind === kind);
  return { passed: of.filter(({ passed }) => passed).length, total: of.length };
};

export function readExpected() {
  try {
    return JSON.parse(readFileSync(EXPECTED, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return {};
    throw error;
  }
}

/** Names instead of counts alone: which tests fail may not change without being seen. */
export function writeExpected(counts) {
  const expected = Object.entries(counts).map(([name, { tests }]) => [
    name,
    {
      required: sum(tests, "required").passed,
      optimal: sum(tests, "optimal").passed,
      failing: tests.filter(({ passed }) => !passed).map(({ id }) => id),
    },
  ]);
  writeFileSync(EXPECTED, `${JSON.stringify(Object.fromEntries(expected), null, 1)}\n`);
}

export function judge({ tests }, expected) {
  const complaints = [];
  for (const kind of ["required", "optimal"]) {
    const { passed } = sum(tests, kind);
    const before = expected?.[kind] ?? 0;
    if (passed < before) complaints.push(`${passed} ${kind} tests pass, ${before} did`);
  }
  for (const { id, passed, why } of tests) {
    if (passed) continue;
    if (SAFETY.test(id) && !/-failed$/.test(id)) complaints.push(`${id}: a test of safety: ${why}`);
    else if (!expected?.failing.includes(id)) complaints.push(`${id}: ${why}`);
  }
  return complaints;
}

export function tableOf(suite, { tests }) {
  const { passed: required, total: ofRequired } = sum(tests, "required");
  const { passed: optimal, total: ofOptimal } = sum(tests, "optimal");
  const failures = tests.filter(({ passed }) => !passed);
  return [
    `${suite.name}: ${required} of ${ofRequired} required, ${optimal} of ${ofOptimal} optimal`,
    ...failures.map(({ kind, id, why }) => `  ${kind.padEnd(8)}  ${id}: ${why}`),
  ];
}

export function pagePart(counts) {
  const page = readFileSync(new URL("page.md", import.meta.url), "utf8");
  const cell = ({ passed, total }) => (total === 0 ? "" : `${passed} of ${total}`);
  const row = (name, tests) => `| ${name} | ${cell(sum(tests, "required"))} | ${cell(sum(tests, "optimal"))} |`;
  const { packaged, newest } = counts;
  const groups = [...new Set(newest.tests.map(({ group }) => group))];
  const parts = {
    together: [
      row("the package, version 0.4.5", packaged.tests),
      row("the newest, without those of CDN-Cache-Control", newest.tests.filter(({ targeted }) => !targeted)),
      row("the newest, all", newest.tests),
    ],
    groups: groups.map((name) => row(name, newest.tests.filter(({ group }) => group === name))),
    failures: Object.entries(counts).flatMap(([suite, { tests }]) =>
      tests
        .filter(({ passed }) => !passed)
        .map(({ id, kind, name, why }) => `| ${suite} | \`${id}\` | ${kind} | ${name.replaceAll("|", "\\|")}: ${why.replaceAll("|", "\\|")} |`),
    ),
  };
  return page.replace(/^<<(\w+)>>$/gm, (_, name) => parts[name].join("\n"));
}
