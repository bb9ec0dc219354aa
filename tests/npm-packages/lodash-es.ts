import { deepEqual, equal } from "node:assert/strict";
import _, { camelCase, chunk, cloneDeep, debounce, groupBy, isEqual, memoize, merge, orderBy, random, set } from "lodash-es";
import { program } from "./program";

const people = [
  { name: "ada", age: 36, tags: ["math"] },
  { name: "grace", age: 85, tags: ["navy", "math"] },
  { name: "alan", age: 41, tags: [] },
];
const byAge = orderBy(people, ["age"], ["desc"]);

export default program(
  async () => {
    deepEqual(byAge.map((one) => one.name), ["grace", "alan", "ada"]);
    deepEqual(Object.keys(groupBy(people, (one) => one.name[0])), ["a", "g"]);
    deepEqual(chunk([1, 2, 3, 4, 5], 2), [[1, 2], [3, 4], [5]]);
    deepEqual(merge({ a: { b: 1 } }, { a: { c: [2] } }), { a: { b: 1, c: [2] } });
    const copy = cloneDeep({ people, when: new Date(0), map: new Map([["a", /x/g]]) });
    equal(isEqual(copy, { people, when: new Date(0), map: new Map([["a", /x/g]]) }), true);
    equal(copy.people === people, false);
    deepEqual(set({}, "a[0].b", 1), { a: [{ b: 1 }] });
    equal(camelCase("wind and-rain"), "windAndRain");
    equal(_(people).flatMap("tags").countBy().get("math"), 2);
    equal(_.chain([3, 1, 2]).sortBy().map((n) => n * n).sum().value(), 14);

    let calls = 0;
    const slow = memoize((n: number) => (calls++, n * 2));
    deepEqual([slow(2), slow(2), calls], [4, 4, 1]);
    const later = debounce(() => calls++, 5);
    later();
    later();
    await new Promise((done) => setTimeout(done, 50));
    equal(calls, 2);
  },
  () => [random(0, 1, true), _.shuffle(_.range(100)).join()],
);
