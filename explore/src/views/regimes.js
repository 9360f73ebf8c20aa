/** Regimes: temperature against label noise at depth 2; drag the point, and the density morphs. */

import { collapseRate, collapseTemperature } from "../collapse.js";
import { csv, modePython, networkToml } from "../code.js";
import { shown } from "../draw.js";
import { number as tex } from "../formula.js";
import { spaced } from "../modes.js";
import { number } from "../networks.js";
import { between, density } from "../stationary.js";
import {
  alpha3,
  exponentAtZero,
  extrema,
  gaussianMode,
  gradientVariance,
  regime,
  regimeTemperatures,
  stabilityEdge,
} from "../theory.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Figure} Figure @typedef {import("../types").Layer} Layer */

const SIGMA = [0.05, 20];
const HEAT = [5e-4, 5];
const CELLS = 80;

/** What each regime means. @type {Record<string, string>} */
const MEANING = {
  learned: "T < T_c/3: the density vanishes at 0 and has one maximum, at s > 0.",
  bimodal: "T_c/3 ≤ T < T_c: the density is infinite at 0 and has a second maximum, at s > 0.",
  "at zero": "T_c/3 ≤ T < T_c: the density decreases from an infinite value at 0, now the most likely strength.",
  collapsing: "T ≥ T_c: all mass ends at 0, but paths linger near a second maximum.",
  collapsed: "T ≥ T_c: all mass ends at 0.",
};
const SHADES = { learned: 0.06, bimodal: 0.3, "at zero": 0.5, collapsing: 0.72, collapsed: 1 };

/** @type {Map<string, Layer[]>} */
const maps = new Map();

/** The map behind the point: regimes, their edges, and those of discrete SGD. @param {number} target @param {number} batch */
function map(target, batch) {
  const key = `${target} ${batch}`;
  const kept = maps.get(key);
  if (kept) return kept;
  const x = spaced(SIGMA[0], SIGMA[1], CELLS + 1, true);
  const y = spaced(HEAT[0], HEAT[1], CELLS + 1, true);
  const z = new Float64Array(CELLS * CELLS);
  /** @type {Record<string, [number, number, number]>} */
  const places = {};
  for (let i = 0; i < CELLS; i++)
    for (let j = 0; j < CELLS; j++) {
      const at = [Math.log(x[i] * x[i + 1]) / 2, Math.log(y[j] * y[j + 1]) / 2];
      const name = regime(target, Math.exp(at[0]), Math.exp(at[1]));
      z[i * CELLS + j] = SHADES[name];
      const place = (places[name] ??= [0, 0, 0]);
      place[0] += at[0];
      place[1] += at[1];
      place[2]++;
    }
  const sigmas = spaced(SIGMA[0], SIGMA[1], 61, true);
  const edges = sigmas.map((sigma) => regimeTemperatures(target, sigma).critical);
  const sgd = sigmas.map((sigma) => collapseTemperature(batch, target, sigma) ?? NaN);
  /** @type {Layer[]} */
  const layers = [
    { kind: "heat", x, y, z },
    { kind: "line", x: sigmas, y: edges, ink: "--c2", name: "T_c" },
    { kind: "line", x: sigmas, y: edges.map((T) => T / 3), ink: "--c2", dash: "6 4", name: "T_c/3" },
    { kind: "line", x: sigmas, y: sgd, ink: "--c3", dash: "2 3", name: `SGD with B = ${batch} collapses above` },
    {
      kind: "marks",
      at: [stabilityEdge(2, target, batch) / batch],
      along: "y",
      ink: "--c4",
      dash: "8 3 2 3",
      name: "stability edge of SGD",
    },
  ];
  for (const [name, [a, b, count]] of Object.entries(places))
    layers.push({ kind: "text", x: Math.exp(a / count), y: Math.exp(b / count), text: name });
  if (maps.size > 40) maps.clear();
  maps.set(key, layers);
  return layers;
}

/** @param {State} state */
const here = (state) => ({
  target: number(state, "s"),
  noise: number(state, "sigma"),
  T: number(state, "T"),
  batch: number(state, "B"),
});

/** @param {State} state */
function modeOf(state) {
  const { target, noise, T } = here(state);
  return gaussianMode(2, target, noise, T);
}

/** @param {State} state @returns {Figure} */
function mapFigure(state) {
  const { target, noise, T, batch } = here(state);
  return {
    title: "Temperature against label noise",
    text: `the point lies in the regime “${regime(target, noise, T)}”`,
    x: { label: "label noise σ", low: SIGMA[0], high: SIGMA[1], log: true },
    y: { label: "temperature T", low: HEAT[0], high: HEAT[1], log: true },
    layers: [
      ...map(target, batch),
      {
        kind: "handle",
        x: noise,
        y: T,
        key: "T",
        keyX: "sigma",
        moves: "xy",
        label: "temperature and label noise, drag or use arrow keys",
      },
    ],
    wide: true,
  };
}

/** The density, or above T_c the speed density, which is no law. @param {State} state */
function curve(state) {
  const { target, noise, T } = here(state);
  const mode = modeOf(state);
  const law = density(mode);
  const x = spaced(1e-3 * target, 2.2 * target, 320);
  if (law.point === null) return { x, y: x.map((s) => between(law.s, law.p, s)), law };
  const end = alpha3(mode);
  const log = (/** @type {number} */ s) => {
    const g = gradientVariance(mode, s);
    // ∫ (s − s*)/(s g) ds in closed form: partial fractions.
    const integral =
      (-target / end) * Math.log(s) +
      (target / (2 * end)) * Math.log(g) +
      ((1 - (2 * target * target) / end) / (noise * Math.SQRT2)) * Math.atan((Math.SQRT2 * (s - target)) / noise);
    return -1.5 * Math.log(s) - Math.log(g) - integral / T;
  };
  const at = log(0.5 * target);
  return { x, y: x.map((s) => Math.exp(log(s) - at)), law };
}

/** @param {State} state @param {boolean} logs @returns {Figure} */
function densityFigure(state, logs) {
  const { target, noise, T } = here(state);
  const { x, y, law } = curve(state);
  const { maxima, minima } = extrema(target, noise, T);
  const inner = [...y].filter((_, i) => x[i] > 0.12 * target);
  const top = 1.4 * Math.max(...inner, 1e-9);
  /** @type {Layer[]} */
  const layers = [
    {
      kind: "line",
      x,
      y,
      ink: "--c1",
      name: law.point === null ? "stationary density" : "speed density: no law, mass ends at 0",
    },
  ];
  if (!logs) {
    layers.push({ kind: "marks", at: maxima, along: "x", ink: "--c3", dash: "6 3", name: "maximum" });
    layers.push({ kind: "marks", at: minima, along: "x", ink: "--c4", dash: "2 3", name: "minimum" });
    layers.push({ kind: "marks", at: [target], along: "x", ink: "--grey", name: "s*" });
  }
  return {
    title: logs ? "The same, on logarithmic axes" : "The density of s",
    text:
      law.point === null
        ? `mean ${shown(law.mean)}; at 0 it goes like s to the power ${shown(exponentAtZero(modeOf(state)))}`
        : "no stationary law: all mass ends at 0",
    x: { label: "strength s", low: logs ? x[0] : 0, high: x[x.length - 1], log: logs },
    y: {
      label: law.point === null ? "density" : "relative density",
      low: logs ? top * 1e-5 : 0,
      high: logs ? Math.max(top, y[0] * 2) : top,
      log: logs,
    },
    layers,
  };
}

/** @param {State} state @returns {import("../types").Shown[]} */
function numbers(state) {
  const { target, noise, T, batch } = here(state);
  const { zero, critical, bump } = regimeTemperatures(target, noise);
  const mode = modeOf(state);
  const law = density(mode);
  const { maxima, minima } = extrema(target, noise, T);
  return [
    { key: "regime", label: "regime", value: regime(target, noise, T) },
    { key: "zero", label: "T_c/3: density infinite at 0 above", value: zero },
    { key: "critical", label: "T_c: all mass at 0 above", value: critical },
    { key: "bump", label: "no maximum at s > 0 above", value: bump },
    { key: "exponent", label: "power of s near 0", value: exponentAtZero(mode) },
    { key: "maximum", label: "most likely strength s > 0", value: maxima[0] ?? null },
    { key: "minimum", label: "least likely strength", value: minima[0] ?? null },
    { key: "mean", label: "mean", value: law.mean },
    { key: "sd", label: "standard deviation", value: law.sd },
    {
      key: "sgd_rate",
      label: "discrete SGD near 0: change of log a = ½ log s in a step",
      value: collapseRate(T * batch, batch, target, noise),
    },
  ];
}

/** @type {import("../types").View} */
export const regimes = {
  key: "regimes",
  title: "Regimes",
  about: "At depth 2 temperature decides whether a mode is learned at all. Drag the point through the five regimes.",
  fields: [
    { key: "s", label: "target s*", kind: "linear", value: 1, low: 0.1, high: 4, step: 0.01 },
    { key: "sigma", label: "label noise σ", kind: "log", value: 1, low: SIGMA[0], high: SIGMA[1] },
    { key: "T", label: "temperature T", kind: "log", value: 0.1, low: HEAT[0], high: HEAT[1] },
    { key: "B", label: "batch size B of SGD", kind: "linear", value: 1, low: 1, high: 64, step: 1 },
  ],
  presets: [
    { name: "Learned", values: { sigma: 1, T: 0.1 } },
    { name: "Bimodal", values: { sigma: 0.5, T: 0.4 } },
    { name: "At zero", values: { sigma: 1, T: 0.5 } },
    { name: "Collapsing", values: { sigma: 0.5, T: 1.2 } },
    { name: "Collapsed", values: { sigma: 2, T: 1 } },
    { name: "SGD collapses just below T_c", values: { sigma: 10, T: 0.019 } },
  ],
  request: () => null,
  take: (known) => known,
  draw(state) {
    const { target, noise, T, batch } = here(state);
    const { critical } = regimeTemperatures(target, noise);
    const name = regime(target, noise, T);
    const edge = stabilityEdge(2, target, batch);
    const notes = [];
    if (T * batch > edge)
      notes.push(
        `The learning rate T·B = ${shown(T * batch)} is beyond the stability edge ${shown(edge)} of batches of ${batch}: discrete SGD cannot settle at s*.`,
      );
    const falls = collapseRate(T * batch, batch, target, noise) < 0;
    if (falls !== T > critical)
      notes.push(
        `T_c is a statement on the Langevin model: discrete SGD with B = ${batch} ${falls ? "collapses" : "does not collapse"} here.`,
      );
    return {
      figures: [mapFigure(state), densityFigure(state, false), densityFigure(state, true)],
      formulas: [
        `T_c = \\frac{2s^*}{2{s^*}^2+σ^2} = ${tex(critical)} ,  \\frac{T}{T_c} = ${tex(T / critical)}`,
        `p(s) ∝ s^{s^*/(Tα_3)−3/2} \\text{_near_} 0 ,  \\frac{s^*}{Tα_3}−\\frac{3}{2} = ${tex(exponentAtZero(modeOf(state)))} ,  α_3 = 2{s^*}^2+σ^2`,
      ],
      numbers: numbers(state),
      look: `${name[0].toUpperCase()}${name.slice(1)}. ${MEANING[name]} Drag the point up at fixed σ and watch the mass move to 0.`,
      notes,
    };
  },
  code(state) {
    const { target, noise, T, batch } = here(state);
    const python = modePython(
      { depth: 2, target, noise, temperature: T },
      `phases = sc.theory.phases
print(phases.regime(mode), phases.regime_temperatures(mode))
print(phases.collapse_rate(lr=${T * batch}, batch_size=${batch}, target=${target}, label_noise=${noise}))`,
    );
    const experiment = {
      widths: [1, 1, 1],
      strengths: [target],
      noise,
      balanced: true,
      scale: Math.sqrt(target),
      n: 1000,
      seed: 0,
      steps: 6000,
      saves: 60,
      float32: true,
    };
    const beyond = T * batch > stabilityEdge(2, target, batch);
    const warning = beyond ? "# The learning rate is beyond the stability edge: trajectories diverge.\n" : "";
    return { python, toml: warning + networkToml(experiment, ["SGD", { lr: T * batch, batch_size: batch }]) };
  },
  csv(state) {
    const { x, y } = curve(state);
    return csv(
      ["strength", "density"],
      [...x].map((s, i) => [s, y[i]]),
    );
  },
};
