/** Balance: what separates the layers of a network; conserved by flow, dissipated by the noise of SGD. */

import { networkCode } from "../code.js";
import { shown } from "../draw.js";
import { number as tex } from "../formula.js";
import {
  FEW,
  SAVES,
  cutShort,
  diverged,
  means,
  networkCsv,
  number,
  savedSteps,
  stepsFor,
  strengthsOf,
  takeSave,
} from "../networks.js";
import { stabilityEdge } from "../theory.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Figure} Figure @typedef {import("../networks.js").Runs} Runs */

const METHODS = ["gradient flow", "SGD", "isotropic", "SGD with momentum"];
const LOOKS = [
  ["--c1", undefined],
  ["--c2", "7 3"],
  ["--c3", "2 3"],
  ["--c4", "8 3 2 3"],
];
const NAMES = ["imbalance", "imbalance_trace", "mode_strength", "norms"];

/** @param {State} state */
function experiment(state) {
  const [dx, h, dy, lr] = ["dx", "h", "dy", "lr"].map((key) => number(state, key));
  const modes = Math.min(dx, dy);
  const given = strengthsOf(state).slice(0, modes);
  const strengths = [...Array(modes).keys()].map((i) => given[i] ?? 0);
  const time = number(state, "time");
  return {
    widths: [dx, h, dy],
    strengths,
    noise: number(state, "sigma"),
    balanced: false,
    scale: [number(state, "a1"), number(state, "a2")],
    n: number(state, "n"),
    seed: number(state, "seed"),
    steps: stepsFor(time, lr, 12000),
    saves: SAVES,
    float32: true,
  };
}

/** Under momentum μ the clock is η/(1 − μ): a smaller rate keeps the same pace. @param {State} state */
const rates = (state) => {
  const [lr, mu] = [number(state, "lr"), number(state, "mu")];
  return [lr, lr, lr, +(lr * (1 - mu)).toPrecision(12)];
};

/** @param {State} state @returns {Record<string, import("../code.js").Method>} */
function methods(state) {
  const [lr, batch_size, momentum] = ["lr", "B", "mu"].map((key) => number(state, key));
  return {
    "gradient flow": ["GradientFlow", { lr }],
    SGD: ["SGD", { lr, batch_size }],
    isotropic: ["Langevin", { lr, batch_size, noise: "isotropic" }],
    "SGD with momentum": ["SGD", { lr: rates(state)[3], batch_size, momentum }],
  };
}

/** The ratio ‖W₂‖²/‖W₁‖² of the means. @param {Runs} runs @param {number} k */
function ratio(runs, k) {
  const [below, above] = [0, 1].map((l) => means(runs, k, "norms", l, 2));
  return below.map((norm, i) => above[i] / norm);
}

/** @param {State} state @param {Runs | null} runs @param {string} title @param {string} label @param {(runs: Runs, k: number) => Float64Array} of @param {Partial<import("../types").Axis>} axis @param {import("../types").Layer[]} more @returns {Figure} */
function figure(state, runs, title, label, of, axis, more = []) {
  const setting = experiment(state);
  const lr = number(state, "lr");
  const x = savedSteps(setting)
    .map((step) => step * lr)
    .slice(0, runs?.saves ?? 0);
  const curves = runs ? METHODS.map((_, k) => of(runs, k)) : [];
  // Isotropic noise may leave the figure: it would hide the others.
  const all = curves
    .flatMap((curve, k) => (k === 2 ? [] : [...curve]))
    .concat(more.flatMap((layer) => (layer.kind === "marks" ? layer.at : [])))
    .filter(Number.isFinite);
  const [low, high] = [Math.min(...all, 0), Math.max(...all, 1e-9)];
  const room = 0.25 * (high - low);
  return {
    title,
    text: curves.map((curve, k) => `${METHODS[k]} ends at ${shown(curve[curve.length - 1])}`).join(", "),
    x: { label: "time η·step/(1−μ)", low: 0, high: setting.steps * lr },
    y: { label, low: low - room, high: high + room, ...axis },
    layers: [
      ...curves.map((y, k) => ({
        kind: /** @type {const} */ ("line"),
        x,
        y,
        ink: String(LOOKS[k][0]),
        dash: LOOKS[k][1],
        name: METHODS[k],
      })),
      ...more,
    ],
  };
}

// The layers start at different scales, so that there is something to balance.
/** @type {import("../types").View} */
export const balance = {
  key: "balance",
  title: "Balance",
  about:
    "Gradient flow conserves the imbalance of neighbouring layers. The noise of SGD dissipates it; isotropic noise does not.",
  fields: [
    { key: "s", label: "strengths s*", kind: "list", value: "2, 1", low: 0, high: 6, most: 8 },
    { key: "dx", label: "inputs", kind: "linear", value: 2, low: 1, high: 8, step: 1 },
    { key: "h", label: "hidden width", kind: "linear", value: 4, low: 1, high: 16, step: 1 },
    { key: "dy", label: "outputs", kind: "linear", value: 4, low: 1, high: 8, step: 1 },
    { key: "sigma", label: "label noise σ", kind: "linear", value: 1.2, low: 0, high: 3, step: 0.05 },
    { key: "lr", label: "learning rate η", kind: "log", value: 0.01, low: 1e-3, high: 0.2 },
    { key: "B", label: "batch size B", kind: "linear", value: 1, low: 1, high: 64, step: 1 },
    { key: "mu", label: "momentum μ", kind: "linear", value: 0.8, low: 0.05, high: 0.98, step: 0.01 },
    { key: "a1", label: "initial W₁, scale", kind: "linear", value: 0.9, low: 0.05, high: 1.5, step: 0.05 },
    { key: "a2", label: "initial W₂, scale", kind: "linear", value: 0.3, low: 0.05, high: 1.5, step: 0.05 },
    { key: "time", label: "time", kind: "log", value: 80, low: 2, high: 400 },
    { key: "n", label: "trajectories", kind: "linear", value: 16, low: 4, high: 64, step: 4 },
    { key: "seed", label: "seed", kind: "linear", value: 0, low: 0, high: 99, step: 1 },
  ],
  presets: [
    { name: "Noise balances noise, not norms", values: {} },
    { name: "As many outputs as inputs", values: { dx: 3, dy: 3, s: "2, 1, 0.5" } },
    { name: "No label noise: balance stops improving", values: { sigma: 0 } },
    { name: "Large batches are slower", values: { B: 32 } },
  ],
  request(state, full) {
    const { widths, strengths, noise, scale, n, seed, steps, saves } = experiment(state);
    const common = {
      widths,
      strengths,
      noise,
      batch: number(state, "B"),
      scale,
      balanced: false,
      n: full ? n : FEW,
      seed,
    };
    const [flow, sgd, isotropic, momentum] = rates(state).map((lr) => ({ ...common, lr }));
    const settings = [
      { ...flow, source: "flow" },
      { ...sgd, source: "sgd" },
      { ...isotropic, source: "isotropic" },
      { ...momentum, source: "sgd", momentum: number(state, "mu") },
    ];
    return { job: "networks", settings, steps, saves, names: NAMES };
  },
  take: takeSave,
  draw(state, known) {
    const runs = /** @type {Runs | null} */ (known);
    const [dx, dy, lr, B, sigma] = ["dx", "dy", "lr", "B", "sigma"].map((key) => number(state, key));
    const { strengths, steps } = experiment(state);
    const edge = stabilityEdge(2, Math.max(...strengths, 0.1));
    const notes = cutShort(number(state, "time"), steps, lr);
    if (lr > edge) notes.push(`η = ${shown(lr)} is beyond the stability edge ${shown(edge)} of the strongest mode.`);
    diverged(runs, "mode_strength", strengths.length).forEach(
      (count, k) => count && notes.push(`${METHODS[k]}: ${count} trajectories diverged and are left out.`),
    );
    const ends = runs?.done ? METHODS.map((_, k) => ratio(runs, k)[runs.saves - 1]) : [];
    return {
      figures: [
        figure(state, runs, "Imbalance ‖W₂ᵀW₂ − W₁W₁ᵀ‖", "imbalance", (r, k) => means(r, k, "imbalance", 0, 1), {}),
        figure(state, runs, "‖W₂‖²/‖W₁‖² goes to dy/dx", "ratio of norms", ratio, { low: 0 }, [
          { kind: "marks", at: [dy / dx], along: "y", ink: "--ink", name: "dy/dx" },
        ]),
        figure(state, runs, "‖W₂‖² − ‖W₁‖²", "signed imbalance", (r, k) => means(r, k, "imbalance_trace", 0, 1), {}),
        figure(
          state,
          runs,
          "The strongest mode",
          "strength s",
          (r, k) => means(r, k, "mode_strength", 0, strengths.length),
          {},
          [{ kind: "marks", at: [strengths[0]], along: "y", ink: "--grey", name: "s*" }],
        ),
      ],
      formulas: [
        `\\frac{d}{dt}(‖W_2‖^2−‖W_1‖^2) = Tσ^2(d_y‖W_1‖^2 − d_x‖W_2‖^2) \\text{_once_learned} ,  Tσ^2 = ${tex((lr / B) * sigma * sigma)} ,  \\frac{‖W_2‖^2}{‖W_1‖^2} → \\frac{d_y}{d_x} = ${tex(dy / dx)}`,
        `ΔQ = η^2(g_2^′g_2 − g_1g_1^′) ,  Q = W_2^′W_2 − W_1W_1^′ \\text{_:_exact_in_every_step}`,
      ],
      numbers: [
        { key: "goal", label: "dy/dx", value: dy / dx },
        ...ends.map((value, k) => ({ key: `ratio_${k}`, label: `${METHODS[k]}: final ‖W₂‖²/‖W₁‖²`, value })),
      ],
      look: "Look at the ratio of norms: gradient flow keeps the imbalance of its start; SGD, with and without momentum, moves to dy/dx, where the noise of both layers is equal, not their norms. Isotropic noise makes weights grow instead.",
      notes,
      columns: 2,
    };
  },
  code: (state) => networkCode(experiment(state), methods(state), "imbalance"),
  csv: (state, known) =>
    networkCsv(known, METHODS, experiment(state), number(state, "lr"), "imbalance", "interface", 1),
};
