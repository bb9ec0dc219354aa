// Expected counts, and the page that publishes them.

import { readFileSync, writeFileSync } from "node:fs";
import { areaOf, isUnsteady, selection, sources } from "./files.mjs";

const EXPECTED = new URL("expected.json", import.meta.url);

/** By file and variant: { passed, total }. */
export function readExpected() {
  const counts = JSON.parse(readFileSync(EXPECTED, "utf8"));
  return new Map(Object.entries(counts).map(([key, [passed, total]]) => [key, { passed, total }]));
}

/** What is published and expected: a file that breaks off keeps its total, an unsteady one its least count. */
export function settle(results, expected) {
  return withKnownTotals(results, expected).map((result) => {
    const before = expected.get(result.file + result.variant)?.passed ?? result.passed;
    return isUnsteady(result.file) ? { ...result, passed: Math.min(result.passed, before) } : result;
  });
}

/** One line for each file, so that a difference is easy to read. */
export function writeExpected(results) {
  const lines = results.map(({ file, variant, passed, total }) => ` ${JSON.stringify(file + variant)}: [${passed}, ${total}]`);
  writeFileSync(EXPECTED, `{\n${lines.join(",\n")}\n}\n`);
}

/** What is worse than it was, or than an area must be. */
export function judge(results, expected, whole) {
  const complaints = [];
  const found = new Map(results.map((result) => [result.file + result.variant, result]));
  if (whole) {
    for (const key of expected.keys()) if (!found.has(key)) complaints.push(`${key}: is gone`);
  }
  for (const [key, { passed, total, message }] of found) {
    const before = expected.get(key);
    if (before === undefined) complaints.push(`${key}: is new; scripts/wpt --update lists it`);
    else if (passed < before.passed) complaints.push(`${key}: ${passed} pass, ${before.passed} did ${message ?? ""}`);
    else if (total < before.total) complaints.push(`${key}: has ${total} subtests, it had ${before.total}`);
  }
  if (whole) {
    for (const { name, least_percent: least, passed, total } of areas(withKnownTotals(results, expected))) {
      if (percent(passed, total) < least) complaints.push(`${name}: ${passed} of ${total} pass, less than ${least} %`);
    }
  }
  return complaints;
}

/** A file that breaks off has failed in all that it had. */
function withKnownTotals(results, expected) {
  return results.map((result) => {
    const known = expected.get(result.file + result.variant)?.total ?? 0;
    return { ...result, total: Math.max(result.total, known) };
  });
}

function areas(results) {
  return selection.areas.map((area) => {
    const of = results.filter(({ file }) => areaOf(file) === area);
    const sum = (key) => of.reduce((total, result) => total + result[key], 0);
    return { ...area, files: new Set(of.map(({ file }) => file)).size, passed: sum("passed"), total: sum("total") };
  });
}

const percent = (passed, total) => (total === 0 ? 0 : (100 * passed) / total);
/** Never rounded up: 99.99 is not everything. */
const shown = (passed, total) => (Math.floor(percent(passed, total) * 100) / 100).toFixed(2);

export function tableOf(results) {
  const row = (name, passed, total) => `${name.padEnd(16)} ${`${passed}/${total}`.padStart(13)}  ${shown(passed, total)} %`;
  const of = areas(results).filter(({ total }) => total > 0);
  const sum = (key) => of.reduce((total, area) => total + area[key], 0);
  return [...of.map(({ name, passed, total }) => row(name, passed, total)), row("together", sum("passed"), sum("total"))];
}

/** A regular expression in a cell of a table. */
const pattern = (text) => `\`${text.replaceAll("|", "\\|")}\``;

export function conformancePage(results) {
  const page = readFileSync(new URL("page.md", import.meta.url), "utf8");
  const parts = {
    sources: sources.map(({ repository, commit, take }) => `- ${repository} at \`${commit}\`: ${take.join(", ")}`),
    areas: areas(results).map(
      ({ name, files, passed, total, least_percent: least, failing }) =>
        `| ${name} | ${files} | ${passed} | ${total} | ${shown(passed, total)} | ${least === 0 ? "" : least} | ${failing ?? ""} |`,
    ),
    files: results
      .filter(({ passed, total }) => passed < total)
      .map(({ file, variant, passed, total }) => `| \`${file}${variant}\` | ${passed} | ${total} |`),
    unsteady: selection.unsteady.map(({ files, reason }) => `| ${pattern(files)} | ${reason} |`),
    leftOut: selection.left_out.map(({ files, reason }) => `| ${pattern(files)} | ${reason} |`),
    leftOutSubtests: selection.left_out_subtests.map(
      ({ files, names, reason }) => `| ${pattern(files)} | ${pattern(names)} | ${reason} |`,
    ),
  };
  return page.replace(/^<<(\w+)>>$/gm, (_, name) => parts[name].join("\n"));
}
