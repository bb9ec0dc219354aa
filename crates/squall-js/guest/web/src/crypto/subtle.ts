// SubtleCrypto: what every algorithm's operations have in common, in the standard's order, which
// decides the error that a call with several mistakes gets.
// https://w3c.github.io/webcrypto/#subtlecrypto-interface

import { host } from "../host.js";
import { finishInterface } from "../interface.js";
import { DIGEST } from "../ops.js";
import { type Algorithm, either, type KeyFormat, type KeyResult } from "./algorithm.js";
import { derivations } from "./derivation.js";
import { ellipticAlgorithms } from "./elliptic.js";
import { readJwk } from "./jwk.js";
import { type CryptoKey, isCryptoKey, type KeyParts, keyParts, USAGES } from "./key.js";
import { type Dictionary, hashName, refuse, sourceBytes } from "./params.js";
import { rsaAlgorithms } from "./rsa.js";
import { symmetric } from "./symmetric.js";

const algorithms = new Map<string, Algorithm>();
for (const algorithm of [...symmetric, ...derivations, ...rsaAlgorithms, ...ellipticAlgorithms]) {
  algorithms.set(algorithm.name.toUpperCase(), algorithm);
}

type Operation = Exclude<keyof Algorithm, "name">;
type Converter<K extends Operation> = NonNullable<Algorithm[K]>;

/** The algorithm that is asked for and its parameters. */
// https://w3c.github.io/webcrypto/#algorithm-normalization-normalize-an-algorithm
function find<K extends Operation>(operation: K, given: unknown): { algorithm: Algorithm; use: Converter<K>; params: Dictionary } {
  let params: Dictionary;
  if ((typeof given === "object" && given !== null) || typeof given === "function") {
    params = given as Dictionary;
    if (params["name"] === undefined) throw new TypeError("The algorithm needs the member name");
  } else {
    params = { name: given };
  }
  const name = `${params["name"]}`;
  const algorithm = algorithms.get(name.toUpperCase());
  const use = algorithm?.[operation];
  if (algorithm === undefined || use === undefined) {
    refuse("NotSupportedError", `${name} is not offered for ${operation}`);
  }
  return { algorithm, use: use as Converter<K>, params };
}

function partsOf(key: unknown): KeyParts {
  if (!isCryptoKey(key)) throw new TypeError("The key is no CryptoKey");
  return keyParts(key);
}

function expectKey(key: KeyParts, algorithm: Algorithm, usage: string): void {
  if (key.algorithm.name !== algorithm.name) {
    refuse("InvalidAccessError", `The key is for ${key.algorithm.name}, not for ${algorithm.name}`);
  }
  if (!key.usages.includes(usage)) refuse("InvalidAccessError", `The key can not be used for ${usage}`);
}

const FORMATS = ["raw", "spki", "pkcs8", "jwk"];

function formatOf(value: unknown): KeyFormat {
  const format = `${value}`;
  if (!FORMATS.includes(format)) throw new TypeError(`${JSON.stringify(format)} is no key format`);
  return format as KeyFormat;
}

function usagesOf(value: unknown): string[] {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) {
    throw new TypeError("The usages of a key are given as a sequence");
  }
  const usages: string[] = [];
  for (const item of value as Iterable<unknown>) {
    const usage = `${item}`;
    if (!USAGES.includes(usage)) throw new TypeError(`${JSON.stringify(usage)} is no key usage`);
    usages.push(usage);
  }
  return usages;
}

function expectArguments(given: number, least: number): void {
  if (given < least) throw new TypeError(`${least} arguments are needed, ${given} are given`);
}

function ownBuffer(bytes: Uint8Array): ArrayBuffer {
  return (bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()).buffer as ArrayBuffer;
}

function expectUsable<T extends KeyResult>(result: T): T {
  const key = (isCryptoKey(result) ? result : (result as { privateKey: CryptoKey }).privateKey) as CryptoKey;
  const parts = keyParts(key);
  if (parts.type !== "public" && parts.usages.length === 0) refuse("SyntaxError", "A secret key needs a usage");
  return result;
}

let constructible = true;

export class SubtleCrypto {
  readonly #brand = true;

  constructor() {
    if (!constructible) throw new TypeError("Illegal constructor");
  }

  async encrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    expectArguments(arguments.length, 3);
    return ownBuffer(await this.#crypt("encrypt", "encrypt", algorithm, partsOf(key), sourceBytes(data, "data")));
  }

  async decrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    expectArguments(arguments.length, 3);
    return ownBuffer(await this.#crypt("decrypt", "decrypt", algorithm, partsOf(key), sourceBytes(data, "data")));
  }

  async sign(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    expectArguments(arguments.length, 3);
    const parts = partsOf(key);
    const bytes = sourceBytes(data, "data");
    const found = find("sign", algorithm);
    const work = found.use(found.params);
    const copy = bytes.slice();
    expectKey(parts, found.algorithm, "sign");
    return ownBuffer(await work(parts, copy));
  }

  async verify(algorithm: unknown, key: unknown, signature: unknown, data: unknown): Promise<boolean> {
    expectArguments(arguments.length, 4);
    const parts = partsOf(key);
    const signatureBytes = sourceBytes(signature, "signature");
    const bytes = sourceBytes(data, "data");
    const found = find("verify", algorithm);
    const work = found.use(found.params);
    const copies = [signatureBytes.slice(), bytes.slice()] as const;
    expectKey(parts, found.algorithm, "verify");
    return work(parts, ...copies);
  }

  async digest(algorithm: unknown, data: unknown): Promise<ArrayBuffer> {
    expectArguments(arguments.length, 2);
    this.#brand;
    const bytes = sourceBytes(data, "data");
    const hash = hashName(algorithm);
    return ownBuffer((await either(DIGEST, hash, bytes.slice())) as Uint8Array);
  }

  async generateKey(algorithm: unknown, extractable: unknown, usages: unknown): Promise<KeyResult> {
    expectArguments(arguments.length, 3);
    const usageList = usagesOf(usages);
    const found = find("generateKey", algorithm);
    return expectUsable(await found.use(found.params)(Boolean(extractable), usageList));
  }

  async deriveKey(
    algorithm: unknown,
    baseKey: unknown,
    derivedKeyType: unknown,
    extractable: unknown,
    usages: unknown,
  ): Promise<CryptoKey> {
    expectArguments(arguments.length, 5);
    const parts = partsOf(baseKey);
    const usageList = usagesOf(usages);
    const derivation = find("deriveBits", algorithm);
    const derive = derivation.use(derivation.params);
    const target = find("importKey", derivedKeyType);
    const make = target.use(target.params);
    const lengthOf = find("keyLength", derivedKeyType);
    expectKey(parts, derivation.algorithm, "deriveKey");
    const length = lengthOf.use(lengthOf.params);
    const bits = await derive(parts, length);
    return expectUsable(await make("raw", bits, Boolean(extractable), usageList));
  }

  async deriveBits(algorithm: unknown, baseKey: unknown, length: unknown = null): Promise<ArrayBuffer> {
    expectArguments(arguments.length, 2);
    const parts = partsOf(baseKey);
    const bits = length === null || length === undefined ? null : Math.trunc(Number(length)) >>> 0;
    const found = find("deriveBits", algorithm);
    const derive = found.use(found.params);
    expectKey(parts, found.algorithm, "deriveBits");
    return ownBuffer(await derive(parts, bits));
  }

  async importKey(
    format: unknown,
    keyData: unknown,
    algorithm: unknown,
    extractable: unknown,
    usages: unknown,
  ): Promise<CryptoKey> {
    expectArguments(arguments.length, 5);
    const keyFormat = formatOf(format);
    const usageList = usagesOf(usages);
    const given = keyFormat === "jwk" ? readJwk(keyData) : sourceBytes(keyData, "keyData");
    const found = find("importKey", algorithm);
    const make = found.use(found.params);
    const data = given instanceof Uint8Array ? given.slice() : given;
    return expectUsable(await make(keyFormat, data, Boolean(extractable), usageList));
  }

  async exportKey(format: unknown, key: unknown): Promise<ArrayBuffer | Dictionary> {
    expectArguments(arguments.length, 2);
    const exported = this.#export(formatOf(format), partsOf(key));
    return exported instanceof Uint8Array ? ownBuffer(exported) : exported;
  }

  async wrapKey(format: unknown, key: unknown, wrappingKey: unknown, wrapAlgorithm: unknown): Promise<ArrayBuffer> {
    expectArguments(arguments.length, 4);
    const keyFormat = formatOf(format);
    const parts = partsOf(key);
    const wrapping = partsOf(wrappingKey);
    const found = find("encrypt", wrapAlgorithm);
    const work = found.use(found.params);
    expectKey(wrapping, found.algorithm, "wrapKey");
    const exported = this.#export(keyFormat, parts);
    const bytes = exported instanceof Uint8Array ? exported : host.utf8Encode(JSON.stringify(exported));
    return ownBuffer(await work(wrapping, bytes));
  }

  async unwrapKey(
    format: unknown,
    wrappedKey: unknown,
    unwrappingKey: unknown,
    unwrapAlgorithm: unknown,
    unwrappedKeyAlgorithm: unknown,
    extractable: unknown,
    usages: unknown,
  ): Promise<CryptoKey> {
    expectArguments(arguments.length, 7);
    const keyFormat = formatOf(format);
    const wrapped = sourceBytes(wrappedKey, "wrappedKey");
    const unwrapping = partsOf(unwrappingKey);
    const usageList = usagesOf(usages);
    const target = find("importKey", unwrappedKeyAlgorithm);
    const make = target.use(target.params);
    const bytes = await this.#crypt("decrypt", "unwrapKey", unwrapAlgorithm, unwrapping, wrapped);
    const data = keyFormat === "jwk" ? parseJwk(bytes) : bytes;
    return expectUsable(await make(keyFormat, data, Boolean(extractable), usageList));
  }

  #crypt(
    operation: "encrypt" | "decrypt",
    usage: string,
    algorithm: unknown,
    key: KeyParts,
    data: Uint8Array,
  ): Uint8Array | Promise<Uint8Array> {
    const found = find(operation, algorithm);
    const work = found.use(found.params);
    // Whoever describes the algorithm may still change the data; from here on nobody can.
    const copy = data.slice();
    expectKey(key, found.algorithm, usage);
    return work(key, copy);
  }

  #export(format: KeyFormat, key: KeyParts): Uint8Array | Dictionary {
    const algorithm = algorithms.get(key.algorithm.name.toUpperCase())!;
    if (algorithm.exportKey === undefined) {
      refuse("NotSupportedError", `A key for ${key.algorithm.name} can not be exported`);
    }
    if (!key.extractable) refuse("InvalidAccessError", "The key is not extractable");
    return algorithm.exportKey(format, key);
  }
}

finishInterface(SubtleCrypto);
export const subtle = new SubtleCrypto();
constructible = false;

function parseJwk(bytes: Uint8Array): Dictionary {
  try {
    return readJwk(JSON.parse(host.utf8Decode(bytes, false)!));
  } catch {
    return refuse("DataError", "What was unwrapped is no JSON Web Key");
  }
}
