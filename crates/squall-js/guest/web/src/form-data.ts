// FormData, and what a form looks like in a body.
// https://xhr.spec.whatwg.org/#interface-formdata

import { type Blob, isBlob } from "./blob.js";
import { asFile, type File, isFile } from "./file.js";
import { finishInterface, setLength } from "./interface.js";
import { definePairIteration } from "./pair-iterator.js";
import { usvString } from "./webidl.js";

export type FormEntry = string | File;
export let isFormData: (value: object) => value is FormData;
/** The flat list behind a form, not a copy. */
export let formEntriesOf: (form: FormData) => FormEntry[];
export let makeFormData: (entries: FormEntry[]) => FormData;

export class FormData {
  /** Name, value, name, value. */
  #entries: FormEntry[] = [];

  static {
    isFormData = (value): value is FormData => #entries in value;
    formEntriesOf = (form) => form.#entries;
    makeFormData = (entries) => {
      const form = new FormData();
      form.#entries = entries;
      return form;
    };
  }

  constructor(form: unknown = undefined, submitter: unknown = undefined) {
    if (form !== undefined) throw new TypeError("There are no form elements here: call FormData without one");
    if (submitter !== undefined && submitter !== null) throw new TypeError("There are no form elements here");
  }

  append(name: unknown, value: unknown, filename: unknown = undefined): void {
    if (arguments.length < 2) throw new TypeError("FormData.append needs 2 arguments");
    this.#entries.push(usvString(name), makeEntry(value, filename, arguments.length > 2));
  }

  delete(name: unknown): void {
    if (arguments.length < 1) throw new TypeError("FormData.delete needs 1 argument");
    const nameText = usvString(name);
    const kept: FormEntry[] = [];
    const entries = this.#entries;
    for (let index = 0; index < entries.length; index += 2) {
      if (entries[index] !== nameText) kept.push(entries[index]!, entries[index + 1]!);
    }
    this.#entries = kept;
  }

  get(name: unknown): FormEntry | null {
    if (arguments.length < 1) throw new TypeError("FormData.get needs 1 argument");
    const nameText = usvString(name);
    const entries = this.#entries;
    for (let index = 0; index < entries.length; index += 2) {
      if (entries[index] === nameText) return entries[index + 1]!;
    }
    return null;
  }

  getAll(name: unknown): FormEntry[] {
    if (arguments.length < 1) throw new TypeError("FormData.getAll needs 1 argument");
    const nameText = usvString(name);
    const entries = this.#entries;
    const values: FormEntry[] = [];
    for (let index = 0; index < entries.length; index += 2) {
      if (entries[index] === nameText) values.push(entries[index + 1]!);
    }
    return values;
  }

  has(name: unknown): boolean {
    if (arguments.length < 1) throw new TypeError("FormData.has needs 1 argument");
    return this.get(name) !== null;
  }

  set(name: unknown, value: unknown, filename: unknown = undefined): void {
    if (arguments.length < 2) throw new TypeError("FormData.set needs 2 arguments");
    const nameText = usvString(name);
    const entry = makeEntry(value, filename, arguments.length > 2);
    const kept: FormEntry[] = [];
    const entries = this.#entries;
    let found = false;
    for (let index = 0; index < entries.length; index += 2) {
      if (entries[index] !== nameText) kept.push(entries[index]!, entries[index + 1]!);
      else if (!found) {
        found = true;
        kept.push(nameText, entry);
      }
    }
    if (!found) kept.push(nameText, entry);
    this.#entries = kept;
  }
}

finishInterface(FormData);
setLength(FormData.prototype, "append", 2);
setLength(FormData.prototype, "set", 2);
definePairIteration(FormData, (target) => formEntriesOf(target as FormData));

// https://xhr.spec.whatwg.org/#create-an-entry
function makeEntry(value: unknown, filename: unknown, withFilename: boolean): FormEntry {
  const blob = typeof value === "object" && value !== null && isBlob(value) ? (value as Blob) : null;
  if (blob === null) {
    if (withFilename) throw new TypeError("A file name is given with a Blob only");
    return usvString(value);
  }
  if (withFilename && filename !== undefined) return asFile(blob, usvString(filename));
  return isFile(blob) ? blob : asFile(blob, "blob");
}
