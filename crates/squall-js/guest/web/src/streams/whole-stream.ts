// Contents that are at hand, as a byte stream. They are encoded or copied when somebody reads.

import { host } from "../host.js";
import type { ByteController } from "./byte-controller.js";
import { promiseOf } from "./promises.js";
import type { Source } from "./readable.js";
import { type ReadableStream, wrapReadable } from "./readable-stream.js";

export class WholeSource implements Source {
  readonly pulls = true;
  readonly alone = true;
  readonly content: string | Uint8Array;
  controller!: ByteController;

  constructor(content: string | Uint8Array) {
    this.content = content;
  }

  pull(): null {
    const { content, controller } = this;
    if (content.length > 0) {
      const bytes = typeof content === "string" ? host.utf8Encode(content) : content.slice();
      controller.enqueueOwned(bytes as Uint8Array<ArrayBuffer>);
    }
    controller.close();
    if (controller.pending.length > 0) controller.respond(0);
    return null;
  }

  cancel(): Promise<unknown> {
    return promiseOf(undefined);
  }
}

/** Nobody may change the bytes. */
export function streamOfWhole(content: string | Uint8Array): ReadableStream {
  return wrapReadable(content);
}
