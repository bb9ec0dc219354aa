// The operations of compression, with node's zlib driven by hand: its streams answer later, and the
// layer wants short pieces at once.

import zlib from "node:zlib";
import { Refusal } from "./refusal.mjs";

const MAKERS = {
  brotli: [zlib.createBrotliDecompress, zlib.createBrotliCompress],
  deflate: [zlib.createInflate, zlib.createDeflate],
  "deflate-raw": [zlib.createInflateRaw, zlib.createDeflateRaw],
  gzip: [zlib.createGunzip, zlib.createGzip],
};
const OUTPUT_BYTES = 64 * 1024;

class State {
  #engine;
  #format;
  #compresses;

  constructor(format, compresses) {
    this.#format = format;
    this.#compresses = compresses;
    this.#engine = MAKERS[format][compresses ? 1 : 0]({ chunkSize: OUTPUT_BYTES });
  }

  write(bytes, last) {
    const { constants } = zlib;
    const isBrotli = this.#format === "brotli";
    const goOn = isBrotli ? constants.BROTLI_OPERATION_PROCESS : constants.Z_NO_FLUSH;
    const finish = isBrotli ? constants.BROTLI_OPERATION_FINISH : constants.Z_FINISH;
    const engine = this.#engine;
    const parts = [];
    const input = Buffer.from(bytes);
    let offset = 0;
    let failure = null;
    engine._handle.onerror = (message) => (failure = message);
    for (;;) {
      const output = Buffer.alloc(OUTPUT_BYTES);
      engine._handle.writeSync(last ? finish : goOn, input, offset, input.length - offset, output, 0, OUTPUT_BYTES);
      if (failure !== null) throw new Refusal("TypeError", failure);
      const [outputLeft, inputLeft] = engine._writeState;
      parts.push(output.subarray(0, OUTPUT_BYTES - outputLeft));
      offset = input.length - inputLeft;
      if (outputLeft > 0) break;
    }
    const result = new Uint8Array(Buffer.concat(parts));
    return offset < input.length && !this.#compresses ? [result] : result;
  }
}

export function makeCompressionOperations() {
  const states = new Map();
  let lastHandle = 0;
  return {
    50(format, compresses) {
      states.set(++lastHandle, new State(format, compresses));
      return lastHandle;
    },
    51(handle, bytes, last) {
      const state = states.get(handle);
      if (state === undefined) throw new Refusal("TypeError", "This stream ended with its request");
      if (last) states.delete(handle);
      return state.write(bytes, last);
    },
  };
}
