// DOMException, and how a refusal of the host becomes an exception.
// https://webidl.spec.whatwg.org/#idl-DOMException

import { type HostValue, setExceptionMaker } from "./host.js";
import { defineConstants, finishInterface } from "./interface.js";
import { dictionary, domString, double } from "./webidl.js";

/** Names with a code, in the order of their codes; "" where the name is gone. */
const NAMES_BY_CODE = [
  ...["", "IndexSizeError", "", "HierarchyRequestError", "WrongDocumentError", "InvalidCharacterError", ""],
  ...["NoModificationAllowedError", "NotFoundError", "NotSupportedError", "InUseAttributeError"],
  ...["InvalidStateError", "SyntaxError", "InvalidModificationError", "NamespaceError", "InvalidAccessError", ""],
  ...["TypeMismatchError", "SecurityError", "NetworkError", "AbortError", "URLMismatchError"],
  ...["QuotaExceededError", "TimeoutError", "InvalidNodeTypeError", "DataCloneError"],
];

const captureStackTrace = (Error as { captureStackTrace?: (target: object, above: unknown) => void }).captureStackTrace;

export let isDomException: (value: object) => value is DOMException;

export class DOMException {
  #message: string;
  #name: string;

  static {
    isDomException = (value): value is DOMException => #name in value;
  }

  constructor(message: unknown = "", name: unknown = "Error") {
    this.#message = domString(message);
    // Also the dictionary that newer callers give, for its cause.
    if (typeof name === "object" && name !== null) {
      const options = name as { name?: unknown; cause?: unknown };
      this.#name = options.name === undefined ? "Error" : domString(options.name);
      if ("cause" in options) {
        Object.defineProperty(this, "cause", { value: options.cause, writable: true, configurable: true });
      }
    } else {
      this.#name = domString(name);
    }
    captureStackTrace?.(this, DOMException);
  }

  get name(): string {
    return this.#name;
  }

  get message(): string {
    return this.#message;
  }

  get code(): number {
    const code = NAMES_BY_CODE.indexOf(this.#name);
    return code < 0 ? 0 : code;
  }
}

finishInterface(DOMException);
Object.setPrototypeOf(DOMException.prototype, Error.prototype);
defineConstants(DOMException, {
  ...{ INDEX_SIZE_ERR: 1, DOMSTRING_SIZE_ERR: 2, HIERARCHY_REQUEST_ERR: 3, WRONG_DOCUMENT_ERR: 4 },
  ...{ INVALID_CHARACTER_ERR: 5, NO_DATA_ALLOWED_ERR: 6, NO_MODIFICATION_ALLOWED_ERR: 7, NOT_FOUND_ERR: 8 },
  ...{ NOT_SUPPORTED_ERR: 9, INUSE_ATTRIBUTE_ERR: 10, INVALID_STATE_ERR: 11, SYNTAX_ERR: 12 },
  ...{ INVALID_MODIFICATION_ERR: 13, NAMESPACE_ERR: 14, INVALID_ACCESS_ERR: 15, VALIDATION_ERR: 16 },
  ...{ TYPE_MISMATCH_ERR: 17, SECURITY_ERR: 18, NETWORK_ERR: 19, ABORT_ERR: 20, URL_MISMATCH_ERR: 21 },
  ...{ QUOTA_EXCEEDED_ERR: 22, TIMEOUT_ERR: 23, INVALID_NODE_TYPE_ERR: 24, DATA_CLONE_ERR: 25 },
});

export class QuotaExceededError extends DOMException {
  #quota: number | null;
  #requested: number | null;

  constructor(message: unknown = "", options: unknown = undefined) {
    super(message, "QuotaExceededError");
    const given = dictionary(options, "The options of a QuotaExceededError");
    this.#quota = given?.["quota"] === undefined ? null : notNegative(given["quota"], "quota");
    this.#requested = given?.["requested"] === undefined ? null : notNegative(given["requested"], "requested");
    if (this.#quota !== null && this.#requested !== null && this.#requested < this.#quota) {
      throw new RangeError("requested is not below quota");
    }
  }

  get quota(): number | null {
    return this.#quota;
  }

  get requested(): number | null {
    return this.#requested;
  }
}

finishInterface(QuotaExceededError);

function notNegative(value: unknown, name: string): number {
  const number = double(value, name);
  if (number < 0) throw new RangeError(`${name} is not negative`);
  return number;
}

/** A refusal is [name, message]. */
setExceptionMaker((value: HostValue): unknown => {
  const [name, message] = value as [string, string];
  switch (name) {
    case "Error":
      return new Error(message);
    case "TypeError":
      return new TypeError(message);
    case "RangeError":
      return new RangeError(message);
    case "QuotaExceededError":
      return new QuotaExceededError(message);
    default:
      return new DOMException(message, name);
  }
});
