// The globals of streams. src/streams/index.ts exports these interfaces and nothing else.

import { CompressionStream, DecompressionStream } from "./compression.js";
import { TextDecoderStream } from "./encoding/text-decoder-stream.js";
import { TextEncoderStream } from "./encoding/text-encoder-stream.js";
import { defineGlobal } from "./interface.js";
import * as streams from "./streams/index.js";

const interfaces = { ...streams, CompressionStream, DecompressionStream, TextDecoderStream, TextEncoderStream };
for (const [name, value] of Object.entries(interfaces)) defineGlobal(name, value);
