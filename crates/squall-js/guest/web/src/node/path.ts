// node:path, as on POSIX systems.

import { host } from "../host.js";

function requireString(value: unknown, name: string): asserts value is string {
  if (typeof value !== "string") throw new TypeError(`The ${name} argument must be of type string`);
}

/** The segments without "." and with ".." resolved; a relative path keeps leading ".."s. */
function normalizeSegments(path: string, isAbsolute: boolean): string {
  const kept: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "" || segment === ".") continue;
    if (segment !== "..") kept.push(segment);
    else if (kept.length > 0 && kept[kept.length - 1] !== "..") kept.pop();
    else if (!isAbsolute) kept.push("..");
  }
  return kept.join("/");
}

function isAbsolute(path: string): boolean {
  requireString(path, "path");
  return path.startsWith("/");
}

function normalize(path: string): string {
  requireString(path, "path");
  if (path === "") return ".";
  const absolute = path.startsWith("/");
  let normal = normalizeSegments(path, absolute);
  if (normal === "" && !absolute) normal = ".";
  if (normal !== "" && path.endsWith("/")) normal += "/";
  return absolute ? `/${normal}` : normal;
}

function join(...paths: string[]): string {
  for (const path of paths) requireString(path, "path");
  const joined = paths.filter((path) => path !== "").join("/");
  return joined === "" ? "." : normalize(joined);
}

/** There is no file system: the working directory is its root. */
function resolve(...paths: string[]): string {
  let resolved = "";
  for (let index = paths.length - 1; index >= 0 && !resolved.startsWith("/"); index--) {
    const path = paths[index];
    requireString(path, "path");
    if (path !== "") resolved = resolved === "" ? path : `${path}/${resolved}`;
  }
  return `/${normalizeSegments(resolved, true)}`;
}

function relative(from: string, to: string): string {
  requireString(from, "from");
  requireString(to, "to");
  const source = resolve(from).split("/").filter(Boolean);
  const target = resolve(to).split("/").filter(Boolean);
  let common = 0;
  while (common < source.length && common < target.length && source[common] === target[common]) common++;
  return [...source.slice(common).map(() => ".."), ...target.slice(common)].join("/");
}

/** Where the last segment begins and ends, trailing slashes aside. */
function lastSegment(path: string): [start: number, end: number] {
  let end = path.length;
  while (end > 0 && path[end - 1] === "/") end--;
  return [path.lastIndexOf("/", end - 1) + 1, end];
}

function dirname(path: string): string {
  requireString(path, "path");
  if (path === "") return ".";
  const [start] = lastSegment(path);
  if (start === 0) return path.startsWith("/") ? "/" : ".";
  // Node.js keeps two slashes at the beginning.
  if (start === 2 && path.startsWith("//")) return "//";
  return path.slice(0, Math.max(start - 1, 1));
}

function basename(path: string, suffix: string | undefined = undefined): string {
  requireString(path, "path");
  if (suffix !== undefined) requireString(suffix, "suffix");
  const [start, end] = lastSegment(path);
  const base = end === 0 ? "" : path.slice(start, end);
  return suffix !== undefined && base !== suffix && base.endsWith(suffix) ? base.slice(0, -suffix.length || undefined) : base;
}

function extname(path: string): string {
  const base = basename(path);
  const dot = base.lastIndexOf(".");
  return dot <= 0 || base === ".." ? "" : base.slice(dot);
}

interface ParsedPath {
  root: string;
  dir: string;
  base: string;
  ext: string;
  name: string;
}

function parse(path: string): ParsedPath {
  requireString(path, "path");
  const base = basename(path);
  const ext = extname(path);
  const [start, end] = lastSegment(path);
  const root = path.startsWith("/") ? "/" : "";
  const dir = end === 0 ? root : start <= 1 ? root : path.slice(0, start - 1);
  return { root, dir, base, ext, name: ext === "" ? base : base.slice(0, -ext.length) };
}

function format(parts: Partial<ParsedPath>): string {
  if (typeof parts !== "object" || parts === null) throw new TypeError("The pathObject argument must be an object");
  const extension = parts.ext === undefined || parts.ext === "" ? "" : parts.ext.replace(/^\.?/, ".");
  const base = parts.base ?? `${parts.name ?? ""}${extension}`;
  const directory = parts.dir ?? parts.root;
  if (directory === undefined || directory === "") return base;
  return directory === parts.root ? `${directory}${base}` : `${directory}/${base}`;
}

function matchesGlob(): never {
  throw new Error("path.matchesGlob is not offered by this runtime");
}

const shared = {
  ...{ basename, dirname, extname, format, isAbsolute, join, matchesGlob, normalize, parse, relative, resolve },
  ...{ delimiter: ":", sep: "/", toNamespacedPath: (path: string): string => path },
};
export const path = shared as typeof shared & { posix: typeof shared };
path.posix = path;
host.registerModule("node:path", { ...path, default: path });
host.registerModule("node:path/posix", { ...path, default: path });
