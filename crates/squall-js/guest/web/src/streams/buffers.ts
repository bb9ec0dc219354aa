// ArrayBuffers as byte streams need them: taken from whoever gave them, and looked at from outside.

import { host } from "../host.js";

export type ViewConstructor = new (buffer: ArrayBuffer, offset: number, length: number) => ArrayBufferView;

const detachedOf = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "detached")?.get;

export function isDetached(buffer: ArrayBuffer): boolean {
  if (buffer.byteLength > 0) return false;
  if (detachedOf !== undefined) return detachedOf.call(buffer) as boolean;
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/** The bytes in a buffer of our own; the given one is detached. */
export function transferBuffer(buffer: ArrayBuffer): ArrayBuffer {
  if (isDetached(buffer)) throw new TypeError("The buffer is detached");
  return host.transfer(buffer);
}

/** A view's own constructor, and the size of its elements. */
export function viewKind(view: ArrayBufferView): { constructor: ViewConstructor; elementSize: number } {
  const elementSize = (view as Partial<Uint8Array>).BYTES_PER_ELEMENT;
  if (elementSize === undefined || view instanceof DataView) return { constructor: DataView, elementSize: 1 };
  const kind = typedArrayTag.call(view) as string;
  return { constructor: TYPED_ARRAYS[kind]!, elementSize };
}

const TYPED_ARRAYS = {
  ...{ Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array },
  ...{ Float32Array, Float64Array, BigInt64Array, BigUint64Array },
} as unknown as Record<string, ViewConstructor>;
const { Float16Array } = globalThis as { Float16Array?: ViewConstructor };
if (Float16Array !== undefined) TYPED_ARRAYS["Float16Array"] = Float16Array;

const typedArrayTag = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)!.get!;

/** Throws unless the value is a view of a buffer that can be transferred. */
export function requireView(value: unknown, what: string): ArrayBufferView<ArrayBuffer> {
  if (!ArrayBuffer.isView(value)) throw new TypeError(`${what} is no view of an ArrayBuffer`);
  if (Object.prototype.toString.call(value.buffer) === "[object SharedArrayBuffer]") {
    throw new TypeError(`${what} is a view of shared memory`);
  }
  return value as ArrayBufferView<ArrayBuffer>;
}
