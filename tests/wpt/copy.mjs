// Puts the tests into a folder outside of the repository, from clones of where they are published.
// Usage: copy.mjs FOLDER CLONE... | --help

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { sources } from "./files.mjs";

const [folder, ...clones] = process.argv.slice(2);
const folderOf = ({ repository }) => path.basename(repository);

if (folder === "--help") {
  for (const source of sources) console.log(`  git clone ${source.repository} /tmp/${folderOf(source)}`);
  console.log(`  scripts/wpt --copy ${sources.map((source) => `/tmp/${folderOf(source)}`).join(" ")}`);
  process.exit(0);
}
if (clones.length !== sources.length) {
  console.error(`scripts/wpt --copy takes ${sources.length} clones: ${sources.map(folderOf).join(", ")}`);
  process.exit(2);
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
sources.forEach(({ commit, folder: inside, take }, index) => {
  const tree = `${commit}:${inside}`;
  const archive = execFileSync("git", ["-C", clones[index], "archive", tree, ...take], { maxBuffer: 1 << 30 });
  // Where two repositories have a file, the first one's stays.
  execFileSync("tar", ["-x", "--skip-old-files", "-C", folder], { input: archive });
});
copyFileSync(new URL("sources.json", import.meta.url), path.join(folder, "sources.json"));
