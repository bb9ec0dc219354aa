// JSON.parse and JSON.stringify have a way of their own for plain data. With a function as their
// second argument they go upstream's, which is the measure here. A path names a check; it answers
// with the first difference.

const parsedUpstream = (text) => JSON.parse(text, (_, value) => value);
const writtenUpstream = (value) => JSON.stringify(value, (_, member) => member);

export default {
  async fetch(request) {
    const [, check, seed] = new URL(request.url).pathname.split("/");
    const random = randomNumbers(Number(seed));
    return new Response(CHECKS[check](random) ?? "same");
  },
};

const CHECKS = {
  // Texts of which most are wrong, and how.
  texts(random) {
    for (let round = 0; round < 20_000; round++) {
      const text = Array.from({ length: 1 + random(12) }, () => PIECES[random(PIECES.length)]).join("");
      const difference = differenceOf(() => JSON.parse(text), () => parsedUpstream(text));
      if (difference) return `${text}: ${difference}`;
    }
  },

  // Values, and texts that are nearly theirs.
  values(random) {
    for (let round = 0; round < 5_000; round++) {
      const value = randomValue(random, 0);
      const difference = differenceOf(() => JSON.stringify(value), () => writtenUpstream(value));
      if (difference) return difference;
      const written = outcomeOf(() => JSON.stringify(value));
      if (typeof written !== "string") continue;
      const texts = [written, written.replaceAll(",", " ,\n"), written.slice(0, -1), `${written}\u4e2d`];
      for (const text of texts) {
        const difference = differenceOf(() => JSON.parse(text), () => parsedUpstream(text));
        if (difference) return `${text}: ${difference}`;
      }
    }
  },

  // All code units, alone, inside of a block, as either half of a pair; as values and as keys.
  units() {
    for (let unit = 0; unit < 0x10000; unit++) {
      const one = String.fromCharCode(unit);
      for (const text of [one, `ab${one}${"cd".repeat(20)}`, `${one}\udc00`, `\ud800${one}`]) {
        const quoted = quotedByTheStandard(text);
        if (JSON.stringify(text) !== quoted) return `written: ${unit.toString(16)}`;
        if (JSON.parse(quoted) !== text) return `read: ${unit.toString(16)}`;
        const record = `{${quoted}:${quoted}}`;
        if (JSON.stringify({ [text]: text }) !== record) return `key written: ${unit.toString(16)}`;
        const [, again] = JSON.parse(`[${record},${record}]`);
        if (again[text] !== text) return `key read: ${unit.toString(16)}`;
      }
    }
  },

  // Records that are alike, nearly alike and nested share their shapes only while they are equal.
  shapes() {
    const records = Array.from({ length: 300 }, (_, at) => {
      const record = {};
      for (let key = 0; key < at % 7; key++) {
        const name = `k${(at * 7 + key * ((at % 3) + 1)) % 9}`;
        record[name] = { number: key, inner: at % 5 ? { at } : [at] };
      }
      return record;
    });
    const text = JSON.stringify(records);
    const difference = differenceOf(() => JSON.parse(text), () => parsedUpstream(text));
    if (difference) return difference;
    const [one, other] = JSON.parse('[{"a":1,"b":2},{"a":1,"b":2}]');
    one.c = 3;
    delete one.a;
    if (JSON.stringify([one, other]) !== '[{"b":2,"c":3},{"a":1,"b":2}]') return "a shape is shared";
  },

  // What runs code of the program while it is written.
  sideEffects() {
    const calls = [];
    const watched = {
      plain: { a: 1 },
      get loud() { return calls.push("get"); },
      date: { toJSON(key) { return calls.push(`toJSON ${key}`); } },
      late: { b: 2 },
    };
    const text = JSON.stringify({ before: [{ a: 1 }], watched });
    const expected = '{"before":[{"a":1}],"watched":{"plain":{"a":1},"loud":1,"date":2,"late":{"b":2}}}';
    if (text !== expected) return text;
    if (calls.join() !== "get,toJSON date") return calls.join();
    let conversions = 0;
    const source = { toString() { conversions++; return "{"; } };
    if (!(outcomeOf(() => JSON.parse(source)) instanceof SyntaxError)) return "no syntax error";
    if (conversions !== 1) return `converted ${conversions} times`;
    Object.prototype.toJSON = () => "inherited";
    const inherited = JSON.stringify([{}]);
    delete Object.prototype.toJSON;
    if (inherited !== '"inherited"') return inherited;
  },
};

const PIECES = [
  "{", "}", "[", "]", ",", ":", '"a"', '"b"', '"a\\u0041"', '"\u00e9"', '"\u4e2d"', '"\\ud800"',
  "1", "-0", "0", "-", "1.5", "1e5", "1E-7", "01", ".5", "5.", "12345678901234567890",
  "0.1234567890123456", "1e400", "-1e-400", "2147483647", "2147483648", "-2147483648",
  "9007199254740993", "1e99999", "1e999999", "true", "false", "null", "nul", " ", "\n", "\t", "\r",
  '"', "\\", '"\\n"', '"\\x"', '"\u0001"', '"__proto__"', '"0"', '"toJSON"', '{"a":1,"b":2}',
  '{"b":2,"a":1}', '{"a":1}', '{"a":1,"a":2}', '{"a":1,"b":2,"c":3}', '[{"a":1},{"a":2},{"a":{"a":3}}]',
  `"${"y".repeat(40)}"`, `"${"y".repeat(40)}\\t"`, "\ud800", '"\ud800"', '"a"b"', "\u00a0", "\v",
];

function randomNumbers(seed) {
  let state = seed + 1;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
}

const KEYS = ["a", "b", "c", "key one", "\u00e9", "\u4e2d", "3", "1", 'x"y', "__proto__", "toJSON", "b\\", ""];
const NUMBERS = [NaN, Infinity, -Infinity, -0, 0, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 2 ** 53,
  123456789012345680, 1e15, 999999999999999, 0.001, 0.00099999];

function randomValue(random, depth) {
  const pick = (list) => list[random(list.length)];
  switch (random(depth > 4 ? 9 : 14)) {
    case 0:
      return random(1000) - 500;
    case 1:
      return (random(100000) - 50000) / pick([1, 10, 100, 1000, 1e6, 1e12, 3]);
    case 2:
      return pick(NUMBERS);
    case 3:
      return pick([true, false, null, undefined, Symbol("x")]);
    case 4:
    case 5:
      return String.fromCharCode(...Array.from({ length: random(40) }, () =>
        pick([random(128), 97 + random(26), 97 + random(26), random(256), random(65536), 0xd800 + random(2048), 34, 92])));
    case 6:
      return "plain text without anything ".repeat(random(5));
    case 7:
      return `a${random(10)}` + `b${random(10)}`.repeat(random(300));
    case 8:
      return () => 1;
    case 9:
    case 10: {
      const array = Array.from({ length: random(6) }, () => randomValue(random, depth + 1));
      if (random(20) === 0) array.length += 2;
      if (random(30) === 0) array.extra = 1;
      return array;
    }
    default: {
      const prototype = pick([null, { toJSON: () => 7 }, ...Array(30).fill(Object.prototype)]);
      const object = Object.create(prototype);
      for (let left = random(6); left > 0; left--) object[pick(KEYS)] = randomValue(random, depth + 1);
      const extras = [
        () => Object.defineProperty(object, "getter", { get: () => 5, enumerable: true }),
        () => Object.defineProperty(object, "hidden", { value: 5, enumerable: false }),
        () => (object.date = new Date(0)),
        () => (object.string = new String("x")),
        () => (object.map = new Map()),
        () => (object.circle = object),
        () => (object.proxy = new Proxy({ a: 1 }, {})),
        () => (object[Symbol.iterator] = 1),
        () => delete object.a,
      ];
      if (random(4) === 0) pick(extras)();
      return object;
    }
  }
}

function quotedByTheStandard(text) {
  const short = { 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\" };
  let quoted = "";
  for (const character of text) {
    const point = character.codePointAt(0);
    const escaped = point < 0x20 || (point >= 0xd800 && point < 0xe000);
    quoted += short[point] ?? (escaped ? `\\u${point.toString(16).padStart(4, "0")}` : character);
  }
  return `"${quoted}"`;
}

function outcomeOf(work) {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

function differenceOf(work, upstream) {
  const [found, expected] = [outcomeOf(work), outcomeOf(upstream)];
  if (expected instanceof Error) {
    const same = found instanceof Error && found.name === expected.name && found.message === expected.message;
    return same ? undefined : `${found} instead of ${expected}`;
  }
  return equal(found, expected) ? undefined : `${String(found)} instead of ${String(expected)}`;
}

function equal(one, other) {
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return Object.is(one, other);
  if (Object.getPrototypeOf(one) !== Object.getPrototypeOf(other)) return false;
  const keys = Reflect.ownKeys(one);
  const others = Reflect.ownKeys(other);
  return keys.length === others.length && keys.every((key, at) => {
    if (key !== others[at]) return false;
    const [mine, theirs] = [one, other].map((object) => Object.getOwnPropertyDescriptor(object, key));
    const flags = ["writable", "enumerable", "configurable"];
    return flags.every((flag) => mine[flag] === theirs[flag]) && equal(mine.value, theirs.value);
  });
}
