/** What the views of one mode share: its fields, its ensemble, and histograms. */

import { gaussianMode, flowTime } from "./theory.js";
import { number } from "./networks.js";

/** @typedef {import("./types").State} State @typedef {import("./types").Field} Field @typedef {import("./types").Part} Part */

/** Error of a step of the integrator, in units of the local rate. */
export const TOLERANCE = 0.1;

/** @type {Field[]} */
export const MODE_FIELDS = [
  { key: "L", label: "depth L", kind: "linear", value: 2, low: 1, high: 8, step: 1 },
  { key: "s", label: "target s*", kind: "linear", value: 1, low: 0.1, high: 4, step: 0.01 },
  { key: "sigma", label: "label noise σ", kind: "log", value: 0.3, low: 0.02, high: 20 },
  { key: "T", label: "temperature T", kind: "log", value: 0.05, low: 1e-3, high: 2 },
];

/** The four numbers of a mode. @param {State} state */
export const partsOf = (state) => ({
  depth: number(state, "L"),
  target: number(state, "s"),
  noise: number(state, "sigma"),
  temperature: number(state, "T"),
});

/** @param {State} state */
export function modeOf(state) {
  const { depth, target, noise, temperature } = partsOf(state);
  return gaussianMode(depth, target, noise, temperature);
}

/** A time by which a mode has been learned and has settled, where it does. @param {State} state @param {number} start */
export function horizon(state, start) {
  const { depth, target } = partsOf(state);
  const learned = depth === 1 ? 0 : flowTime(target / 2, Math.min(start, target / 4), target, depth);
  return 1.7 * (Number.isFinite(learned) ? learned : 0) + 8 / Math.min(depth * target ** (2 - 2 / depth), 4);
}

/**
 * An ensemble so far: strengths (n, times), the first `count` of them known.
 * `law` is that of one member in time: undefined where it was not asked for, null where it is beyond the page.
 * @typedef {{strengths: Float64Array, count: number, done: boolean, saves: number,
 *   law?: import("./evolution.js").Evolution | null}} Ensemble
 */

/** @param {unknown} known @param {Part} part @param {number} n @param {number} saves @returns {Ensemble} */
export function takePaths(known, part, n, saves) {
  const before = /** @type {Ensemble | null} */ (known);
  const { first, last, strengths, law } = /** @type {any} */ (part);
  const fresh = first === 0 || !before;
  const all = fresh ? new Float64Array(n * saves) : before.strengths;
  all.set(strengths, first * saves);
  return { strengths: all, count: last, done: part.done, saves, law: fresh ? law : before.law };
}

/** Quantiles over the members at every time. @param {Ensemble} ensemble @param {number[]} levels */
export function bands(ensemble, levels) {
  const { strengths, count, saves } = ensemble;
  const found = levels.map(() => new Float64Array(saves));
  const column = new Float64Array(count);
  for (let j = 0; j < saves; j++) {
    for (let i = 0; i < count; i++) column[i] = strengths[i * saves + j];
    column.sort();
    levels.forEach((level, k) => (found[k][j] = column[Math.min(count - 1, Math.floor(level * count))]));
  }
  return found;
}

/** The mean over the members at every time. @param {Ensemble} ensemble */
export function meanPath({ strengths, count, saves }) {
  const mean = new Float64Array(saves);
  for (let i = 0; i < count; i++) for (let j = 0; j < saves; j++) mean[j] += strengths[i * saves + j] / count;
  return mean;
}

/**
 * Density of values over bins from low to high, of equal width, or of equal ratio; values outside count in the total.
 * @param {ArrayLike<number>} values @param {number} low @param {number} high @param {number} bins @param {boolean} log
 */
export function histogram(values, low, high, bins, log = false) {
  const edges = spaced(low, high, bins + 1, log);
  const place = log
    ? (/** @type {number} */ v) => (bins * Math.log(v / low)) / Math.log(high / low)
    : (/** @type {number} */ v) => (bins * (v - low)) / (high - low);
  const counts = new Float64Array(bins);
  for (let i = 0; i < values.length; i++)
    if (values[i] >= low && values[i] < high) counts[Math.min(bins - 1, Math.floor(place(values[i])))]++;
  return { edges, y: counts.map((count, i) => count && count / (values.length * (edges[i + 1] - edges[i]))) };
}

/** Equal steps, or equal ratios, from low to high. @param {number} low @param {number} high @param {number} count @param {boolean} log */
export function spaced(low, high, count, log = false) {
  return Float64Array.from({ length: count }, (_, i) => {
    const share = i / (count - 1);
    return log ? low * (high / low) ** share : low + (high - low) * share;
  });
}
