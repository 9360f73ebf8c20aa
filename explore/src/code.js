/** The picture as Python and as a run file: text that reproduces its numbers. */

import { stabilityEdge } from "./theory.js";

/** A number as Python and TOML read it, at full precision. @param {number} value */
export const real = (value) => (Number.isInteger(value) && Math.abs(value) < 1e15 ? `${value}.0` : String(value));

/**
 * Data are Gaussian, or `samples` of white inputs, a multiple of their dimension, with labels linear in them.
 * @typedef {{widths: number[], strengths: number[], noise: number, balanced: boolean, scale: number | number[], n: number,
 *   seed: number, steps: number, saves: number, float32: boolean, samples?: number, at?: number[]}} Experiment
 */

/**
 * A method by its name in Python, its arguments, and the label noise of its samples.
 * @typedef {[string, Record<string, number | string>, number?]} Method
 */

/** @param {Method} method */
const call = ([name, given]) =>
  `sc.${name}(${Object.entries(given)
    .map(([key, value]) => `${key}=${plain(value)}`)
    .join(", ")})`;

/** @param {number | string} value */
const plain = (value) => (typeof value === "string" ? `"${value}"` : String(value));

/**
 * Runs of a network under several methods.
 * @param {Experiment} experiment
 * @param {Record<string, Method>} methods
 * @param {string} last the line that shows something
 */
export function networkPython(experiment, methods, last) {
  const { widths, strengths, balanced, scale, n, seed, steps, saves, samples } = experiment;
  const start = balanced
    ? `sc.init.Balanced(scale=${scale})`
    : `sc.init.Gaussian(scale=${typeof scale === "number" ? scale : `(${scale.join(", ")})`})`;
  const [dx, dy] = [widths[0], widths[widths.length - 1]];
  const teacher =
    dx === dy
      ? `np.diag([${strengths.map(real).join(", ")}])`
      : `np.eye(${dy}, ${dx}) * np.array([${padded(strengths, dx)}])`;
  const runs = Object.entries(methods).map(([name, method]) => {
    const dtype = method[0] === "GradientFlow" ? "float64" : "float32";
    const problem = samples ? `problem(${method[2]})` : "problem";
    return `    "${name}": sc.simulate(${problem}, ${call(method)}, plan("${dtype}")),\n`;
  });
  return `import numpy as np

import saddlescope as sc

${problemPython(experiment, teacher, start)}


def plan(dtype):
    return sc.Plan(steps=${steps}, saves=${saves}, trajectories=${n}, seed=${seed}, dtype=dtype, keep="trajectories")


runs = {
${runs.join("")}}
${last}
`;
}

/** The problem, or that of samples as a function of their label noise. @param {Experiment} experiment @param {string} teacher @param {string} start */
function problemPython({ widths, noise, samples }, teacher, start) {
  const problem = `sc.Problem(sc.DeepLinear((${widths.join(", ")})), data, ${start})`;
  if (!samples) return `data = sc.GaussianData(${teacher}, label_noise=${noise})\nproblem = ${problem}`;
  const dx = widths[0];
  return `teacher = ${teacher}
X = np.sqrt(${dx}) * np.tile(np.eye(${dx}), (${samples / dx}, 1))  # ${samples} samples with X.T @ X / n = 1


def problem(label_noise):
    data = sc.Dataset(X, X @ teacher.T, label_noise=label_noise)
    return ${problem}`;
}

/** @param {number[]} strengths @param {number} count */
const padded = (strengths, count) => [...Array(count).keys()].map((i) => real(strengths[i] ?? 0)).join(", ");

/**
 * One run of a network as a run file.
 * @param {Experiment} experiment
 * @param {Method} method
 */
export function networkToml(experiment, method) {
  const { widths, balanced, scale, n, seed, steps, saves } = experiment;
  const [name, given] = method;
  return `[network]
type = "DeepLinear"
widths = [${widths.join(", ")}]

[data]
${dataToml(experiment)}
[init]
type = "${balanced ? "Balanced" : "Gaussian"}"
scale = ${typeof scale === "number" ? real(scale) : `[${scale.map(real).join(", ")}]`}

[method]
type = "${name}"
${Object.entries(given)
  .map(
    ([key, value]) =>
      `${key} = ${key === "batch_size" && name === "SGD" ? value : typeof value === "number" ? real(value) : plain(value)}\n`,
  )
  .join("")}
[plan]
steps = ${steps}
saves = ${saves}
trajectories = ${n}
seed = ${seed}
dtype = "${name === "GradientFlow" ? "float64" : "float32"}"
keep = "trajectories"
`;
}

/** A diagonal matrix as TOML. @param {number} height @param {number} width @param {(i: number) => number} entry */
const diagonal = (height, width, entry) =>
  `[\n${[...Array(height).keys()]
    .map((i) => `    [${[...Array(width).keys()].map((j) => (i === j ? real(entry(i)) : "0.0")).join(", ")}],\n`)
    .join("")}]`;

/** Samples with the same input act like one sample with the mean of their label noise. @param {Experiment} experiment */
function dataToml({ widths, strengths, noise, samples }) {
  const [dx, dy] = [widths[0], widths[widths.length - 1]];
  const strength = (/** @type {number} */ i) => strengths[i] ?? 0;
  if (!samples) return `type = "GaussianData"\nteacher = ${diagonal(dy, dx, strength)}\nlabel_noise = ${real(noise)}\n`;
  const size = Math.sqrt(dx);
  return `# Each row is the mean of ${samples / dx} samples with label noise ${real(noise)}: the steps are those of all ${samples} samples.
type = "Dataset"
X = ${diagonal(dx, dx, () => size)}
Y = ${diagonal(dx, dy, (i) => size * strength(i))}
label_noise = ${real(noise * Math.sqrt(dx / samples))}
`;
}

/**
 * What is copied of a view of networks: all methods as Python, which prints the last means of an observable, and one run
 * as a run file.
 * @param {Experiment} experiment
 * @param {Record<string, Method>} methods
 * @param {string} name
 * @param {string} [stored] the method of the run file
 */
export const networkCode = (experiment, methods, name, stored = "SGD") => ({
  python: networkPython(
    experiment,
    methods,
    `print({name: run.${name}.isel(time=-1).mean("trajectory").values for name, run in runs.items()})`,
  ),
  toml: networkToml(experiment, methods[stored]),
});

/** @typedef {{depth: number, target: number, noise: number, temperature: number}} Parts */

/**
 * One mode as Python: its SDE, and what is computed of it.
 * @param {Parts} mode
 * @param {string} rest
 * @param {string} imports before that of the package
 */
export const modePython = (
  { depth, target, noise, temperature },
  rest,
  imports = "",
) => `${imports && `${imports}\n\n`}\
import saddlescope as sc

mode = sc.theory.ModeSDE(depth=${depth}, target=${target}, label_noise=${noise}, temperature=${temperature})
${rest}
`;

/**
 * One mode as a run file: a network of width 1, whose Langevin dynamics it is, in steps well below the stability edge.
 * @param {Parts} mode
 * @param {number} start
 * @param {number} time
 * @param {number} n
 * @param {number} seed
 */
export function modeToml({ depth, target, noise, temperature }, start, time, n, seed) {
  const lr = +Math.min(0.01, stabilityEdge(depth, target) / 10).toPrecision(2);
  const experiment = {
    widths: Array(depth + 1).fill(1),
    strengths: [target],
    noise,
    balanced: true,
    scale: start ** (1 / depth),
    n,
    seed,
    steps: Math.ceil(time / lr / 60) * 60,
    saves: 60,
    float32: true,
  };
  return `# The mode as a network of width 1 under Langevin dynamics with equal steps. At large T, where the law has a heavy
# tail, some trajectories diverge; those of the page do not, as their steps adapt.
${networkToml(experiment, ["Langevin", { lr, batch_size: +(lr / temperature).toPrecision(12) }])}`;
}

/** Rows of numbers as CSV. @param {string[]} head @param {Iterable<(number | string)[]>} rows */
export function csv(head, rows) {
  const lines = [head.join(",")];
  for (const row of rows) lines.push(row.join(","));
  return `${lines.join("\n")}\n`;
}
