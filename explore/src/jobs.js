/** What the worker computes: each job is a generator of parts, and of null where it may be stopped. */

import { evolution } from "./evolution.js";
import { modePaths, observe, start } from "./engine.js";

/** @typedef {import("./engine.js").Exports} Exports @typedef {import("./types").Part} Part */

/**
 * Strengths of an ensemble of one mode, a block of members at a time, the first with the law in time if that is asked.
 * @param {Exports} kernel
 * @param {any} asked
 */
function* paths(kernel, asked) {
  const { mode, start: from, times, n, seed, tolerance, law } = asked;
  const first = law ? yield* evolution(mode, from, times) : undefined;
  for (const block of modePaths(kernel, mode, from, times, n, seed, tolerance)) {
    yield { ...block, done: block.last === n, ...(block.first === 0 && { law: first }) };
  }
}

/** Steps that take about five milliseconds. @param {import("./engine.js").Setting} setting */
function few({ widths, n, batch, source }) {
  const weights = widths.slice(1).reduce((sum, width, l) => sum + width * widths[l], 0);
  const columns = source === "sgd" && batch < widths[0] ? batch : widths[0];
  return Math.max(1, Math.floor(2e6 / (weights * columns * (n + 3))));
}

/**
 * Runs of a network under several methods, side by side: every part is one save of all of them.
 * @param {Exports} kernel
 * @param {any} asked
 */
function* networks(kernel, asked) {
  const { settings, steps, saves, names, at } = asked;
  const stepOf = (/** @type {number} */ save) => (at ? at[save] : (save * steps) / saves);
  /** @type {number[]} */
  const runs = [];
  try {
    for (const setting of settings) runs.push(start(kernel, setting));
    for (let save = 0; save <= saves; save++) {
      const [from, until] = [Math.max(0, save - 1), save].map(stepOf);
      const values = [];
      for (let k = 0; k < runs.length; k++) {
        for (let step = from; step < until;) {
          step = Math.min(until, step + few(settings[k]));
          kernel.network_advance(runs[k], step);
          yield null;
        }
        values.push(observe(kernel, runs[k], settings[k], names));
      }
      yield { save, values, done: save === saves };
    }
  } finally {
    runs.forEach((run) => kernel.network_stop(run));
  }
}

/**
 * A sample of one mode at one time, sorted; a part each time it has doubled.
 * @param {Exports} kernel
 * @param {any} asked
 */
function* sample(kernel, asked) {
  const { mode, start: from, time, n, seed, tolerance } = asked;
  const all = new Float64Array(n);
  let next = 0;
  for (const { first, last, strengths } of modePaths(kernel, mode, from, [time], n, seed, tolerance)) {
    all.set(strengths, first);
    if (last < n && last < next) yield null;
    else yield { sample: all.slice(0, last).sort(), done: last === n };
    next = Math.max(next, 2 * last);
  }
}

/** @type {Record<import("./types").Request["job"], (kernel: Exports, asked: any) => Generator<Part | null>>} */
export const JOBS = { paths, networks, sample };
