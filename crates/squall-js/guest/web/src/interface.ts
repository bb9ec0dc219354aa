// Gives our classes the look that Web IDL asks for. Runs once, before the snapshot.
// https://webidl.spec.whatwg.org/#interface-prototype-object

interface Constructor {
  readonly name: string;
  readonly prototype: object;
}

/** The prototypes of all interfaces: their objects are no plain objects to structuredClone. */
export const interfacePrototypes = new Set<object>();

/** Makes the members enumerable and names the interface to Object.prototype.toString. */
export function finishInterface(constructor: Constructor): void {
  interfacePrototypes.add(constructor.prototype);
  restoreName(constructor);
  makeEnumerable(constructor.prototype, "constructor");
  makeEnumerable(constructor, "prototype", "length", "name");
  Object.defineProperty(constructor.prototype, Symbol.toStringTag, {
    value: constructor.name,
    configurable: true,
  });
}

/** The bundler gives a class that refers to itself a name with an underscore before it. */
export function restoreName(constructor: Constructor): void {
  const name = constructor.name.replace(/^_/, "");
  Object.defineProperty(constructor, "name", { value: name, configurable: true });
}

/** Web IDL counts required arguments only; class methods count up to the first default. */
export function setLength(target: object, method: string, length: number): void {
  const value = (target as Record<string, unknown>)[method];
  Object.defineProperty(value, "length", { value: length, configurable: true });
}

/** Constants stand on the interface object and on its prototype, and can not be changed. */
export function defineConstants(constructor: Constructor, constants: Record<string, number>): void {
  for (const name of Object.keys(constants)) {
    const attributes = { value: constants[name], enumerable: true };
    Object.defineProperty(constructor, name, attributes);
    Object.defineProperty(constructor.prototype, name, attributes);
  }
}

/** Puts an interface object into the global scope. */
export function defineGlobal(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}

/** Puts a function or an attribute into the global scope; unlike interfaces they are enumerable. */
export function defineGlobalMember(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: true });
}

function makeEnumerable(target: object, ...except: string[]): void {
  for (const key of Object.getOwnPropertyNames(target)) {
    if (!except.includes(key)) Object.defineProperty(target, key, { enumerable: true });
  }
}
