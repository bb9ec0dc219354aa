// A first-in, first-out list that stays cheap when it is long.

/** How many places may be empty at the front before the rest moves down. */
const LARGEST_GAP = 64;

export class Queue<T> {
  #items: (T | undefined)[] = [];
  #head = 0;
  length = 0;

  push(item: T): void {
    this.#items.push(item);
    this.length++;
  }

  peek(): T {
    return this.#items[this.#head] as T;
  }

  replaceFirst(item: T): void {
    this.#items[this.#head] = item;
  }

  shift(): T {
    const items = this.#items;
    const item = items[this.#head] as T;
    if (--this.length === 0) {
      items.length = 0;
      this.#head = 0;
      return item;
    }
    items[this.#head++] = undefined;
    if (this.#head > LARGEST_GAP && this.#head > this.length) {
      items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  clear(): void {
    this.#items.length = 0;
    this.#head = this.length = 0;
  }

  /** Everything, in order; nothing is left. */
  drain(): T[] {
    const items = this.#items.slice(this.#head) as T[];
    this.clear();
    return items;
  }
}

/** Chunks with the sizes that a strategy gives them; without one every chunk counts as one. */
// https://streams.spec.whatwg.org/#queue-with-sizes
export class SizedQueue {
  readonly #chunks = new Queue<unknown>();
  readonly #sizes: Queue<number> | null;
  /** The sizes of all chunks together. */
  total = 0;

  constructor(sized: boolean) {
    this.#sizes = sized ? new Queue() : null;
  }

  get length(): number {
    return this.#chunks.length;
  }

  peek(): unknown {
    return this.#chunks.peek();
  }

  push(chunk: unknown): void {
    this.#chunks.push(chunk);
    this.total++;
  }

  /** Throws a RangeError for what is no size. */
  pushSized(chunk: unknown, size: number): void {
    if (!(size >= 0 && size < Infinity)) throw new RangeError(`${size} is no size of a chunk`);
    this.#chunks.push(chunk);
    this.#sizes!.push(size);
    this.total += size;
  }

  shift(): unknown {
    if (this.#sizes === null) {
      this.total--;
    } else {
      const total = this.total - this.#sizes.shift();
      // Rounding may have left less than nothing.
      this.total = total < 0 ? 0 : total;
    }
    return this.#chunks.shift();
  }

  clear(): void {
    this.#chunks.clear();
    this.#sizes?.clear();
    this.total = 0;
  }
}
