/** Experiments of whole networks: the steps at which they are saved, trajectories that diverge. */

import assert from "node:assert/strict";
import test from "node:test";

import { earlySteps, means, savedSteps, survivors } from "../src/networks.js";

test("early saves begin with every step, draw apart, and end with the last", () => {
  for (const steps of [240, 480, 24000]) {
    const at = earlySteps(steps, 240);
    const apart = at.slice(1).map((step, k) => step - at[k]);
    assert.equal(at.length, 241);
    assert.deepEqual([at[0], at[1], at[2], at[240]], [0, 1, 2, steps]);
    assert.ok(apart.every((gap) => Number.isInteger(gap) && gap >= 1));
    assert.ok(apart[239] >= apart[120] && apart[120] >= apart[0]);
    assert.deepEqual(savedSteps({ steps, saves: 240, at }), at);
  }
  assert.deepEqual(savedSteps({ steps: 8, saves: 2 }), [0, 4, 8]);
});

test("a trajectory that diverges is left out from the start", () => {
  const at = (/** @type {number[]} */ x, /** @type {number[]} */ pair) => [
    { x: Float64Array.from(x), pair: Float64Array.from(pair) },
  ];
  const values = [at([1, 5], [1, 2, 30, 40]), at([2, 1e9], [3, 4, 1e30, 1e30]), at([3, NaN], [5, 6, NaN, NaN])];
  const runs = { saves: 3, values, done: true };
  const kept = survivors(runs, "x", 1);
  assert.deepEqual([...means(kept, 0, "x", 0, 1)], [1, 2, 3]);
  assert.deepEqual([...means(kept, 0, "pair", 1, 2)], [2, 4, 6]);
  const earlier = { ...runs, saves: 2 };
  assert.equal(survivors(earlier, "x", 1), earlier);
});
