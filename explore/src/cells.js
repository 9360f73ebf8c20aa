/**
 * The law of one mode in time, by what has passed fixed edges: for noise so strong that mass jumps between far places.
 *
 * Edges are equally spaced in the coordinate x of `evolution`. The flux through an edge is that of Scharfetter and
 * Gummel, exact where F and G do not vary; what is between two edges never becomes negative, and none is lost.
 */

import { marcher } from "./rosenbrock.js";
import { alpha3 } from "./theory.js";

/** @typedef {import("./coordinate.js").Coordinate} Coordinate */
/**
 * Probabilities to be below the edges, one row a time.
 * @typedef {{edges: Float64Array, passed: Float64Array}} Passed
 */

const STEP_ERROR = 1e-4;
const FAR = 3.5; // standard deviations from the lowest start to the lowest edge
const TOP = 50; // the highest edge, in units of s*: higher, rates hide what is left in rounding

/**
 * The lowest and highest edge that the law is likely to need, at depth 2 and more.
 * @param {import("./engine.js").Mode} mode
 * @param {Coordinate} map
 * @param {number[]} start
 * @param {number} span of time
 */
function range(mode, map, [least, most], span) {
  const { depth: L, beta2, temperature: T } = mode;
  const noise = T * alpha3(mode);
  const spread = FAR * Math.sqrt(noise * span);
  const high = map.x(TOP * Math.max(mode.center, most));
  const below = Math.log(Math.min(least, mode.center)) / L;
  if (L === 2) return [map.x(Math.exp(2 * (below + Math.min(0, beta2 - noise / 2) * span - spread))), high];
  // Near 0 it is a^{2−L}/(L−2) that diffuses at a constant rate, and drift balances noise at 2β₂/(L−1)Tα₃.
  const far = Math.max(Math.exp((2 - L) * below), ((L - 1) * noise) / (2 * beta2)) / (L - 2) + spread;
  return [map.x(((L - 2) * far) ** (-L / (L - 2))), high];
}

/** u/(eᵘ − 1). @param {number} u */
const bernoulli = (u) => (Math.abs(u) < 1e-6 ? 1 - u / 2 : u > 700 ? 0 : u / Math.expm1(u));

/**
 * Rates at which mass passes the inner edges, upwards from the cell before and downwards from the cell after.
 * @param {Coordinate} map
 * @param {Float64Array} edges
 */
function rates(map, edges) {
  const h = edges[1] - edges[0];
  const out = new Float64Array(2);
  const [up, down] = [edges.slice(1, -1), edges.slice(1, -1)];
  for (let j = 0; j < up.length; j++) {
    map.at(up[j], out);
    const [F, G] = out;
    up[j] = (G / (h * h)) * bernoulli((-F * h) / G);
    down[j] = (G / (h * h)) * bernoulli((F * h) / G);
  }
  return { up, down };
}

/** @param {ReturnType<typeof rates>} rates @returns {import("./rosenbrock.js").Velocity} */
function velocity({ up, down }) {
  const last = up.length - 1;
  return (C, out, jacobian) => {
    for (let j = 0; j <= last; j++) {
      const [before, after] = [j ? C[j - 1] : 0, j < last ? C[j + 1] : 1];
      out[j] = down[j] * (after - C[j]) - up[j] * (C[j] - before);
      if (!jacobian) continue;
      jacobian[0][j] = up[j];
      jacobian[1][j] = -up[j] - down[j];
      jacobian[2][j] = down[j];
    }
  };
}

/**
 * What is below the inner edges at times from the first on, at which the law is given; null where steps would become
 * too many.
 * @param {import("./engine.js").Mode} mode
 * @param {Coordinate} map
 * @param {number[]} start the lowest and the highest strength at first
 * @param {number[]} times
 * @param {number} count
 * @param {(x: number) => number} below the law at first, as the probability to be below x
 * @returns {Generator<null, Passed | null>}
 */
export function* cells(mode, map, start, times, count, below) {
  const span = times[times.length - 1] - times[0];
  const [low, high] = range(mode, map, start, span);
  const edges = Float64Array.from({ length: count + 1 }, (_, j) => low + ((high - low) * j) / count);
  const inner = edges.slice(1, -1);
  const passed = new Float64Array(times.length * inner.length);
  const begin = inner.map(below);
  passed.set(begin);
  const largest = (/** @type {Float64Array} */ _, /** @type {Float64Array} */ errors) =>
    errors.reduce((most, error) => (Math.abs(error) <= most ? most : Math.abs(error)), 0);
  const march = marcher(velocity(rates(map, edges)), inner.length, largest, STEP_ERROR);
  return (yield* march(begin, times[0], times, 1, passed, 1e-3 * span)) ? { edges: inner, passed } : null;
}
