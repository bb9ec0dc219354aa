// As much of DER as the key formats need.
// https://www.itu.int/rec/T-REC-X.690, RFC 5208 (PKCS#8), RFC 5280 (SPKI), RFC 8017 (PKCS#1)

import { concatenate } from "../blob.js";
import { DOMException } from "../errors.js";

export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTET_STRING = 0x04;
export const NULL = 0x05;
export const OBJECT_IDENTIFIER = 0x06;
export const SEQUENCE = 0x30;

function malformed(): never {
  throw new DOMException("The key is not well-formed DER", "DataError");
}

/** Reads elements one after the other; anything unexpected is a DataError. */
export class DerReader {
  #bytes: Uint8Array;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#position === this.#bytes.length;
  }

  /** The tag of the next element, or -1 at the end. */
  get nextTag(): number {
    return this.done ? -1 : this.#bytes[this.#position]!;
  }

  /** The contents of the next element, which must have this tag. */
  read(tag: number): Uint8Array {
    if (this.nextTag !== tag) malformed();
    let position = this.#position + 1;
    let length = this.#bytes[position++] ?? malformed();
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) malformed();
      length = 0;
      for (let index = 0; index < count; index++) length = length * 256 + (this.#bytes[position++] ?? malformed());
    }
    const end = position + length;
    if (end > this.#bytes.length) malformed();
    this.#position = end;
    return this.#bytes.subarray(position, end);
  }

  /** An unsigned integer without leading zeros. */
  readUnsigned(): Uint8Array {
    const bytes = this.read(INTEGER);
    if (bytes.length === 0 || bytes[0]! >= 0x80) malformed();
    return bytes[0] === 0 && bytes.length > 1 ? bytes.subarray(1) : bytes;
  }

  enter(tag: number): DerReader {
    return new DerReader(this.read(tag));
  }

  expectEnd(): void {
    if (!this.done) malformed();
  }
}

export function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of contents) length += part.length;
  const head = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return concatenate([Uint8Array.from(head), ...contents], head.length + length);
}

export function derUnsigned(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const trimmed = bytes.subarray(start);
  return trimmed[0]! >= 0x80 ? der(INTEGER, Uint8Array.of(0), trimmed) : der(INTEGER, trimmed);
}

export function derSmall(value: number): Uint8Array {
  return der(INTEGER, Uint8Array.of(value));
}

/** The identifier of an algorithm: an object identifier and its parameters. */
export interface AlgorithmId {
  oid: Uint8Array;
  /** The parameters as one DER element, or empty. */
  parameters: Uint8Array;
}

function derAlgorithm(id: AlgorithmId): Uint8Array {
  return der(SEQUENCE, der(OBJECT_IDENTIFIER, id.oid), id.parameters);
}

function expectAlgorithm(reader: DerReader, id: AlgorithmId): void {
  const sequence = reader.enter(SEQUENCE);
  if (!sameBytes(sequence.read(OBJECT_IDENTIFIER), id.oid)) {
    throw new DOMException("The key is of another algorithm", "DataError");
  }
  if (id.parameters.length === 0) return sequence.expectEnd();
  const tag = id.parameters[0]!;
  if (!sameBytes(der(tag, sequence.read(tag)), id.parameters)) {
    throw new DOMException("The key is of another algorithm or curve", "DataError");
  }
  sequence.expectEnd();
}

export function writeSpki(id: AlgorithmId, key: Uint8Array): Uint8Array {
  return der(SEQUENCE, derAlgorithm(id), der(BIT_STRING, Uint8Array.of(0), key));
}

export function readSpki(bytes: Uint8Array, id: AlgorithmId): Uint8Array {
  const outer = new DerReader(bytes);
  const reader = outer.enter(SEQUENCE);
  outer.expectEnd();
  expectAlgorithm(reader, id);
  const bits = reader.read(BIT_STRING);
  reader.expectEnd();
  if (bits[0] !== 0) malformed();
  return bits.slice(1);
}

export function writePkcs8(id: AlgorithmId, key: Uint8Array): Uint8Array {
  return der(SEQUENCE, derSmall(0), derAlgorithm(id), der(OCTET_STRING, key));
}

export function readPkcs8(bytes: Uint8Array, id: AlgorithmId): Uint8Array {
  const outer = new DerReader(bytes);
  const reader = outer.enter(SEQUENCE);
  outer.expectEnd();
  reader.readUnsigned();
  expectAlgorithm(reader, id);
  // Attributes and a public key may follow.
  return reader.read(OCTET_STRING).slice();
}

export function sameBytes(first: Uint8Array, second: Uint8Array): boolean {
  return first.length === second.length && first.every((byte, index) => byte === second[index]);
}
