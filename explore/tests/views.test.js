/** What views draw and say at the edges of their settings. */

import assert from "node:assert/strict";
import test from "node:test";

import { histogram } from "../src/modes.js";
import { fromQuery } from "../src/state.js";
import { VIEWS } from "../src/views.js";

/** What a view draws at an address, by default before any part of an answer. @param {string} address @param {unknown} known */
function drawn(address, known = null) {
  const query = new URLSearchParams(address);
  const view = VIEWS.find(({ key }) => key === query.get("view"));
  assert.ok(view);
  const { state, wrong } = fromQuery(view.fields, query);
  assert.deepEqual(wrong, []);
  return view.draw(state, known);
}

test("every figure has finite axes before the first part of an answer, also where the variance is infinite", () => {
  for (const address of [...VIEWS.map(({ key }) => `view=${key}`), "view=mode&L=1&T=1.3", "view=mode&sigma=0"])
    for (const { title, x, y } of drawn(address).figures)
      for (const { low, high } of [x, y])
        assert.ok(Number.isFinite(low) && Number.isFinite(high) && low < high, `${address}, ${title}: ${low}, ${high}`);
});

test("a histogram of no values is empty, and the highest value below the end counts", () => {
  assert.deepEqual([...histogram([], 0, 1, 3).y], [0, 0, 0]);
  for (let k = 1; k < 200; k++) {
    const high = 0.1 * k;
    const last = high * (1 - 2 ** -53); // below high, or high itself
    const { y, edges } = histogram([last < high ? last : high * (1 - 2 ** -52)], 0.01, high, 49, true);
    assert.ok(Math.abs(y[48] * (edges[49] - edges[48]) - 1) < 1e-9, `${last} of ${high}`);
  }
});

test("one layer has no noise peak at any σ, and is not told to lower it", () =>
  assert.doesNotMatch(drawn("view=mode&L=1&T=0.1&sigma=0.5").look, /Lower σ/));

test("without label noise and above T_c paths end at 0 or at s*", () => {
  const { look, figures } = drawn("view=mode&L=2&s=2&sigma=0&T=1.5");
  assert.doesNotMatch(look, /point mass/);
  assert.ok(figures.some(({ text }) => text === "all mass ends at 0 or s*"));
});

test("paths that differ from their law by chance are not said to remember their start", () => {
  const at = (/** @type {number} */ s) => ({
    strengths: new Float64Array(1024 * 121).fill(s),
    count: 1024,
    done: true,
  });
  const told = (/** @type {string} */ address, /** @type {number} */ s) =>
    drawn(address, { ...at(s), saves: 121 }).notes.some((note) => note.includes("forgotten their start"));
  assert.ok(told("view=mode", 0.5));
  assert.ok(!told("view=mode&L=1&T=0.1&sigma=20", 1.2)); // a standard deviation of 4.7 over 1024 paths
  assert.ok(!told("view=mode&L=1&T=1.3", 3));
});

test("no half-times are written where theory has none", () =>
  assert.ok(drawn("view=saddle&start=gaussian").formulas.every((tex) => !/undefined|t_/.test(tex))));

test("collapse above T_c is claimed where discrete SGD collapses, not where its steps are too large", () => {
  assert.match(drawn("view=saddle&s=1&sigma=10&lr=0.03").look, /fall to 0/);
  assert.match(drawn("view=saddle&s=4&sigma=0.5&lr=0.249").look, /does not collapse/);
});

test("a weak mode above its own T_c is not promised the stairs of GD", () => {
  assert.match(drawn("view=saddle&s=6,0.1&sigma=8&lr=0.01").look, /above T_c = 0\.003124 of the mode s\* = 0\.1/);
  assert.match(drawn("view=saddle&s=6,0.1&sigma=8&lr=0.003").look, /same stairs/);
});

test("a time that is cut short is announced", () => {
  for (const address of ["view=saddle&lr=1e-4", "view=balance&lr=1e-3&time=400", "view=rank&lr=1e-3&time=4000"])
    assert.ok(
      drawn(address).notes.some((note) => note.startsWith("Time ends at")),
      address,
    );
  for (const { key, presets } of VIEWS)
    for (const { values } of presets) {
      const address = new URLSearchParams({ view: key });
      for (const [name, value] of Object.entries(values)) address.set(name, String(value));
      assert.ok(!drawn(address.toString()).notes.some((note) => note.startsWith("Time ends at")));
    }
});
