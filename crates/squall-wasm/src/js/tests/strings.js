// Concatenations in all their forms, of which each has a way of its own by length and by width of its
// parts, against the same units one by one. A path names a seed; it answers with the first difference.

export default {
  async fetch(request) {
    const random = randomNumbers(Number(new URL(request.url).pathname.slice(1)));
    for (let round = 0; round < 1_500; round++) {
      const parts = Array.from({ length: random(20) }, () => randomPart(random));
      const difference = differenceOf(parts, randomText(random));
      if (difference) return new Response(`${difference} of ${JSON.stringify(parts.map(String)).slice(0, 500)}`);
    }
    return new Response(errors() ?? "same");
  },
};

function differenceOf(parts, separator) {
  const texts = parts.map(String);
  const expected = unitsOf(texts);
  const [a = "", b = "", c = ""] = parts;
  const ways = {
    concat: ["".concat(...parts), expected],
    spread: [String.prototype.concat.apply(texts[0] ?? "", parts.slice(1)), expected],
    operator: [parts.reduce((text, part) => text + part, ""), expected],
    front: [parts.reduceRight((text, part) => part + text, ""), expected],
    template: [`<${a}>${b}${c}!`, unitsOf(["<", `${a}`, ">", `${b}`, `${c}`, "!"])],
    join: [parts.join(separator), unitsOf(texts.flatMap((text, at) => (at ? [separator, text] : [text]))
      .map((text, at) => (at % 2 === 0 && parts[at / 2] == null ? "" : text)))],
  };
  for (const [way, [found, units]] of Object.entries(ways)) {
    if (found.length !== units.length) return `${way}: ${found.length} units instead of ${units.length}`;
    const at = units.findIndex((unit, at) => found.charCodeAt(at) !== unit);
    if (at >= 0) return `${way}: another unit at ${at}`;
    if (found !== String.fromCharCode(...units) || ({ [found]: 1 })[found] !== 1) return `${way}: not equal`;
  }
}

function errors() {
  const calls = [];
  const object = { toString: () => { calls.push("toString"); return "o"; } };
  if (`${1}${object}${2}` !== "1o2" || "".concat(object, 1, object) !== "o1o") return "an object is not converted";
  if (calls.length !== 3) return `converted ${calls.length} times`;
  for (const work of [() => `${Symbol("x")}`, () => "".concat(1, Symbol("x"), object)]) {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof TypeError)) return `${error}`;
    }
  }
  if (calls.length !== 3) return "something was converted behind an error";
}

function unitsOf(texts) {
  return texts.flatMap((text) => Array.from({ length: text.length }, (_, at) => text.charCodeAt(at)));
}

function randomPart(random) {
  const pick = (list) => list[random(list.length)];
  switch (random(8)) {
    case 0:
      return random(100000) - 50000;
    case 1:
      return pick([0.5, -0, 1e21, 1.25e-7, NaN, Infinity, 123456.789, -3.75]);
    case 2:
      return pick([true, false, null, undefined, 12345678901234567890n]);
    case 3:
      return `${randomText(random)}${randomText(random)}`.repeat(random(40));
    case 4:
      return { toString: () => "object" };
    default:
      return randomText(random);
  }
}

function randomText(random) {
  return ["", "a", "some text", "\u00e9", "\u4e2d\u6587", "\ud83d", "longer than one block of sixteen", "x".repeat(130)][random(8)];
}

function randomNumbers(seed) {
  let state = seed + 1;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
}
