/** What the view of a store makes of its rows. */

import assert from "node:assert/strict";
import test from "node:test";

import { geometric, middle, rowsOf } from "../src/views/run.js";

/** @param {string[]} dims @param {Record<string, (number | string)[]>} coords @param {(number | null)[]} values */
const rows = (dims, coords, values) => rowsOf({ title: "", units: "", dims, coords, values });

test("the line of trajectories is their mean, without those that have no number", () => {
  const found = rows(["trajectory", "time"], { trajectory: [0, 1, 2], time: [0, 1] }, [1, 2, 3, null, 5, 4]);
  assert.deepEqual([...middle(found)], [3, 3]);
});

test("a stored mean is taken as it is", () => {
  const coords = { statistic: ["mean", "q05"], time: [0, 1] };
  assert.deepEqual([...middle(rows(["statistic", "time"], coords, [1, 2, 7, 8]))], [1, 2]);
});

test("an axis of equal ratios is logarithmic, one of equal steps is not", () => {
  assert.ok(geometric([0.001, 0.01, 0.1, 1]));
  assert.ok(geometric([1, 2, 4, 8, 16]));
  assert.ok(!geometric([1, 2, 3, 4, 5]));
  assert.ok(!geometric([0, 1, 2]));
  assert.ok(!geometric([100, 101, 102, 103]));
});
