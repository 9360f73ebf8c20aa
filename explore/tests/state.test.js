/** Addresses and sliders: round trips, and kindness to what is wrong. */

import assert from "node:assert/strict";
import test from "node:test";

import { fromQuery, fromSlider, listOf, read, toQuery, toSlider } from "../src/state.js";
import { VIEWS } from "../src/views.js";

test("every preset of every view survives the address", () => {
  for (const view of VIEWS) {
    for (const { name, values } of view.presets) {
      const { state, wrong } = fromQuery(view.fields, new URLSearchParams(toQuery(view.key, values)));
      assert.deepEqual(wrong, [], `${view.key}: ${name}`);
      const again = fromQuery(view.fields, new URLSearchParams(toQuery(view.key, state)));
      assert.deepEqual(again.state, state);
    }
  }
});

test("a number out of bounds is held, text is answered by the default", () => {
  const [field] = VIEWS[1].fields;
  assert.equal(read(field, "99").value, field.high);
  assert.match(read(field, "99").wrong ?? "", /must be from/);
  assert.equal(read(field, "two").value, field.value);
  assert.equal(read(field, "3").wrong, undefined);
});

test("a logarithmic slider finds its way back to three digits", () => {
  const field = VIEWS[1].fields.find((one) => one.kind === "log" && !one.zero);
  assert.ok(field);
  for (const value of [field.low, 0.01, 0.5, field.high]) {
    const again = fromSlider(field, toSlider(field, value));
    assert.ok(Math.abs(again / value - 1) < 5e-3, `${value} came back as ${again}`);
  }
});

test("0 stands below the lowest value of a slider that has it", () => {
  const field = VIEWS[1].fields.find((one) => one.zero);
  assert.ok(field);
  assert.equal(fromSlider(field, 0), 0);
  assert.equal(toSlider(field, 0), 0);
  assert.equal(fromSlider(field, toSlider(field, field.low)), 0);
  assert.deepEqual(read(field, "0"), { value: 0 });
  assert.match(read({ ...field, zero: false }, "0").wrong ?? "", /must be from/);
});

test("lists take commas and blanks", () => assert.deepEqual(listOf("4, 2 1"), [4, 2, 1]));
