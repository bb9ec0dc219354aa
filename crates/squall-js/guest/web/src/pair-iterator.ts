// Iteration over name-value pairs as Web IDL's `iterable<K, V>` asks for it: live, by index,
// with a prototype of its own for each interface.
// https://webidl.spec.whatwg.org/#js-iterable

/** A flat list: name, value, name, value. */
export type PairList = readonly unknown[];

const KEYS = 0;
const VALUES = 1;
const ENTRIES = 2;

interface PairIterator {
  next(): IteratorResult<unknown>;
}

/**
 * Puts entries, keys, values, forEach and @@iterator on a prototype. `listOf` checks the brand of
 * `this` and returns the current list; it is asked again at every step.
 */
export function definePairIteration(
  constructor: { readonly prototype: object; readonly name: string },
  listOf: (target: object) => PairList,
): void {
  const kinds = new WeakMap<object, { target: object; kind: number; index: number }>();
  const iteratorPrototype = Object.create(
    Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())),
  ) as PairIterator;

  Object.defineProperty(iteratorPrototype, "next", {
    value: function next(this: object): IteratorResult<unknown> {
      const state = kinds.get(this);
      if (state === undefined) throw new TypeError(`not a ${constructor.name} Iterator`);
      const list = listOf(state.target);
      const index = state.index;
      if (index >= list.length) return { value: undefined, done: true };
      state.index = index + 2;
      if (state.kind === KEYS) return { value: list[index], done: false };
      if (state.kind === VALUES) return { value: list[index + 1], done: false };
      return { value: [list[index], list[index + 1]], done: false };
    },
    writable: true,
    enumerable: true,
    configurable: true,
  });
  Object.defineProperty(iteratorPrototype, Symbol.toStringTag, {
    value: `${constructor.name} Iterator`,
    configurable: true,
  });

  const start = (target: object, kind: number): PairIterator => {
    listOf(target);
    const iterator = Object.create(iteratorPrototype) as PairIterator;
    kinds.set(iterator, { target, kind, index: 0 });
    return iterator;
  };
  // Object literal methods are no constructors, which is what Web IDL operations are like.
  const members = {
    entries(this: object) {
      return start(this, ENTRIES);
    },
    keys(this: object) {
      return start(this, KEYS);
    },
    values(this: object) {
      return start(this, VALUES);
    },
    forEach(this: object, callback: unknown, thisArgument?: unknown) {
      listOf(this);
      if (typeof callback !== "function") throw new TypeError("forEach needs a function");
      for (let index = 0; ; index += 2) {
        const list = listOf(this);
        if (index >= list.length) return;
        callback.call(thisArgument, list[index + 1], list[index], this);
      }
    },
  };
  Object.defineProperty(members.forEach, "length", { value: 1, configurable: true });
  for (const name of ["entries", "keys", "values", "forEach"] as const) {
    Object.defineProperty(constructor.prototype, name, {
      value: members[name],
      writable: true,
      enumerable: true,
      configurable: true,
    });
  }
  Object.defineProperty(constructor.prototype, Symbol.iterator, {
    value: members.entries,
    writable: true,
    enumerable: false,
    configurable: true,
  });
}
