/** Closed forms against each other: what holds whatever the library says. */

import assert from "node:assert/strict";
import test from "node:test";

import { cdfOf, density, distance } from "../src/stationary.js";
import {
  boltzmannVariance,
  criticalTemperature,
  flowLine,
  gaussianMode,
  noisePeak,
  varianceRate,
} from "../src/theory.js";

/** @param {number} a @param {number} b @param {number} by */
const near = (a, b, by) => assert.ok(Math.abs(a - b) <= by * Math.max(Math.abs(b), 1e-300), `${a} is not ${b}`);

/** Gradient flow ds = L s^{2κ}(s* − s) dt by many steps of Heun's method. @param {number} start @param {number} target @param {number} depth @param {number} until */
function stepped(start, target, depth, until) {
  const rate = (/** @type {number} */ s) => depth * s ** (2 - 2 / depth) * (target - s);
  const dt = until / 40000;
  let s = start;
  for (let k = 0; k < 40000; k++) {
    const ahead = s + dt * rate(s);
    s += (dt * (rate(s) + rate(ahead))) / 2;
  }
  return s;
}

test("the line of gradient flow solves its equation, from below and from above, at every depth", () => {
  for (let depth = 1; depth <= 8; depth++)
    for (const start of [0.02, 0.5, 1.3, 3]) {
      const target = 1.3;
      const { x, y } = flowLine(start, target, depth, 1.5);
      assert.equal(x[x.length - 1], 1.5);
      near(y[y.length - 1], stepped(start, target, depth, 1.5), 1e-6);
      const middle = x.length >> 1;
      near(y[middle], stepped(start, target, depth, x[middle]), 1e-6);
    }
});

test("gradient flow that has arrived stays there", () => {
  for (let depth = 1; depth <= 8; depth++)
    for (const [start, until] of [
      [1e-3, 1e4],
      [0.01, 200],
      [2.5, 200],
      [3, 1e4],
    ]) {
      const { x, y } = flowLine(start, 2, depth, until);
      near(y[y.length - 1], 2, 1e-9);
      assert.ok(
        x.every((time, i) => i === 0 || time > x[i - 1]),
        `depth ${depth} from ${start}`,
      );
    }
});

test("the noise has a maximum at its peak", () => {
  const mode = gaussianMode(3, 1.5, 0.3, 0.1);
  const peak = noisePeak(mode) ?? NaN;
  for (const s of [0.999 * peak, 1.001 * peak]) assert.ok(varianceRate(mode, s) < varianceRate(mode, peak));
});

test("the moment identity of the stationary law: s* − E[s] = ½(L−1) T E[s^(1−2/L) g]", () => {
  for (const [L, T] of [
    [2, 0.3],
    [3, 0.3],
    [5, 0.05],
  ]) {
    const mode = gaussianMode(L, 1.5, 0.5, T);
    const law = density(mode);
    let sum = 0;
    for (let i = 1; i + 1 < law.s.length; i++) {
      const g = mode.alpha * (law.s[i] - 1.5) ** 2 + mode.floor;
      sum += (law.s[i] ** (1 - 2 / L) * g * law.p[i] * (law.s[i + 1] - law.s[i - 1])) / 2;
    }
    near(1.5 - law.mean, 0.5 * (L - 1) * T * sum, 2e-3);
  }
});

test("little noise makes the law Boltzmann's, and above T_c all mass is at 0", () => {
  const cold = gaussianMode(2, 1, 0.5, 1e-4);
  near(density(cold).sd, Math.sqrt(boltzmannVariance(cold)), 1e-2);
  const hot = gaussianMode(2, 1, 2, 1);
  assert.ok(hot.temperature > criticalTemperature(hot));
  assert.equal(density(hot).point, 0);
});

test("a sample of quantiles is near its own law and far from another", () => {
  const law = density(gaussianMode(2, 1, 0.5, 0.2));
  const cdf = cdfOf(law);
  const sample = Float64Array.from(
    { length: 999 },
    (_, i) => law.s[law.cdf.findIndex((value) => value >= (i + 1) / 1000)],
  );
  assert.ok(distance(sample, cdf) < 0.02);
  assert.ok(distance(sample, cdfOf(density(gaussianMode(2, 1, 0.5, 0.1)))) > 0.05);
});
