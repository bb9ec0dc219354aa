// The interfaces of the Streams standard, and nothing else.

export { ReadableByteStreamController, ReadableStreamBYOBRequest, ReadableStreamDefaultController } from "./controllers.js";
export { ReadableStream } from "./readable-stream.js";
export { ReadableStreamBYOBReader, ReadableStreamDefaultReader } from "./reader-classes.js";
export { ByteLengthQueuingStrategy, CountQueuingStrategy } from "./strategies.js";
export { TransformStream, TransformStreamDefaultController } from "./transform-stream.js";
export { WritableStream, WritableStreamDefaultController, WritableStreamDefaultWriter } from "./writable-stream.js";
