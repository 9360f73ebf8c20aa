/** Saddle to saddle: four methods from the same start learn mode by mode; the noise under each plateau. */

import { networkCode } from "../code.js";
import { shown } from "../draw.js";
import { number as texNumber } from "../formula.js";
import {
  DASHES,
  FEW,
  INKS,
  SAVES,
  cutShort,
  diverged,
  means,
  networkCsv,
  number,
  passage,
  pathsOf,
  savedSteps,
  stepsFor,
  strengthsOf,
  takeSave,
} from "../networks.js";
import { collapseRate } from "../collapse.js";
import { criticalTemperature, flowTime, gaussianMode, halfTimes, stabilityEdge } from "../theory.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Figure} Figure @typedef {import("../networks.js").Runs} Runs */

const METHODS = ["GD", "SGD", "Langevin", "isotropic"];
/** @type {import("../engine.js").Setting["source"][]} */
const SOURCES = ["gd", "sgd", "gradient", "isotropic"];
const DRAWN = 6;

/** The time that is wanted. @param {State} state */
function length(state) {
  const [L, s0] = ["L", "s0"].map((key) => number(state, key));
  const weakest = Math.min(...strengthsOf(state));
  return number(state, "time") * 1.7 * flowTime(weakest / 2, Math.min(s0, weakest / 4), weakest, L);
}

/** @param {State} state */
function experiment(state) {
  const [L, h, lr, s0] = ["L", "h", "lr", "s0"].map((key) => number(state, key));
  const strengths = strengthsOf(state);
  const widths = [strengths.length, ...Array(L - 1).fill(h), strengths.length];
  return {
    widths,
    strengths,
    noise: number(state, "sigma"),
    balanced: state.start === "balanced",
    scale: s0 ** (1 / L),
    n: number(state, "n"),
    seed: number(state, "seed"),
    steps: stepsFor(length(state), lr),
    saves: SAVES,
    float32: true,
  };
}

/** Half-times in theory under GD (T = 0) and under SGD. @param {State} state @param {boolean} noisy */
function predicted(state, noisy) {
  const { strengths, noise } = experiment(state);
  const [L, lr, B, s0] = ["L", "lr", "B", "s0"].map((key) => number(state, key));
  if (state.start !== "balanced") return strengths.map(() => NaN);
  if (L === 2 && s0 < Math.min(...strengths) / 2) return halfTimes(strengths, s0, noisy ? lr / B : 0, noise, lr);
  return strengths.map((s) => flowTime(s / 2, s0, s, L));
}

/** T_c of a mode by itself, of the strongest if none is named. @param {State} state @param {number} [strength] */
const critical = (state, strength = strengthsOf(state)[0]) =>
  criticalTemperature(gaussianMode(number(state, "L"), strength, number(state, "sigma"), 0));

const DIVERGED =
  "GD learns the modes, but most trajectories of SGD diverge: at strengths that noise has raised it raises them further, faster than the drift brings them back. Lower η or σ, or raise B.";

/** What to look at. @param {State} state */
function look(state) {
  const [lr, B] = [number(state, "lr"), number(state, "B")];
  const [T, strengths] = [lr / B, strengthsOf(state)];
  const lost = strengths.find((s) => T >= critical(state, s));
  if (lost === undefined)
    return "Look at the order: SGD and its Langevin model climb the same stairs as GD, later by the noise of the stronger modes; under each plateau the noise of the waiting mode is tiny; it grows as the mode is learned, and peaks on the way where s* is large beside σ. The control, isotropic noise of the same size, kicks all modes at once, so that weak ones leave their saddle early.";
  if (lost < strengths[0])
    return `T = ${shown(T)} is above T_c = ${shown(critical(state, lost))} of the mode s* = ${shown(lost)}: GD learns it, SGD and Langevin dynamics do not, as its noise is too strong. Lower η or raise B, and they climb the stairs of GD.`;
  const above = `T = ${shown(T)} is above T_c = ${shown(critical(state))} of the strongest mode`;
  if (strengths.length > 1)
    return `${above}. GD learns all modes; under SGD and Langevin dynamics none stays learned, as noise also couples the modes: many strengths fall near 0, others grow until their trajectory diverges. Keep one strength to see a network collapse to 0.`;
  if (collapseRate(lr, B, strengths[0], number(state, "sigma")) > 0)
    return `${above}, a statement on the Langevin model in continuous time: with steps as large as these SGD does not collapse to 0. Raise σ and lower η to see it collapse.`;
  return `${above}. Look at the paths: GD learns the mode; under SGD and Langevin dynamics its noise wins, and the paths fall to 0, some after they have climbed. Lower η or raise B to cross T_c.`;
}

/** @param {State} state @returns {Record<string, import("../code.js").Method>} */
function methods(state) {
  const [lr, batch_size] = [number(state, "lr"), number(state, "B")];
  return {
    GD: ["GD", { lr }],
    SGD: ["SGD", { lr, batch_size }],
    Langevin: ["Langevin", { lr, batch_size }],
    isotropic: ["Langevin", { lr, batch_size, noise: "isotropic" }],
  };
}

/** @param {State} state @param {Runs | null} runs @param {number} k @returns {Figure} */
function strengthFigure(state, runs, k) {
  const { strengths, steps } = experiment(state);
  const lr = number(state, "lr");
  const times = savedSteps(experiment(state)).map((step) => step * lr);
  const here = times.slice(0, runs?.saves ?? 0);
  /** @type {import("../types").Layer[]} */
  const layers = [];
  /** @type {string[]} */
  const spoken = [];
  strengths.forEach((s, mode) => {
    if (!runs) return;
    const { paths, n } = pathsOf(runs, k, "mode_strength", mode, strengths.length, DRAWN);
    layers.push({ kind: "paths", x: here, y: paths, count: n, ink: INKS[mode % 6] });
    const mean = means(runs, k, "mode_strength", mode, strengths.length);
    layers.push({
      kind: "line",
      x: here,
      y: mean,
      ink: INKS[mode % 6],
      dash: DASHES[mode % 6],
      name: `s* ${shown(s)}`,
    });
    spoken.push(`mode ${mode + 1} ends at ${shown(mean[mean.length - 1])} of ${shown(s)}`);
  });
  layers.push({
    kind: "marks",
    at: predicted(state, k > 0 && k < 3),
    along: "x",
    ink: "--grey",
    name: "half-times in theory",
  });
  layers.push({ kind: "marks", at: [times[number(state, "at")]], along: "x", ink: "--ink", dash: "1 0" });
  return {
    title: `${METHODS[k]}: mode strengths`,
    text: spoken.join(", "),
    x: { label: "time η·step", low: 0, high: steps * lr },
    y: { label: "strength s", low: -0.1 * strengths[0], high: 1.25 * strengths[0] },
    layers,
  };
}

/** @param {State} state @param {Runs | null} runs @param {number} k @returns {Figure} */
function noiseFigure(state, runs, k) {
  const { strengths, steps } = experiment(state);
  const lr = number(state, "lr");
  const here = savedSteps(experiment(state))
    .map((step) => step * lr)
    .slice(0, runs?.saves ?? 0);
  const curvesOf = (/** @type {number} */ method) =>
    strengths.map((_, mode) =>
      runs ? means(runs, method, "mode_noise", mode, strengths.length) : new Float64Array(0),
    );
  const most = (/** @type {Float64Array[]} */ curves) =>
    Math.max(1e-6, ...curves.flatMap((curve) => [...curve]).filter(Number.isFinite));
  const curves = curvesOf(k);
  const top = Math.min(most(curves), 100 * most(curvesOf(0))); // trajectories that diverge leave the figure
  return {
    title: k ? `${METHODS[k]}: noise of modes` : "GD: noise of SGD there",
    text: "variance rate of each mode at these weights, on a logarithmic axis",
    x: { label: "time η·step", low: 0, high: steps * lr },
    y: { label: "variance per unit time", low: top * 1e-7, high: top * 3, log: true },
    layers: [
      ...curves.map((y, mode) => ({
        kind: /** @type {const} */ ("line"),
        x: here,
        y,
        ink: INKS[mode % 6],
        dash: DASHES[mode % 6],
      })),
      { kind: "marks", at: [here[number(state, "at")]], along: "x", ink: "--ink", dash: "1 0" },
    ],
  };
}

/** Time of passage, null where the run ends before. @param {number[]} times @param {Float64Array} values @param {number} level */
function passed(times, values, level) {
  const time = passage(times, values, level);
  return Number.isFinite(time) ? time : null;
}

/** @param {State} state @param {Runs | null} runs @returns {import("../types").Shown[]} */
function numbers(state, runs) {
  const { strengths } = experiment(state);
  const [lr, B, L] = ["lr", "B", "L"].map((key) => number(state, key));
  /** @type {import("../types").Shown[]} */
  const all = [
    { key: "T", label: "temperature T = η/B", value: lr / B },
    { key: "critical", label: "critical temperature T_c of the strongest mode", value: critical(state) },
    { key: "edge", label: "stability edge of η, without noise", value: stabilityEdge(L, strengths[0]) },
  ];
  const [still, noisy] = [predicted(state, false), predicted(state, true)];
  const times = savedSteps(experiment(state)).map((step) => step * lr);
  const lost = diverged(runs, "mode_strength", strengths.length);
  strengths.forEach((s, mode) => {
    all.push({ key: `half_gd_${mode}`, label: `half-time of s* ${shown(s)}: GD in theory`, value: still[mode] });
    all.push({
      key: `half_sgd_${mode}`,
      label: `half-time of s* ${shown(s)}: SGD in theory${L === 2 ? "" : ", as T → 0"}`,
      value: noisy[mode],
    });
    if (!runs?.done) return;
    for (const k of [0, 1]) {
      if (2 * lost[k] > number(state, "n")) continue; // no mean path is left
      const mean = means(runs, k, "mode_strength", mode, strengths.length);
      all.push({
        key: `seen_${METHODS[k]}_${mode}`,
        label: `half-time of s* ${shown(s)}: ${METHODS[k]}, mean path`,
        value: passed(times, mean, s / 2),
      });
    }
  });
  return all;
}

/** @type {import("../types").View} */
export const saddle = {
  key: "saddle",
  title: "Saddle to saddle",
  about:
    "A deep linear network learns the modes of its teacher one after the other. Four methods start from the same weights.",
  fields: [
    { key: "s", label: "strengths s*", kind: "list", value: "4, 2, 1, 0.5", low: 0.05, high: 10, most: 6 },
    { key: "L", label: "depth L", kind: "linear", value: 2, low: 2, high: 5, step: 1 },
    { key: "h", label: "hidden width", kind: "linear", value: 8, low: 1, high: 24, step: 1 },
    { key: "sigma", label: "label noise σ", kind: "linear", value: 0.5, low: 0, high: 10, step: 0.05 },
    { key: "lr", label: "learning rate η", kind: "log", value: 0.005, low: 1e-4, high: 0.5 },
    { key: "B", label: "batch size B", kind: "linear", value: 1, low: 1, high: 64, step: 1 },
    { key: "s0", label: "start s₀", kind: "log", value: 1e-3, low: 1e-8, high: 0.1 },
    {
      key: "start",
      label: "initial weights",
      kind: "choice",
      value: "balanced",
      low: 0,
      high: 0,
      choices: [
        ["balanced", "balanced, aligned"],
        ["gaussian", "Gaussian"],
      ],
    },
    { key: "time", label: "length of the run (1: until all are learned)", kind: "log", value: 1, low: 0.2, high: 20 },
    { key: "n", label: "trajectories", kind: "linear", value: 16, low: 4, high: 64, step: 4 },
    { key: "seed", label: "seed", kind: "linear", value: 0, low: 0, high: 99, step: 1 },
    { key: "at", label: "save shown, of 60", kind: "linear", value: 30, low: 0, high: SAVES, step: 1 },
  ],
  presets: [
    { name: "Plateaus, batch 1", values: {} },
    {
      name: "Power-law teacher, Gaussian start",
      values: { s: "4, 2.83, 2.31, 2", start: "gaussian", s0: 1e-2, lr: 0.004 },
    },
    { name: "Three layers", values: { L: 3, s: "3, 2, 1", s0: 1e-3, lr: 0.004 } },
    { name: "Noisy labels slow the weak modes", values: { s: "4, 2, 1", sigma: 2, lr: 0.008, s0: 1e-4 } },
    { name: "Large batch: as GD", values: { B: 64 } },
    { name: "Above T_c: SGD collapses", values: { s: "1", sigma: 10, lr: 0.03, s0: 0.1, time: 3 } },
  ],
  request(state, full) {
    const { widths, strengths, noise, balanced, scale, n, seed, steps, saves } = experiment(state);
    const [lr, batch] = [number(state, "lr"), number(state, "B")];
    const common = { widths, strengths, noise, lr, batch, scale, balanced, n: full ? n : FEW, seed };
    return {
      job: "networks",
      settings: SOURCES.map((source) => ({ ...common, source })),
      steps,
      saves,
      names: ["mode_strength", "mode_noise"],
    };
  },
  take: takeSave,
  draw(state, known) {
    const runs = /** @type {Runs | null} */ (known);
    const { strengths, steps } = experiment(state);
    const [lr, B, L, h] = ["lr", "B", "L", "h"].map((key) => number(state, key));
    const T = lr / B;
    const edge = stabilityEdge(L, strengths[0]);
    const notes = cutShort(length(state), steps, lr);
    if (lr > edge)
      notes.push(
        `η = ${shown(lr)} is beyond the stability edge ${shown(edge)} of the strongest mode: GD cannot settle there.`,
      );
    if (h < strengths.length)
      notes.push(`A hidden width of ${h} holds ${h} of ${strengths.length} modes: the weaker ones cannot be learned.`);
    const lost = diverged(runs, "mode_strength", strengths.length);
    lost.forEach((count, k) => count && notes.push(`${METHODS[k]}: ${count} trajectories diverged.`));
    const half = predicted(state, true);
    const times = (/** @type {string} */ name) =>
      state.start === "balanced" ? name + half.map(texNumber).join(" , ") : "";
    return {
      figures: [0, 1, 2, 3]
        .flatMap((k) => [strengthFigure(state, runs, k)])
        .concat([0, 1, 2, 3].map((k) => noiseFigure(state, runs, k))),
      formulas: [
        `T = \\frac{η}{B} = ${texNumber(T)}`,
        L === 2
          ? `\\text{near_0:_} \\frac{d \\log s_α}{dt} = 2s_α^* − η{s_α^*}^2 − T(2{s_α^*}^2 + σ^2 + Σ_{s_β^*>s_α^*} (\\frac{(s_α^*+s_β^*)^2}{2} + σ^2))${times(" ,  t_{1/2} ≈ ")}`
          : `t_{1/2} = ∫_{s_0}^{s^*/2} \\frac{ds}{L s^{2κ}(s^* − s)} ,  κ = 1−1/L${times(" ,  t_{1/2} = ")}`,
      ],
      numbers: numbers(state, runs),
      look: 2 * lost[1] > number(state, "n") ? DIVERGED : look(state),
      notes,
      columns: 4,
    };
  },
  code: (state) => networkCode(experiment(state), methods(state), "mode_strength"),
  csv: (state, known) =>
    networkCsv(
      known,
      METHODS,
      experiment(state),
      number(state, "lr"),
      "mode_strength",
      "mode",
      strengthsOf(state).length,
    ),
};
