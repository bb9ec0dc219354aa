// File: a Blob with a name and a time.
// https://w3c.github.io/FileAPI/#file-section

import { Blob, bytesOfBlob } from "./blob.js";
import { finishInterface } from "./interface.js";
import { usvString } from "./webidl.js";

export let isFile: (value: object) => value is File;

export class File extends Blob {
  #name: string;
  #lastModified: number;

  static {
    isFile = (value): value is File => #name in value;
  }

  constructor(parts: unknown, name: unknown, options: unknown = undefined) {
    if (arguments.length < 2) throw new TypeError("File needs parts and a name");
    if (parts === undefined) throw new TypeError("The parts of a File are given as a sequence");
    super(parts, options);
    this.#name = usvString(name);
    const time = (options as { lastModified?: unknown } | null | undefined)?.lastModified;
    this.#lastModified = time === undefined ? Date.now() : toLongLong(time);
  }

  get name(): string {
    return this.#name;
  }

  get lastModified(): number {
    return this.#lastModified;
  }

  get webkitRelativePath(): string {
    if (!isFile(this)) throw new TypeError("not a File");
    return "";
  }
}

finishInterface(File);

/** The same bytes as a File, as a form entry needs them. */
export function asFile(blob: Blob, name: string): File {
  const lastModified = isFile(blob) ? blob.lastModified : undefined;
  return new File([bytesOfBlob(blob)], name, { type: blob.type, lastModified });
}

/** Web IDL long long without clamping. */
function toLongLong(value: unknown): number {
  const number = Math.trunc(Number(value));
  return Number.isFinite(number) ? Number(BigInt.asIntN(64, BigInt(number))) : 0;
}
