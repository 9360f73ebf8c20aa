/** The picture as Python and as a run file: text that reproduces its numbers. */

/** A number as Python and TOML read it, at full precision. @param {number} value */
export const real = (value) => (Number.isInteger(value) && Math.abs(value) < 1e15 ? `${value}.0` : String(value));

/** @typedef {{widths: number[], strengths: number[], noise: number, balanced: boolean, scale: number | number[], n: number,
 *   seed: number, steps: number, saves: number, float32: boolean}} Experiment */

/** A method by its name in Python and its arguments. @typedef {[string, Record<string, number | string>]} Method */

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
  const { widths, strengths, noise, balanced, scale, n, seed, steps, saves } = experiment;
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
    return `    "${name}": sc.simulate(problem, ${call(method)}, plan("${dtype}")),\n`;
  });
  return `import numpy as np

import saddlescope as sc

data = sc.GaussianData(${teacher}, label_noise=${noise})
problem = sc.Problem(sc.DeepLinear((${widths.join(", ")})), data, ${start})


def plan(dtype):
    return sc.Plan(steps=${steps}, saves=${saves}, trajectories=${n}, seed=${seed}, dtype=dtype, keep="trajectories")


runs = {
${runs.join("")}}
${last}
`;
}

/** @param {number[]} strengths @param {number} count */
const padded = (strengths, count) => [...Array(count).keys()].map((i) => real(strengths[i] ?? 0)).join(", ");

/**
 * One run of a network as a run file.
 * @param {Experiment} experiment
 * @param {Method} method
 */
export function networkToml(experiment, method) {
  const { widths, strengths, noise, balanced, scale, n, seed, steps, saves } = experiment;
  const [name, given] = method;
  const [dx, dy] = [widths[0], widths[widths.length - 1]];
  const rows = [...Array(dy).keys()].map(
    (i) => `    [${[...Array(dx).keys()].map((j) => (i === j ? real(strengths[i] ?? 0) : "0.0")).join(", ")}],\n`,
  );
  return `[network]
type = "DeepLinear"
widths = [${widths.join(", ")}]

[data]
type = "GaussianData"
teacher = [
${rows.join("")}]
label_noise = ${real(noise)}

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

/**
 * What is copied of a view of networks: all methods as Python, which prints the last means of an observable, and the run
 * of SGD as a run file.
 * @param {Experiment} experiment
 * @param {Record<string, Method>} methods
 * @param {string} name
 */
export const networkCode = (experiment, methods, name) => ({
  python: networkPython(
    experiment,
    methods,
    `print({name: run.${name}.isel(time=-1).mean("trajectory").values for name, run in runs.items()})`,
  ),
  toml: networkToml(experiment, methods.SGD),
});

/**
 * One mode as Python: its SDE, an ensemble, and the laws beside it.
 * @param {{depth: number, target: number, noise: number, temperature: number}} mode
 * @param {string} rest
 */
export const modePython = ({ depth, target, noise, temperature }, rest) => `import numpy as np

import saddlescope as sc

mode = sc.theory.ModeSDE(depth=${depth}, target=${target}, label_noise=${noise}, temperature=${temperature})
${rest}
`;

/** Rows of numbers as CSV. @param {string[]} head @param {Iterable<(number | string)[]>} rows */
export function csv(head, rows) {
  const lines = [head.join(",")];
  for (const row of rows) lines.push(row.join(","));
  return `${lines.join("\n")}\n`;
}
