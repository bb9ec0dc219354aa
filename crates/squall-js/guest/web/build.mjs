// Bundles the web layer into the one script that the engine evaluates when the base image is made.
// Usage: node build.mjs <output file>

import { build } from "esbuild";

const output = process.argv[2];
if (output === undefined) {
  console.error("usage: node build.mjs <output file>");
  process.exit(2);
}

await build({
  entryPoints: [new URL("src/index.ts", import.meta.url).pathname],
  outfile: output,
  bundle: true,
  format: "iife",
  target: "es2023",
  platform: "neutral",
  charset: "ascii",
  legalComments: "none",
  // Class names are visible to programs; nothing is renamed.
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: false,
  logLevel: "warning",
});
