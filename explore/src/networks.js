/** What the views of whole networks share: the experiment that a state asks for, and the parts of its runs. */

import { csv } from "./code.js";
import { shown } from "./draw.js";
import { listOf } from "./state.js";

/** @typedef {import("./types").State} State @typedef {import("./types").Part} Part */
/** @typedef {import("./engine.js").Setting} Setting @typedef {import("./code.js").Experiment} Experiment */

export const SAVES = 60;

/** Trajectories while a slider moves. */
export const FEW = 4;

/** Inks of modes, strongest first. */
export const INKS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

/** Colours alone do not tell modes apart. */
export const DASHES = [undefined, "7 3", "2 3", "8 3 2 3", "12 4", "1 2"];

/** A number of steps for a time, a multiple of the saves. @param {number} time @param {number} lr @param {number} most @param {number} saves */
export function stepsFor(time, lr, most = 24000, saves = SAVES) {
  const wanted = Math.ceil(time / lr / saves) * saves;
  return Math.min(most, Math.max(saves, wanted || saves));
}

/** A warning where a run has fewer steps than its time asks for. @param {number} time @param {number} steps @param {number} lr */
export const cutShort = (time, steps, lr) =>
  steps * lr < time * (1 - 1e-9)
    ? [`Time ends at ${shown(steps * lr)}, after ${steps} steps: raise η to see more.`]
    : [];

/** The steps of the saves of a run, at equal distances unless they are given. @param {{steps: number, saves: number, at?: number[]}} run */
export const savedSteps = ({ steps, saves, at }) =>
  at ?? [...Array(saves + 1).keys()].map((save) => (save * steps) / saves);

/** Steps of saves for what is fast at first: every step, then further and further apart. @param {number} steps @param {number} saves */
export const earlySteps = (steps, saves) =>
  [...Array(saves + 1).keys()].map((save) => save + Math.round((steps - saves) * (save / saves) ** 3));

/** @param {State} state @param {string} key */
export const number = (state, key) => Number(state[key]);

/** The strengths of a state. @param {State} state */
export const strengthsOf = (state) => listOf(state.s);

/**
 * The runs of the worker so far: times, and per method each observable (saves, n, size).
 * @typedef {{saves: number, values: Record<string, Float64Array>[][], done: boolean}} Runs
 */

/** @param {unknown} known @param {Part} part @returns {Runs} */
export function takeSave(known, part) {
  const before = /** @type {Runs | null} */ (known);
  const save = /** @type {number} */ (part.save);
  const values = save === 0 || !before ? [] : before.values;
  values[save] = /** @type {Record<string, Float64Array>[]} */ (part.values);
  return { saves: save + 1, values, done: part.done };
}

/** The mean over trajectories of one column of an observable, at every save. @param {Runs} runs @param {number} method @param {string} name @param {number} column @param {number} size */
export function means(runs, method, name, column, size) {
  return Float64Array.from({ length: runs.saves }, (_, save) => {
    const all = runs.values[save][method][name];
    let [sum, count] = [0, 0];
    for (let i = column; i < all.length; i += size) {
      if (!Number.isFinite(all[i])) continue;
      sum += all[i];
      count++;
    }
    return count ? sum / count : NaN;
  });
}

/** Paths of the first trajectories, one after the other. @param {Runs} runs @param {number} method @param {string} name @param {number} column @param {number} size @param {number} most */
export function pathsOf(runs, method, name, column, size, most) {
  const n = Math.min(most, (runs.values[0]?.[method][name].length ?? 0) / size);
  const paths = new Float64Array(n * runs.saves);
  for (let i = 0; i < n; i++)
    for (let save = 0; save < runs.saves; save++)
      paths[i * runs.saves + save] = runs.values[save][method][name][i * size + column];
  return { paths, n };
}

/** Time at which a mean first passes a level, between saves by a line. @param {ArrayLike<number>} times @param {ArrayLike<number>} values @param {number} level */
export function passage(times, values, level) {
  for (let i = 0; i < values.length; i++) {
    if (!(values[i] >= level)) continue;
    if (i === 0) return times[0];
    return times[i - 1] + ((times[i] - times[i - 1]) * (level - values[i - 1])) / (values[i] - values[i - 1]);
  }
  return Infinity;
}

/** Trajectories of each method that have diverged by the last save; none while it is awaited. @param {Runs | null} runs @param {string} name @param {number} size */
export function diverged(runs, name, size) {
  if (!runs?.done) return [];
  return runs.values[runs.saves - 1].map((values) => values[name].filter((v) => !Number.isFinite(v)).length / size);
}

/** The runs without the trajectories that have diverged by the last save, from the start on. @param {Runs} runs @param {string} name @param {number} size */
export function survivors(runs, name, size) {
  const lost = runs.values[runs.saves - 1].map((values) => {
    const last = values[name];
    const members = [...Array(last.length / size).keys()];
    return members.map((i) => !last.subarray(i * size, (i + 1) * size).every(Number.isFinite));
  });
  if (!lost.flat().includes(true)) return runs;
  const without = (/** @type {Float64Array} */ all, /** @type {boolean[]} */ gone) =>
    all.map((value, i) => (gone[Math.floor((i * gone.length) / all.length)] ? NaN : value));
  const values = runs.values.map((save) =>
    save.map((seen, k) => Object.fromEntries(Object.entries(seen).map(([key, all]) => [key, without(all, lost[k])]))),
  );
  return { ...runs, values };
}

/**
 * An observable of every trajectory at every save of every method, as CSV.
 * @param {unknown} known
 * @param {string[]} methods
 * @param {{steps: number, saves: number, at?: number[]}} experiment
 * @param {number} lr
 * @param {string} name
 * @param {string} axis
 * @param {number} size
 */
export function networkCsv(known, methods, experiment, lr, name, axis, size) {
  const runs = /** @type {Runs | null} */ (known);
  const head = ["method", "step", "time", "trajectory", axis, name];
  return csv(head, runs ? rowsOf(runs, methods, savedSteps(experiment), lr, name, size) : []);
}

/** @param {Runs} runs @param {string[]} methods @param {number[]} steps @param {number} lr @param {string} name @param {number} size */
function* rowsOf(runs, methods, steps, lr, name, size) {
  for (let k = 0; k < methods.length; k++)
    for (let save = 0; save < runs.saves; save++) {
      const all = runs.values[save][k][name];
      for (let i = 0; i < all.length; i++)
        yield [methods[k], steps[save], steps[save] * lr, Math.floor(i / size), i % size, all[i]];
    }
}
