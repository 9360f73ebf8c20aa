/**
 * The stationary law of one mode by quadrature: p(s) ∝ s^{−kκ} g⁻¹ exp(−(2/(TL)) ∫ (β₁s − β₂)/(s^{2κ}g) ds).
 *
 * k = 3 is the law of the Itô equation; k = 4 that of the equation without its Itô term. In w = log s the nodes are
 * w = w* + A sinh(u) with equal steps of u, as dense near s* as the law is narrow and reaching as far as its power-law
 * tails do: there the trapezoidal rule converges faster than any power of the step.
 */

import { criticalTemperature, gradientVariance } from "./theory.js";

/** @typedef {import("./engine.js").Mode & {ito?: boolean}} LawOf */
/** @typedef {{s: Float64Array, p: Float64Array, cdf: Float64Array, mean: number, sd: number, point: number | null}} Law */

const STEP = 0.02;
const DROP = 45;
const GAUSS = [
  [0.0694318442029737, 0.1739274225687269],
  [0.3300094782075719, 0.3260725774312731],
  [0.669990521792428, 0.3260725774312731],
  [0.9305681557970263, 0.1739274225687269],
];

/** All mass at one strength. @param {number} at @returns {Law} */
function atPoint(at) {
  const none = new Float64Array(0);
  return { s: none, p: none, cdf: none, mean: at, sd: 0, point: at };
}

/**
 * Log density along the nodes of one side, outwards from the center: rows of [s, ds/du, log p].
 * @param {LawOf} mode
 * @param {number} scale
 * @param {1 | -1} side
 */
function walk(mode, scale, side) {
  const { depth: L, beta1, beta2, temperature: T } = mode;
  const power = (mode.ito === false ? 4 : 3) * (1 - 1 / L);
  const end = beta2 / beta1;
  const center = L === 1 ? end : Math.log(end);
  const place = (/** @type {number} */ u) => center + scale * Math.sinh(u);
  const slope = (/** @type {number} */ x) => {
    const s = L === 1 ? x : Math.exp(x);
    return ((beta1 * s - beta2) * (L === 1 ? 1 : Math.exp((2 / L - 1) * x))) / gradientVariance(mode, s);
  };
  const rows = [];
  let integral = 0;
  let top = -Infinity;
  for (let k = 0; k < 4000; k++) {
    const u = side * k * STEP;
    const x = place(u);
    if (k) {
      for (const [at, weight] of GAUSS) {
        const v = u - side * STEP * (1 - at);
        integral += side * STEP * weight * slope(place(v)) * scale * Math.cosh(v);
      }
    }
    const s = L === 1 ? x : Math.exp(x);
    const log = -(L === 1 ? 0 : power * x) - Math.log(gradientVariance(mode, s)) - (2 / (T * L)) * integral;
    const jacobian = L === 1 ? 0 : x;
    // What counts is p ds with its second moment on the upper side, p ds alone on the lower.
    const size = log + (L === 1 ? 2 * Math.log1p(Math.abs(x - center)) : jacobian + (side > 0 ? 2 * x : 0));
    const weighed = size + Math.log(scale * Math.cosh(u));
    top = Math.max(top, weighed);
    rows.push([s, jacobian + Math.log(scale * Math.cosh(u)), log]);
    if (weighed < top - DROP || !Number.isFinite(weighed) || s > 1e150) break;
  }
  return rows;
}

/**
 * The stationary law of a mode.
 * @param {LawOf} mode
 * @returns {Law}
 */
export function density(mode) {
  const { depth: L, beta1, beta2, temperature: T, floor } = mode;
  const end = beta2 / beta1;
  if (T === 0 || (floor === 0 && T < criticalTemperature(mode))) return atPoint(end);
  if (floor === 0) return atPoint(NaN); // 0 and s* both keep what arrives there
  const collapse = mode.ito === false && L === 2 ? criticalTemperature(mode) / 2 : criticalTemperature(mode);
  if (T >= collapse) return atPoint(0);
  const spread = Math.sqrt((L * end ** (2 - 2 / L) * T * floor) / (2 * beta1));
  const size = L === 1 ? 1 : end;
  const scale = Math.min(1, spread / size, mode.alpha ? Math.sqrt(floor / mode.alpha) / size : 1);
  const rows = [...walk(mode, scale, -1).reverse().slice(0, -1), ...walk(mode, scale, 1)];
  const top = rows.reduce((most, [, jacobian, log]) => Math.max(most, log + jacobian), -Infinity);
  const mass = Float64Array.from(rows, ([, jacobian, log]) => Math.exp(log + jacobian - top) * STEP);
  const s = Float64Array.from(rows, ([at]) => at);
  const total = mass.reduce((sum, m) => sum + m, 0);
  let mean = 0;
  for (let i = 0; i < s.length; i++) mean += ((s[i] - end) * mass[i]) / total;
  mean += end;
  let variance = 0;
  for (let i = 0; i < s.length; i++) variance += ((s[i] - mean) ** 2 * mass[i]) / total;
  if (L === 1 && mode.alpha) variance = (T * floor) / Math.max(2 * beta1 - T * mode.alpha, 0); // Student's
  const p = Float64Array.from(rows, ([, , log]) => Math.exp(log - top) / total);
  return { s, p, cdf: cumulated(mass, total), mean, sd: Math.sqrt(variance), point: null };
}

/** The distribution function at the nodes, by cubics through four of them. @param {Float64Array} mass @param {number} total */
function cumulated(mass, total) {
  const cdf = new Float64Array(mass.length);
  for (let i = 1; i < mass.length; i++) {
    const [before, from, to, after] = [mass[i - 2] ?? 0, mass[i - 1], mass[i], mass[i + 1] ?? 0];
    cdf[i] = cdf[i - 1] + (13 * (from + to) - before - after) / (24 * total);
  }
  return cdf;
}

/** Values at x between the nodes of an increasing table. @param {ArrayLike<number>} nodes @param {ArrayLike<number>} values @param {number} x */
export function between(nodes, values, x) {
  if (!(x > nodes[0])) return values[0];
  let [low, high] = [0, nodes.length - 1];
  if (x >= nodes[high]) return values[high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (nodes[middle] <= x) low = middle;
    else high = middle;
  }
  return values[low] + ((values[high] - values[low]) * (x - nodes[low])) / (nodes[high] - nodes[low]);
}

/**
 * Kolmogorov distance of a sorted sample to a law given by its distribution function.
 * @param {Float64Array} sorted
 * @param {(s: number) => number} cdf
 */
export function distance(sorted, cdf) {
  let most = 0;
  for (let i = 0; i < sorted.length; i++) {
    const at = cdf(sorted[i]);
    most = Math.max(most, at - i / sorted.length, (i + 1) / sorted.length - at);
  }
  return most;
}

/** The distribution function of a law. @param {Law} law @returns {(s: number) => number} */
export function cdfOf(law) {
  const { point } = law;
  if (point !== null) return (s) => (s >= point ? 1 : 0);
  return (s) => between(law.s, law.cdf, s);
}
