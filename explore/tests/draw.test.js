/** Figures and formulas as text. */

import assert from "node:assert/strict";
import test from "node:test";

import { scale, shown, svg, ticks } from "../src/draw.js";
import { math, number } from "../src/formula.js";

test("numbers for readers", () => {
  assert.deepEqual([0.25, -3, 1e-5, Infinity, NaN].map(shown), ["0.25", "−3", "1·10⁻⁵", "∞", "—"]);
});

test("ticks lie inside their axis", () => {
  for (const axis of [
    { label: "", low: -0.3, high: 7 },
    { label: "", low: 1e-5, high: 30, log: true },
  ]) {
    const found = ticks(axis, 300);
    assert.ok(found.length >= 2 && found.length <= 10);
    assert.ok(found.every((value) => value >= axis.low * (1 - 1e-9) - 1e-9 && value <= axis.high * (1 + 1e-9)));
  }
});

test("a place on an axis goes back to its value", () => {
  const at = scale({ label: "", low: 1e-3, high: 10, log: true }, 0, 100);
  assert.ok(Math.abs(at.back(at(0.2)) - 0.2) < 1e-12);
});

test("a figure is well-formed, and what is missing breaks its line", () => {
  const layers = [
    { kind: /** @type {const} */ ("line"), x: [0, 1, 2, 3], y: [1, NaN, 2, 3], ink: "--c1", name: "a < b" },
  ];
  const text = svg(
    { title: "T", text: "t", x: { label: "x", low: 0, high: 3 }, y: { label: "y", low: 0, high: 3 }, layers },
    300,
    200,
    "f",
  );
  assert.match(text, /a &lt; b/);
  assert.equal((text.match(/d="M[^"]*M/g) ?? []).length > 0, true);
  for (const tag of ["svg", "g", "text"]) {
    assert.equal(
      (text.match(new RegExp(`<${tag}[ >]`, "g")) ?? []).length,
      (text.match(new RegExp(`</${tag}>`, "g")) ?? []).length,
    );
  }
});

test("formulas nest fractions, roots and scripts", () => {
  const text = math(`T_c = \\frac{2s^*}{\\sqrt{σ^2}} = ${number(1.5e-6)}`);
  assert.match(text, /<mfrac><mrow><mn>2<\/mn><msup><mi>s<\/mi><mo>∗<\/mo><\/msup><\/mrow><msqrt>/);
  assert.match(text, /<msup><mn>10<\/mn><mrow><mo>−<\/mo><mn>6<\/mn><\/mrow><\/msup>/);
});
