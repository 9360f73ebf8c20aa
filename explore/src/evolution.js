/** The law of one mode in time: by its quantiles, or by fixed cells where noise is strong, until two results agree. */

import { cells } from "./cells.js";
import { coordinate } from "./coordinate.js";
import { differences, nodes, quantiles } from "./quantiles.js";
import { normalCdf, quantile, scoreOf } from "./table.js";

/** @typedef {import("./engine.js").Mode} Mode @typedef {import("./coordinate.js").Coordinate} Coordinate */
/**
 * Strengths at the probabilities Φ(z), one row a time, and the error of the distribution function.
 * @typedef {{z: Float64Array, strengths: Float64Array, error: number}} Evolution
 */

const NODES = 40; // and twice as many
const CELLS = [400, 800, 1600];
const SHOWN = 640; // nodes that are read off the cells
const ENOUGH = 2e-3; // difference of two results in the distribution function; the finer is nearer

/** The largest difference at shared edges. @param {Float64Array} rough @param {Float64Array} fine @param {number} size edges of the rougher */
function apart(rough, fine, size) {
  let most = 0;
  for (let k = 0; k < rough.length; k++) {
    const [row, j] = [Math.floor(k / size), k % size];
    most = Math.max(most, Math.abs(rough[k] - fine[row * (2 * size + 1) + 2 * j + 1]));
  }
  return most;
}

/** Strengths at Φ(z), one row a time, of what has passed the edges. @param {import("./cells.js").Passed} of @param {Float64Array} z @param {(x: number) => number} strength */
function read({ edges, passed }, z, strength) {
  const levels = z.map(normalCdf);
  const [n, last] = [edges.length, z.length - 1];
  const strengths = new Float64Array((passed.length / n) * z.length);
  for (let row = 0; row * n < passed.length; row++) {
    const C = passed.subarray(row * n, (row + 1) * n);
    for (let i = 0, j = 0; i <= last; i++) {
      while (j < n - 1 && C[j] < levels[i]) j++;
      const share = j ? Math.min(1, (levels[i] - C[j - 1]) / (C[j] - C[j - 1])) : 0;
      strengths[row * z.length + i] = strength(j ? edges[j - 1] + share * (edges[j] - edges[j - 1]) : edges[0]);
    }
  }
  return strengths;
}

/**
 * Carries a law on by cells, from the last time at which its quantiles are sure.
 * @param {Mode} mode
 * @param {Coordinate} map
 * @param {ArrayLike<number>} times
 * @param {Pick<Evolution, "z" | "strengths">} known
 * @param {number} sure
 * @returns {Generator<null, Evolution | null>}
 */
function* byCells(mode, map, times, known, sure) {
  const below = (/** @type {number} */ x) => normalCdf(scoreOf(known, sure, map.s(x)));
  const start = [0, known.z.length - 1].map((i) => known.strengths[sure * known.z.length + i]);
  const later = Array.from(times).slice(sure);
  let before = 0;
  let rough = yield* cells(mode, map, start, later, CELLS[0], below);
  for (let level = 1; level < CELLS.length && rough; level++) {
    const fine = yield* cells(mode, map, start, later, CELLS[level], below);
    const off = fine ? apart(rough.passed, fine.passed, rough.edges.length) : Infinity;
    const error = off < before / 2.5 ? off / 2 : off; // converging in the square of the width, it would be a third
    if (fine && error <= ENOUGH) {
      const { z } = nodes(SHOWN);
      const strengths = new Float64Array(times.length * z.length);
      for (let row = 0; row < sure; row++)
        strengths.set(
          z.map((z) => quantile(known, row, z)),
          row * z.length,
        );
      strengths.set(read(fine, z, map.s), sure * z.length);
      return { z, strengths, error };
    }
    if (off > 15 * ENOUGH) return null; // the next would not be near enough
    [rough, before] = [fine, off];
  }
  return null;
}

/**
 * The law at increasing times from a start, or null where no two results agree.
 * @param {Mode} mode
 * @param {number} start
 * @param {ArrayLike<number>} times
 * @returns {Generator<null, Evolution | null>}
 */
export function* evolution(mode, start, times) {
  if (mode.floor === 0) return null; // all noise vanishes at the target, and so does the width of the law
  const map = coordinate(mode);
  const rough = yield* quantiles(map, start, times, NODES);
  const strengths = rough && (yield* quantiles(map, start, times, 2 * NODES));
  if (!strengths) return null;
  const known = { z: nodes(2 * NODES).z, strengths };
  const errors = differences(rough, strengths, NODES);
  const error = Math.max(...errors);
  if (error <= ENOUGH) return { ...known, error };
  const sure = errors.findIndex((one) => one > ENOUGH / 2) - 1;
  return mode.depth > 1 && sure > 0 ? yield* byCells(mode, map, times, known, sure) : null;
}
