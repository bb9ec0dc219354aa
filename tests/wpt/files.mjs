// Which files of the tests there are, what they ask for, and which of them are run.

import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { Script } from "node:vm";

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

/** `areas` and what is left out of them, each with its reason. */
export const selection = JSON.parse(read("selection.json"));
export const sources = JSON.parse(read("sources.json"));

/** Scripts that are a test by themselves; pages need a document. */
const IS_TEST = /\.(any|window|worker)\.js$/;

/** Every test that is a script in this folder or file of the copy, sorted. */
export function testsBelow(root, target) {
  if (!statSync(path.join(root, target)).isDirectory()) return [target];
  const names = readdirSync(path.join(root, target)).sort();
  return names.flatMap((name) => {
    const file = path.join(target, name);
    if (statSync(path.join(root, file)).isDirectory()) return testsBelow(root, file);
    return IS_TEST.test(name) ? [file] : [];
  });
}

/** What the comments at the head of a test say. */
export function readMeta(source) {
  const values = (key) => [...source.matchAll(new RegExp(`^// META: ${key}=(.*)$`, "gm"))].map((match) => match[1].trim());
  const variants = values("variant");
  return {
    variants: variants.length === 0 ? [""] : variants,
    scripts: values("script"),
    long: values("timeout").includes("long"),
  };
}

const leftOut = selection.left_out.map(({ files, reason }) => ({ pattern: new RegExp(`^(?:${files})$`), reason }));

/** Why a file, or one of its variants, is not run; null when it is. */
export function reasonToLeaveOut(file, variant = "") {
  return leftOut.find(({ pattern }) => pattern.test(file) || pattern.test(file + variant))?.reason ?? null;
}

const unsteady = selection.unsteady.map(({ files }) => new RegExp(`^(?:${files})$`));

/** Whether a file's count is not the same every time; what is expected of it then only falls. */
export function isUnsteady(file) {
  return unsteady.some((pattern) => pattern.test(file));
}

const leftOutSubtests = selection.left_out_subtests.map(({ files, names }) => ({
  files: new RegExp(`^(?:${files})$`),
  names: new RegExp(names),
}));

/** Whether a subtest of a file that is run counts. */
export function subtestCounts(file, name) {
  return !leftOutSubtests.some(({ files, names }) => files.test(file) && names.test(name));
}

/** The area that a file belongs to. */
export function areaOf(file) {
  return selection.areas.find(({ folders }) => folders.some((folder) => file.startsWith(`${folder}/`)));
}

/** All files that are run, in the order of the areas. */
export function selectedFiles(root) {
  return selection.areas
    .flatMap(({ folders }) => folders.flatMap((folder) => testsBelow(root, folder)))
    .filter((file) => reasonToLeaveOut(file) === null);
}

/** The scripts of a test in their order, the test last; names are absolute paths on the server. */
export function scriptsOf(file, meta) {
  const absolute = meta.scripts.map((name) => path.posix.resolve("/", path.posix.dirname(file), name));
  return [...absolute, `/${file}`];
}

/**
 * The scripts as one function: code can not be made of strings, neither in a function nor in its
 * tests. What scripts leave in the global scope, as functions or by assigning to what nobody has
 * declared, is put there: a function has a scope of its own, and modules are strict.
 */
export function asFunction(scripts) {
  const namesOf = (pattern) => [
    ...new Set(scripts.flatMap((script) => [...script.matchAll(pattern)].map((match) => match[1]))),
  ];
  const assigned = namesOf(/^\s*(?:for \()?([A-Za-z_$][\w$]*)\s*(?:=[^=>]|in |of )/gm);
  const functions = namesOf(/^(?:async )?function\*? *([A-Za-z_$][\w$]*)/gm);
  const body = [
    ...assigned.map((name) => `globalThis[${JSON.stringify(name)}] ??= undefined;`),
    ...functions.map((name) => `if (typeof ${name} === "function") globalThis.${name} = ${name};`),
    `const expressions = { ${expressionsIn(scripts).map((text) => `${JSON.stringify(text)}: () => (${text})`)} };`,
    // In idlharness, the one place where the tests make code of strings.
    ...scripts.map((script) => script.replace(/\beval\(desc\)/, "expressions[desc]()")),
  ];
  return `function () {\n${body.join("\n;")}\n}`;
}

/** What idlharness is to evaluate for an object of an interface. */
function expressionsIn(scripts) {
  const texts = scripts.flatMap((script) => {
    const start = script.indexOf(".add_objects({");
    if (start < 0) return [];
    return [...script.slice(start).matchAll(/"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'/g)].map((match) => match[1] ?? match[2]);
  });
  return [...new Set(texts)].filter((text) => {
    try {
      return new Script(`"use strict"; (${text})`) !== null;
    } catch {
      return false;
    }
  });
}
