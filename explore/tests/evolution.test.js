/** The law in time: moments that are known, the stationary law, two methods side by side, and its picture. */

import assert from "node:assert/strict";
import test from "node:test";
import { inflateSync } from "node:zlib";

import { cells } from "../src/cells.js";
import { coordinate } from "../src/coordinate.js";
import { evolution } from "../src/evolution.js";
import { png } from "../src/png.js";
import { shades } from "../src/shade.js";
import { cdfOf, density } from "../src/stationary.js";
import { normalCdf, quantile, scoreOf } from "../src/table.js";
import { gaussianMode } from "../src/theory.js";

/** What a generator returns in the end. @template T @param {Generator<null, T>} steps @returns {T} */
function last(steps) {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** @param {import("../src/engine.js").Mode} mode @param {number} start @param {number[]} times */
function law(mode, start, times) {
  const found = last(evolution(mode, start, times));
  assert.ok(found);
  return found;
}

test("the normal distribution function to rounding", () => {
  for (const [z, value] of [
    [-2, 0.02275013194817921],
    [0, 0.5],
    [1, 0.8413447460685429],
    [3, 0.9986501019683699],
    [-Infinity, 0],
    [9, 1],
  ])
    assert.ok(Math.abs(normalCdf(z) - value) < 1e-14, `${normalCdf(z)} at ${z}`);
});

test("mean and variance at depth 1 follow their equations", () => {
  const [T, noise, start] = [0.05, 0.5, 0.1];
  const times = [0, 0.2, 1, 3];
  const { z, strengths } = law(gaussianMode(1, 1, noise, T), start, times);
  times.slice(1).forEach((t, k) => {
    const row = strengths.subarray((k + 1) * z.length, (k + 2) * z.length);
    let [total, mean, square] = [0, 0, 0];
    for (let i = 1; i < z.length; i++) {
      const [share, middle] = [normalCdf(z[i]) - normalCdf(z[i - 1]), (row[i] + row[i - 1]) / 2];
      total += share;
      mean += share * middle;
      square += share * (middle - 1) ** 2;
    }
    // E(s − 1)² decays at the rate 2 − 2T to Tσ²/(2 − 2T).
    const rest = (T * noise * noise) / (2 - 2 * T);
    const expected = rest + ((1 - start) ** 2 - rest) * Math.exp(-(2 - 2 * T) * t);
    assert.ok(Math.abs(mean / total - 1 + (1 - start) * Math.exp(-t)) < 1e-3, `mean at ${t}`);
    assert.ok(Math.abs(square / total / expected - 1) < 0.01, `second moment at ${t}`);
  });
});

test("it settles into the stationary law, not into that without the Itô term", () => {
  for (const [depth, T, noise] of [
    [1, 0.3, 0.5],
    [2, 0.2, 0.5],
    [3, 0.1, 0.7],
    [4, 0.1, 0.7],
    [2, 1e-3, 0.05],
  ]) {
    const mode = gaussianMode(depth, 1, noise, T);
    const found = law(mode, 0.3, [0, 1, 5, 400]);
    const off = [true, false].map((ito) => {
      const cdf = cdfOf(density({ ...mode, ito }));
      return Math.max(...[-1.5, -0.5, 0, 1, 2].map((z) => Math.abs(cdf(quantile(found, 3, z)) - normalCdf(z))));
    });
    assert.ok(off[0] < 2e-3, `depth ${depth}: ${off[0]}`);
    if (depth > 1 && T > 0.01) assert.ok(off[1] > 0.02, `depth ${depth} without the Itô term: ${off[1]}`);
  }
});

test("cells and quantiles agree", () => {
  const mode = gaussianMode(3, 1, 0.7, 0.1);
  const times = [0, 0.5, 1, 2];
  const found = law(mode, 0.2, times);
  const map = coordinate(mode);
  const below = (/** @type {number} */ x) => normalCdf(scoreOf(found, 1, map.s(x)));
  const passed = last(cells(mode, map, [0.01, 4], times.slice(1), 800, below));
  assert.ok(passed);
  passed.edges.forEach((x, j) => {
    const off = passed.passed[2 * passed.edges.length + j] - normalCdf(scoreOf(found, 3, map.s(x)));
    assert.ok(Math.abs(off) < 2e-3, `${off} at ${map.s(x)}`);
  });
});

test("above the critical temperature mass comes near 0, and strong noise is left to cells", () => {
  const times = [...Array(41).keys()].map((k) => k / 10);
  const found = law(gaussianMode(2, 3.2, 0.95, 0.6), 0.2, times);
  assert.ok(quantile(found, 40, 0) < 1e-6 * quantile(found, 3, 0) && quantile(found, 40, 0) > 0);
  for (let i = found.z.length + 1; i < found.strengths.length; i++)
    assert.ok(i % found.z.length === 0 || found.strengths[i] >= found.strengths[i - 1]);
});

test("what cannot be resolved is not shown", () => {
  const times = [...Array(121).keys()].map((k) => 1.25 * k);
  assert.equal(last(evolution(gaussianMode(5, 3.28, 0.22, 0.0623), 1.31e-5, times)), null);
});

test("every time has its fullest row, where the law is", () => {
  const z = Float64Array.of(-1, 0, 1);
  const { grey, columns, rows } = shades(
    { z, strengths: Float64Array.of(0.2, 0.25, 0.3, 0.6, 0.75, 0.9), error: 0 },
    0,
    1,
    2,
  );
  assert.deepEqual([columns, rows], [2, 2]);
  assert.deepEqual([...grey], [0, 255, 255, 0]);
});

test("a picture holds its shades, row by row", () => {
  const file = Buffer.from(png(Uint8Array.of(0, 1, 128, 255, 7, 9), 3, 2).split(",")[1], "base64");
  assert.deepEqual([file.readUInt32BE(16), file.readUInt32BE(20)], [3, 2]);
  const size = file.readUInt32BE(33);
  assert.equal(file.subarray(37, 41).toString(), "IDAT");
  assert.deepEqual([...inflateSync(file.subarray(41, 41 + size))], [0, 0, 1, 128, 0, 255, 7, 9]);
});
