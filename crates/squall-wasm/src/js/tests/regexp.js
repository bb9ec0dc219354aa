// Plain regular expressions match without objects in between, and seek where they can begin. One
// with an exec of its own goes upstream's way, and one that begins with a look-ahead seeks nothing;
// those are the measure here. A path names a check; it answers with the first difference.

export default {
  async fetch(request) {
    const [, check, seed] = new URL(request.url).pathname.split("/");
    return new Response(CHECKS[check](randomNumbers(Number(seed))) ?? "same");
  },
};

const CHECKS = {
  random(random) {
    for (let round = 0; round < 4_000; round++) {
      const source = randomPattern(random, 0);
      const flags = [..."gimsyd"].filter(() => random(4) === 0).join("") + ["", "", "u", "v"][random(4)];
      const text = Array.from({ length: random(20) }, () => TEXTS[random(TEXTS.length)]).join("");
      const difference = differenceOf(source, flags, text, random(5) ? 0 : random(12));
      if (difference) return `/${source}/${flags} in ${JSON.stringify(text)}: ${difference}`;
    }
  },

  // What a program can change, and then sees.
  changed() {
    const text = "one two";
    const prototype = RegExp.prototype;
    const { exec } = prototype;
    const changes = {
      exec: { value: function (string) { return seen.push("exec") > 3 ? null : exec.call(this, string); } },
      flags: { get() { seen.push("flags"); return "g"; } },
      global: { get() { seen.push("global"); return true; } },
      hasIndices: { get() { seen.push("hasIndices"); return false; } },
    };
    let seen = [];
    for (const [name, change] of Object.entries(changes)) {
      const before = Object.getOwnPropertyDescriptor(prototype, name);
      Object.defineProperty(prototype, name, { ...change, configurable: true });
      seen = [];
      text.replace(/o/g, "0");
      Object.defineProperty(prototype, name, before);
      if (!seen.includes(name)) return `${name} was not asked`;
    }
    const frozen = Object.freeze(/o/g);
    for (const work of [() => text.replace(frozen, ""), () => text.match(frozen), () => frozen.test(text)]) {
      if (!(outcomeOf(work) instanceof TypeError)) return "a frozen expression was moved";
    }
    const counted = /o/y;
    counted.lastIndex = { valueOf: () => seen.push("lastIndex") && 6 };
    if (!counted.test(text) || counted.lastIndex !== 7) return "lastIndex was not converted";
    const compiled = /o/g;
    const changedInside = text.replace(compiled, (match) => (compiled.compile("t"), match.toUpperCase()));
    if (changedInside !== "One twO" || compiled.source !== "t") return changedInside;
    const thrown = outcomeOf(() => text.replace(/o/g, () => { throw new Error("mine"); }));
    if (thrown.message !== "mine") return "the replacer's error is lost";
  },
};

const ATOMS = ["a", "b", "o", "\\.", ".", "[ab]", "[^a]", "[&<>\"]", "\\w", "\\d", "\\s", "\\b", "^", "$", "\u00e9",
  "\u4e2d", "\\u{1f600}", "(?:a|b)", "(?<name>a)", "(?=a)", "(?!b)", "(?<=a)", "x{2}", "[\\u4e00-\\uffff]", "\\1", ""];
const TEXTS = ["a", "b", "o", "ab", "x", "xx", ".", "&", "<", "\n", " ", "1", "\u00e9", "\u4e2d", "\ud83d\ude00", "\ud83d", "A"];

function randomPattern(random, depth) {
  return Array.from({ length: 1 + random(3) }, () => {
    const inner = depth < 2 && random(4) === 0 ? `(${randomPattern(random, depth + 1)})` : ATOMS[random(ATOMS.length)];
    const outer = random(6) === 0 ? `${inner}|b` : inner;
    return outer + ["", "", "", "*", "+", "?", "*?"][random(7)];
  }).join("");
}

function randomNumbers(seed) {
  let state = seed + 1;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
}

/** What a program learns of an expression, and where it leaves lastIndex. */
function behaviourOf(expression, text, lastIndex) {
  const uses = {
    test: () => expression.test(text),
    exec: () => expression.exec(text),
    match: () => text.match(expression),
    search: () => text.search(expression),
    split: () => text.split(expression),
    literal: () => text.replace(expression, "-"),
    pattern: () => text.replace(expression, "[$&$1]"),
    function: () => text.replace(expression, (...all) => JSON.stringify(all)),
    nothing: () => text.replace(expression, ""),
  };
  return JSON.stringify(Object.entries(uses).map(([name, use]) => {
    expression.lastIndex = lastIndex;
    const result = outcomeOf(use);
    return [name, result, result?.index, result?.groups, result?.indices, expression.lastIndex];
  }));
}

function differenceOf(source, flags, text, lastIndex) {
  const plain = outcomeOf(() => new RegExp(source, flags));
  if (plain instanceof Error) return undefined;
  const upstream = Object.assign(new RegExp(source, flags), { exec: RegExp.prototype.exec });
  const found = behaviourOf(plain, text, lastIndex);
  const expected = behaviourOf(upstream, text, lastIndex);
  if (found !== expected) return `${found} instead of ${expected}`;
  const unsought = outcomeOf(() => new RegExp(`(?=)(?:${source})`, flags));
  if (unsought instanceof Error) return undefined;
  const everywhere = behaviourOf(unsought, text, lastIndex);
  return found === everywhere ? undefined : `${found} where trying everything finds ${everywhere}`;
}

function outcomeOf(work) {
  try {
    return work();
  } catch (error) {
    return error;
  }
}
