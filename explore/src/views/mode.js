/** One mode: its paths and quantiles in time, where its noise peaks, and the law it settles into. */

import { csv, modePython, modeToml } from "../code.js";
import { shown } from "../draw.js";
import { number as tex } from "../formula.js";
import {
  MODE_FIELDS,
  TOLERANCE,
  bands,
  histogram,
  horizon,
  meanPath,
  modeOf,
  partsOf,
  spaced,
  takePaths,
} from "../modes.js";
import { number } from "../networks.js";
import { shades } from "../shade.js";
import { between, density } from "../stationary.js";
import { quantile } from "../table.js";
import {
  alpha3,
  boltzmannVariance,
  criticalTemperature,
  drift,
  flowLine,
  flowTime,
  noisePeak,
  plateauTime,
  stabilityEdge,
  varianceRate,
} from "../theory.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Figure} Figure @typedef {import("../types").Layer} Layer */
/** @typedef {import("../modes.js").Ensemble} Ensemble */

const SAVES = 121;
const FEW = 128;
const ALL = 1024;
const ROWS = 128; // of the picture of the law
const LATE = 30; // saves that count as settled

/** Quantiles of the law in time that are written out: column, normal score, name. @type {[string, number, string][]} */
const LEVELS = [
  ["law_q05", -1.6448536269514722, "5 % quantile"],
  ["law_q50", 0, "median"],
  ["law_q95", 1.6448536269514722, "95 % quantile"],
];

/** @param {State} state */
const timesOf = (state) => spaced(0, horizon(state, number(state, "s0")), SAVES);

/** What the figures share. @param {State} state @param {Ensemble | null} ensemble */
function seen(state, ensemble) {
  const mode = modeOf(state);
  const law = density(mode);
  const late = new Float64Array((ensemble?.count ?? 0) * LATE);
  for (let i = 0; ensemble && i < ensemble.count; i++)
    late.set(ensemble.strengths.subarray((i + 1) * SAVES - LATE, (i + 1) * SAVES), i * LATE);
  const average = late.reduce((sum, v) => sum + v, 0) / late.length;
  const target = number(state, "s");
  const top = Math.max(1.6 * target, Math.min(law.mean + 4 * law.sd || 0, 4 * target));
  return {
    mode,
    law,
    late,
    average,
    top,
    low: mode.depth === 1 ? -Math.max(0.2 * target, Math.min(4 * law.sd - law.mean, 4 * target)) : 0,
  };
}

/** @param {State} state @param {Ensemble | null} ensemble @param {ReturnType<typeof seen>} of @returns {Figure} */
function pathsFigure(state, ensemble, { mode, top, low }) {
  const times = timesOf(state);
  const [s0, target] = [number(state, "s0"), number(state, "s")];
  /** @type {Layer[]} */
  const layers = [];
  let end = NaN;
  if (ensemble) {
    const mean = meanPath(ensemble);
    end = mean[SAVES - 1];
    if (ensemble.law) {
      const name = "law of s, relative to its peak at each time";
      layers.push({
        kind: "shade",
        x: times,
        low,
        high: top,
        ...shades(ensemble.law, low, top, ROWS),
        ink: "--c1",
        name,
      });
    } else {
      const [q05, q25, q75, q95] = bands(ensemble, [0.05, 0.25, 0.75, 0.95]);
      layers.push({ kind: "area", x: times, low: q05, high: q95, ink: "--c1", name: "90 % and 50 % of paths" });
      layers.push({ kind: "area", x: times, low: q25, high: q75, ink: "--c1" });
    }
    layers.push({ kind: "paths", x: times, y: ensemble.strengths, count: Math.min(40, ensemble.count), ink: "--grey" });
    layers.push({ kind: "line", x: times, y: mean, ink: ensemble.law ? "--ink" : "--c1", name: "mean" });
  }
  const still = flowLine(s0, target, mode.depth, times[SAVES - 1]);
  layers.push({ kind: "line", ...still, ink: "--c2", dash: "6 4", name: "gradient flow" });
  layers.push({ kind: "marks", at: [target], along: "y", ink: "--grey" });
  layers.push({
    kind: "handle",
    x: times[SAVES - 1],
    y: target,
    key: "s",
    moves: "y",
    label: "target s*, drag or use arrow keys",
  });
  layers.push({ kind: "handle", x: 0, y: s0, key: "s0", moves: "y", label: "start s₀, drag or use arrow keys" });
  return {
    title: ensemble?.law ? "Paths, and the law they are drawn from" : "Paths, and where half and 90 % of them are",
    text: `${ensemble?.count ?? 0} paths from ${shown(s0)}; their mean ends at ${shown(end)}, gradient flow at ${shown(still.y[still.y.length - 1])}`,
    x: { label: "time", low: 0, high: times[SAVES - 1] },
    y: { label: "strength s", low, high: top },
    layers,
    wide: true,
  };
}

/** @param {State} state @param {ReturnType<typeof seen>} of @returns {Figure} */
function noiseFigure(state, { mode, low }) {
  const target = number(state, "s");
  const x = spaced(low, 1.5 * target, 240);
  const [noise, pull] = [x.map((s) => varianceRate(mode, s)), x.map((s) => drift(mode, s))];
  const peak = noisePeak(mode);
  const before = [...noise].filter((_, i) => x[i] <= 1.15 * target);
  const most = 1.2 * Math.max(...before, ...pull);
  /** @type {Layer[]} */
  const layers = [
    { kind: "line", x, y: noise, ink: "--c1", name: "variance rate" },
    { kind: "line", x, y: pull, ink: "--c2", dash: "6 4", name: "drift" },
    { kind: "marks", at: [target], along: "x", ink: "--grey", name: "s*" },
  ];
  if (peak !== null)
    layers.push({ kind: "dot", x: peak, y: varianceRate(mode, peak), ink: "--c1", name: "noise peak" });
  return {
    title: "Where the noise peaks",
    text: peak === null ? "no peak before the mode is learned" : `the noise peaks at ${shown(peak)}`,
    x: { label: "strength s", low, high: 1.5 * target },
    y: { label: "per unit time", low: -0.3 * most, high: most },
    layers,
  };
}

/** Density of the stationary law on a grid. @param {ReturnType<typeof seen>} of @param {Float64Array} x */
const onGrid = ({ law }, x) => (law.point === null ? x.map((s) => between(law.s, law.p, s)) : x.map(() => NaN));

/** @param {State} state @param {ReturnType<typeof seen>} of @returns {Figure} */
function lawFigure(state, of) {
  const { mode, late, low, top, law } = of;
  const bars = histogram(late, low, top, 60);
  const x = spaced(low + 1e-3 * top, top, 300);
  const exact = onGrid(of, x);
  const spread = Math.sqrt(boltzmannVariance(mode));
  const normal = x.map(
    (s) => Math.exp(-(((s - number(state, "s")) / spread) ** 2) / 2) / spread / Math.sqrt(2 * Math.PI),
  );
  const fullest = Math.max(0, ...bars.y);
  const most = fullest > 0 ? 5 * fullest : Infinity; // a density that is infinite at 0 must not hide the rest
  const tall = 1.25 * Math.max(1e-9, fullest, ...exact.subarray(10).map((p) => Math.min(p || 0, most)));
  return {
    title: "The law it settles into",
    text:
      law.point === null
        ? `stationary mean ${shown(law.mean)}, standard deviation ${shown(law.sd)}`
        : `all mass ends at ${Number.isNaN(law.point) ? "0 or s*" : shown(law.point)}`,
    x: { label: "strength s", low, high: top },
    y: { label: "density", low: 0, high: tall },
    layers: [
      { kind: "bars", ...bars, ink: "--grey", name: "last quarter of the paths" },
      { kind: "line", x, y: exact, ink: "--c1", name: "stationary law" },
      { kind: "line", x, y: normal, ink: "--c4", dash: "2 3", width: 1.6, name: "Boltzmann" },
    ],
  };
}

/** @param {State} state @param {ReturnType<typeof seen>} of @returns {Figure} */
function tailFigure(state, of) {
  const { mode, late, law } = of;
  const target = number(state, "s");
  const [low, high] = [mode.depth === 1 ? 0.02 * target : 1e-3 * target, 30 * target];
  const x = spaced(low, high, 240, true);
  const exact = onGrid(of, x);
  const bars = histogram(late, low, high, 45, true);
  const most = 3 * Math.max(1e-3, ...[...exact].filter(Number.isFinite), ...bars.y);
  return {
    title: "Its tail, on logarithmic axes",
    text: `the density falls like s to the power ${shown(mode.depth === 1 ? -2 - 1 / mode.temperature : -5 + 3 / mode.depth)}`,
    x: { label: "strength s", low, high, log: true },
    y: { label: "density", low: most * 1e-8, high: most, log: true },
    layers: [
      { kind: "bars", ...bars, ink: "--grey", name: "last quarter of the paths" },
      ...(law.point === null
        ? [/** @type {Layer} */ ({ kind: "line", x, y: exact, ink: "--c1", name: "stationary law" })]
        : []),
    ],
  };
}

/** @param {State} state @param {ReturnType<typeof seen>} of @param {Ensemble | null} ensemble @returns {import("../types").Shown[]} */
function numbers(state, { mode, law, late, average }, ensemble) {
  const inTime = (/** @type {number} */ z) => (ensemble?.law ? quantile(ensemble.law, SAVES - 1, z) : null);
  const [s0, target, L] = ["s0", "s", "L"].map((key) => number(state, key));
  const sd = Math.sqrt(late.reduce((sum, v) => sum + (v - average) ** 2, 0) / late.length);
  return [
    {
      key: "critical",
      label: `critical temperature T_c${L === 2 ? "" : ": only depth 2 has one"}`,
      value: criticalTemperature(mode),
    },
    { key: "peak", label: "noise peaks at s", value: noisePeak(mode) },
    { key: "half", label: "gradient flow: time to s*/2", value: flowTime(target / 2, s0, target, L) },
    { key: "plateau", label: "gradient flow: length of the plateau, for small s₀", value: plateauTime(s0, target, L) },
    { key: "mean", label: "stationary law: mean", value: law.mean },
    { key: "sd", label: "stationary law: standard deviation", value: law.sd },
    { key: "boltzmann", label: "Boltzmann: standard deviation", value: Math.sqrt(boltzmannVariance(mode)) },
    { key: "run_mean", label: "paths: mean", value: average },
    { key: "run_sd", label: "paths: standard deviation", value: sd },
    ...LEVELS.map(([key, z, name]) => ({ key, label: `law at the last time: ${name}`, value: inTime(z) })),
    { key: "lr", label: "learning rate T·B", value: number(state, "T") * number(state, "B") },
  ];
}

/** Warnings. @param {State} state @param {ReturnType<typeof seen>} of @param {Ensemble | null} ensemble */
function notes(state, { mode, law, average }, ensemble) {
  const [T, B, L, target] = ["T", "B", "L", "s"].map((key) => number(state, key));
  const found = [];
  const edge = stabilityEdge(L, target, B);
  if (T * B > edge)
    found.push(
      `At this T and B the learning rate is ${shown(T * B)}, beyond the stability edge ${shown(edge)} of batches of ${B}: discrete SGD cannot settle at s*.`,
    );
  if (Number.isNaN(law.mean))
    found.push(
      `T is above T_c = ${shown(criticalTemperature(mode))}, and there is no label noise: paths stay where they arrive, at 0 or at s*, and the start decides how many end at each.`,
    );
  if (law.point === 0) found.push(`T is above T_c = ${shown(criticalTemperature(mode))}: all paths end at s = 0.`);
  if (ensemble?.law === null)
    found.push(
      mode.floor === 0
        ? "Without label noise the law becomes ever narrower around s*: the bands are those of the paths."
        : "The law in time cannot be computed here to 2·10⁻³, as arrival times vary by far more than a rise takes: the bands are those of the paths. A larger s₀ brings the law back.",
    );
  const done = ensemble?.done && ensemble.count === ALL;
  const chance = (4 * law.sd) / Math.sqrt(ALL); // paths are independent, their late saves may not be
  if (done && Math.abs(average - law.mean) > 0.05 * Math.max(law.mean, 0.05 * target) + chance)
    found.push(
      law.point === 0
        ? "The time shown is too short to see the whole collapse: some paths climb before they fall to 0."
        : "The paths have not forgotten their start yet: histogram and law differ.",
    );
  return found;
}

/** What to look at. @param {State} state @param {ReturnType<typeof seen>} of */
function look(state, { mode, law }) {
  const [target, T] = [number(state, "s"), number(state, "T")];
  const [peak, spread] = [noisePeak(mode), Math.sqrt(boltzmannVariance(mode))];
  if (Number.isNaN(law.point))
    return "Without label noise all noise vanishes at s*, and above T_c also at 0: follow the paths to one or the other. Raise σ a little, and all of them end at 0.";
  if (mode.floor === 0)
    return "Without label noise all noise vanishes in s*: paths that arrive there stay, and the law is a point mass. Raise σ a little, and it becomes a law with a width.";
  if (law.point === 0)
    return "Above T_c the noise wins: follow the paths to s = 0, although gradient flow learns the mode.";
  const apart = law.sd > 1.15 * spread || Math.abs(law.mean - target) > 0.1 * target;
  const compare = `Then compare the law with Boltzmann: at T = ${shown(T)} they ${apart ? "differ" : "nearly agree"}.`;
  if (mode.depth === 1)
    return `One layer has no plateau and no noise peak: the noise falls until s reaches s* = ${shown(target)}, where only label noise remains. ${compare}`;
  if (peak === null)
    return "There is no noise peak here: label noise is so large that the noise grows until the mode is learned. Lower σ to see it appear.";
  return `Look at the dot: the noise is largest at s = ${shown(peak)}, before the mode is learned at s* = ${shown(target)}, and the spread of the paths is widest on that rise. ${compare}`;
}

/** @type {import("../types").View} */
export const mode = {
  key: "mode",
  title: "One mode",
  about:
    "Aligned, balanced weights turn every mode into one scalar equation: here is its noise, its path, and its law.",
  fields: [
    ...MODE_FIELDS.map((field) => (field.key === "sigma" ? { ...field, zero: true } : field)),
    { key: "s0", label: "start s₀", kind: "log", value: 1e-3, low: 1e-6, high: 2 },
    { key: "B", label: "batch size B (sets η = T·B)", kind: "linear", value: 1, low: 1, high: 256, step: 1 },
    { key: "seed", label: "seed", kind: "linear", value: 0, low: 0, high: 99, step: 1 },
  ],
  presets: [
    { name: "Noise peaks halfway", values: { L: 2, s: 1, sigma: 0.3, T: 0.05 } },
    { name: "Far from Boltzmann", values: { L: 2, s: 1, sigma: 0.5, T: 0.3, s0: 0.05 } },
    { name: "Three layers, hot", values: { L: 3, s: 1.5, sigma: 0.55, T: 0.3, s0: 0.05 } },
    { name: "Above T_c: collapse", values: { L: 2, s: 1, sigma: 2, T: 0.5, s0: 0.5 } },
    { name: "No label noise: a point mass", values: { L: 2, s: 1, sigma: 0, T: 0.3, s0: 0.05 } },
    { name: "Linear regression", values: { L: 1, s: 1, sigma: 0.5, T: 0.1, s0: 0.01 } },
  ],
  request(state, full) {
    return {
      job: "paths",
      mode: modeOf(state),
      start: number(state, "s0"),
      times: [...timesOf(state)],
      n: full ? ALL : FEW,
      seed: number(state, "seed"),
      tolerance: TOLERANCE,
      law: full,
    };
  },
  take: (known, part) => takePaths(known, part, ALL, SAVES),
  draw(state, known) {
    const ensemble = /** @type {Ensemble | null} */ (known);
    const of = seen(state, ensemble);
    const { mode: one } = of;
    const [L, target, sigma] = ["L", "s", "sigma"].map((key) => number(state, key));
    const peak = noisePeak(one);
    const formulas = [
      `ds = (L s^{2κ}(s^*−s) + \\frac{L(L−1)}{2} T s^{3−4/L} g(s)) dt + L s^{2κ} \\sqrt{T g(s)} dW ,  g(s) = 2(s−${tex(target)})^2 + ${tex(sigma * sigma)} ,  κ = 1−\\frac{1}{L} = ${tex(1 - 1 / L)}`,
    ];
    if (peak !== null)
      formulas.push(`s_{\\text{peak}} = s^* − \\frac{s^* + \\sqrt{{s^*}^2 − 4κ(2κ+1)σ^2}}{2(2κ+1)} = ${tex(peak)}`);
    if (L === 2)
      formulas.push(
        `T_c = \\frac{2s^*}{2{s^*}^2+σ^2} = \\frac{${tex(2 * target)}}{${tex(alpha3(one))}} = ${tex(criticalTemperature(one))}`,
      );
    formulas.push(
      `\\text{sd}_{\\text{Boltzmann}} = \\sqrt{\\frac{L}{2} {s^*}^{2κ} T σ^2} = ${tex(Math.sqrt(boltzmannVariance(one)))}`,
    );
    return {
      figures: [pathsFigure(state, ensemble, of), noiseFigure(state, of), lawFigure(state, of), tailFigure(state, of)],
      formulas,
      numbers: numbers(state, of, ensemble),
      look: look(state, of),
      notes: notes(state, of, ensemble),
    };
  },
  code(state) {
    const parts = partsOf(state);
    const [s0, seed] = ["s0", "seed"].map((key) => number(state, key));
    const end = timesOf(state)[SAVES - 1];
    const python = modePython(
      parts,
      `times = np.linspace(0, ${end}, ${SAVES})
paths = mode.simulate(${s0}, times, trajectories=${ALL}, seed=${seed}, tol=${TOLERANCE})
law = mode.stationary(${parts.noise === 0 ? `start=${s0}` : ""})
late = paths[:, -${LATE}:]
print(mode.noise_peak(), law.mean(), law.std(), late.mean(), late.std())
(then,) = mode.evolve(${s0}, [${end}], tol=1e-4)
print(*then.ppf([0.05, 0.5, 0.95]))`,
      "import numpy as np",
    );
    return { python, toml: modeToml(parts, s0, end, ALL, seed) };
  },
  csv(state, known) {
    const ensemble = /** @type {Ensemble | null} */ (known);
    const times = timesOf(state);
    /** @type {number[][]} */
    const rows = [];
    const law = ensemble?.law;
    const levels = [...times.keys()].map((j) => LEVELS.map(([, z]) => (law ? quantile(law, j, z) : NaN)));
    for (let i = 0; i < (ensemble?.count ?? 0); i++)
      for (let j = 0; j < SAVES; j++) rows.push([i, times[j], ensemble?.strengths[i * SAVES + j] ?? NaN, ...levels[j]]);
    return csv(["trajectory", "time", "strength", ...LEVELS.map(([key]) => key)], rows);
  },
};
