/** Rank: the noise of SGD lowers log det ΘᵀΘ along a line, and eigenvalues fall one after the other. */

import { networkCode } from "../code.js";
import { shown } from "../draw.js";
import { number as tex } from "../formula.js";
import {
  DASHES,
  FEW,
  INKS,
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

const METHODS = ["GD", "SGD"];
const SAVES = 240; // the prediction integrates the loss, which falls fast at first

/** @param {State} state */
function experiment(state) {
  const [dx, dy, lr] = ["dx", "dy", "lr"].map((key) => number(state, key));
  const h = Math.max(number(state, "h"), dx + dy);
  const given = strengthsOf(state);
  const strengths = [...Array(Math.min(dx, dy)).keys()].map((i) => given[i] ?? 0);
  return {
    widths: [dx, h, dy],
    strengths,
    noise: number(state, "sigma"),
    balanced: false,
    scale: number(state, "scale"),
    n: number(state, "n"),
    seed: number(state, "seed"),
    steps: stepsFor(number(state, "time"), lr, 12000, SAVES),
    saves: SAVES,
    float32: true,
  };
}

/** @param {State} state @returns {Record<string, import("../code.js").Method>} */
function methods(state) {
  const [lr, batch_size] = [number(state, "lr"), number(state, "B")];
  return { GD: ["GD", { lr }], SGD: ["SGD", { lr, batch_size }] };
}

/**
 * log det as the mean loss predicts it: −2η ∫ E‖Ḡ‖² dt, E‖Ḡ‖² = ‖Δ‖²(1 + (dx+1)/B) + σ²dx dy/B under SGD, ‖Δ‖² under GD.
 * @param {State} state @param {Runs} runs @param {number} k
 */
function predicted(state, runs, k) {
  const [dx, dy, lr, B, sigma] = ["dx", "dy", "lr", "B", "sigma"].map((key) => number(state, key));
  const excess = means(runs, k, "excess_loss", 0, 1);
  const seen = means(runs, k, "log_det", 0, 1);
  const step = (experiment(state).steps * lr) / SAVES;
  const square = excess.map((loss) => 2 * loss * (k ? 1 + (dx + 1) / B : 1) + (k ? (sigma * sigma * dx * dy) / B : 0));
  const line = Float64Array.from(seen);
  for (let i = 1; i < line.length; i++) line[i] = line[i - 1] - lr * step * (square[i] + square[i - 1]);
  return { seen, line };
}

/** @param {State} state @param {Runs | null} runs @returns {Figure} */
function lineFigure(state, runs) {
  const lr = number(state, "lr");
  const setting = experiment(state);
  const x = savedSteps(setting)
    .map((step) => step * lr)
    .slice(0, runs?.saves ?? 0);
  const found = runs ? METHODS.map((_, k) => predicted(state, runs, k)) : [];
  const all = found.flatMap(({ seen, line }) => [...seen, ...line]).filter(Number.isFinite);
  const [low, high] = [Math.min(...all, Infinity), Math.max(...all, -Infinity)];
  const room = 0.1 * (high - low) || 1;
  return {
    title: "log det ΘᵀΘ, Θ = [W₁, W₂ᵀ], with its prediction",
    text: found
      .map(
        ({ seen, line }, k) =>
          `${METHODS[k]} ends at ${shown(seen[seen.length - 1])}, predicted ${shown(line[line.length - 1])}`,
      )
      .join(", "),
    x: { label: "time η·step", low: 0, high: setting.steps * lr },
    y: { label: "log det", low: all.length ? low - room : 0, high: all.length ? high + room : 1 },
    layers: found.flatMap(({ seen, line }, k) => [
      { kind: /** @type {const} */ ("line"), x, y: seen, ink: INKS[k], width: 4, opacity: 0.55, name: `${METHODS[k]}` },
      {
        kind: /** @type {const} */ ("line"),
        x,
        y: line,
        ink: "--ink",
        dash: DASHES[k + 1],
        width: 1.5,
        name: `${METHODS[k]}, predicted`,
      },
    ]),
    wide: true,
  };
}

/** @param {State} state @param {Runs | null} runs @param {number} k @returns {Figure} */
function eigenFigure(state, runs, k) {
  const lr = number(state, "lr");
  const setting = experiment(state);
  const size = setting.widths[0] + setting.widths[2];
  const x = savedSteps(setting)
    .map((step) => step * lr)
    .slice(0, runs?.saves ?? 0);
  const curves = runs ? [...Array(size).keys()].map((i) => means(runs, k, "eigenvalues", i, size)) : [];
  const all = curves.flatMap((curve) => [...curve]).filter((v) => v > 0);
  const [low, high] = [Math.min(...all, 1), Math.max(...all, 1)];
  return {
    title: `${METHODS[k]}: eigenvalues of ΘᵀΘ`,
    text: `the smallest of ${size} ends at ${shown(curves[size - 1]?.[x.length - 1] ?? NaN)}`,
    x: { label: "time η·step", low: 0, high: setting.steps * lr },
    y: { label: "mean eigenvalue", low: low / 2, high: high * 2, log: true },
    layers: curves.map((y, i) => ({
      kind: /** @type {const} */ ("line"),
      x,
      y,
      ink: INKS[i % 6],
      dash: DASHES[i % 6],
    })),
  };
}

/** @param {State} state @param {Runs | null} runs @returns {Figure} */
function singularFigure(state, runs) {
  const lr = number(state, "lr");
  const setting = experiment(state);
  const x = savedSteps(setting)
    .map((step) => step * lr)
    .slice(0, runs?.saves ?? 0);
  const size = setting.strengths.length;
  const curves = runs ? setting.strengths.map((_, i) => means(runs, 1, "singular_values", i, size)) : [];
  const top = Math.max(...curves.flatMap((curve) => [...curve]).filter(Number.isFinite), setting.strengths[0], 0.1);
  return {
    title: "SGD: singular values of the map",
    text: curves.map((curve, i) => `number ${i + 1} ends at ${shown(curve[x.length - 1])}`).join(", "),
    x: { label: "time η·step", low: 0, high: setting.steps * lr },
    y: { label: "singular value", low: 0, high: 1.15 * top },
    layers: [
      ...curves.map((y, i) => ({ kind: /** @type {const} */ ("line"), x, y, ink: INKS[i % 6], dash: DASHES[i % 6] })),
      { kind: "marks", at: setting.strengths.filter((s) => s > 0), along: "y", ink: "--grey", name: "s*" },
    ],
  };
}

/** @type {import("../types").View} */
export const rank = {
  key: "rank",
  title: "Rank",
  about: "Two layers wider than they need to be: noise shrinks what the data do not hold, on a line that theory knows.",
  fields: [
    { key: "s", label: "strengths s*", kind: "list", value: "2, 1", low: 0, high: 6, most: 6 },
    { key: "dx", label: "inputs", kind: "linear", value: 5, low: 1, high: 6, step: 1 },
    {
      key: "h",
      label: "hidden width, at least inputs + outputs",
      kind: "linear",
      value: 10,
      low: 2,
      high: 24,
      step: 1,
    },
    { key: "dy", label: "outputs", kind: "linear", value: 2, low: 1, high: 6, step: 1 },
    { key: "sigma", label: "label noise σ", kind: "linear", value: 2, low: 0, high: 4, step: 0.05 },
    { key: "lr", label: "learning rate η", kind: "log", value: 0.01, low: 1e-3, high: 0.1 },
    { key: "B", label: "batch size B", kind: "linear", value: 5, low: 1, high: 64, step: 1 },
    { key: "scale", label: "initial weights", kind: "linear", value: 0.5, low: 0.1, high: 1, step: 0.05 },
    { key: "time", label: "time", kind: "log", value: 40, low: 2, high: 200 },
    { key: "n", label: "trajectories", kind: "linear", value: 16, low: 4, high: 64, step: 4 },
    { key: "seed", label: "seed", kind: "linear", value: 0, low: 0, high: 99, step: 1 },
  ],
  presets: [
    { name: "Label noise 2, as in the paper", values: {} },
    { name: "No label noise: the line ends", values: { sigma: 0 } },
    { name: "Large batch", values: { B: 64 } },
    { name: "Square", values: { dx: 4, dy: 4, h: 16, s: "3, 2, 1, 0.5", sigma: 1.5 } },
  ],
  request(state, full) {
    const { widths, strengths, noise, scale, n, seed, steps, saves } = experiment(state);
    const common = {
      widths,
      strengths,
      noise,
      lr: number(state, "lr"),
      batch: number(state, "B"),
      scale,
      balanced: false,
      n: full ? n : FEW,
      seed,
    };
    return {
      job: "networks",
      settings: [
        { ...common, source: "gd" },
        { ...common, source: "sgd" },
      ],
      steps,
      saves,
      names: ["log_det", "excess_loss", "singular_values", "eigenvalues"],
    };
  },
  take: takeSave,
  draw(state, known) {
    const runs = /** @type {Runs | null} */ (known);
    const [dx, dy, lr, B, sigma] = ["dx", "dy", "lr", "B", "sigma"].map((key) => number(state, key));
    const { strengths, widths } = experiment(state);
    const notes = [];
    if (number(state, "h") < dx + dy)
      notes.push(`The hidden width is raised to ${widths[1]}: log det needs inputs + outputs.`);
    const edge = stabilityEdge(2, Math.max(...strengths, 0.1));
    if (lr > edge) notes.push(`η = ${shown(lr)} is beyond the stability edge ${shown(edge)} of the strongest mode.`);
    diverged(runs, "log_det", 1).forEach(
      (count, k) => count && notes.push(`${METHODS[k]}: ${count} trajectories diverged and are left out.`),
    );
    const ends = runs?.done ? METHODS.map((_, k) => predicted(state, runs, k)) : [];
    const slope = (-2 * lr * sigma * sigma * dx * dy) / B;
    return {
      figures: [
        lineFigure(state, runs),
        eigenFigure(state, runs, 0),
        eigenFigure(state, runs, 1),
        singularFigure(state, runs),
      ],
      formulas: [
        `\\log \\text{det}(Θ^′Θ)(t) = \\log \\text{det}(Θ^′Θ)(0) − 2η ∫ (‖Δ‖^2(1+\\frac{d_x+1}{B}) + \\frac{σ^2d_xd_y}{B}) dt ,  \\text{slope_at_rest} = −\\frac{2ησ^2d_xd_y}{B} = ${tex(slope)}`,
      ],
      numbers: [
        { key: "slope", label: "slope once learned", value: slope },
        ...ends.flatMap(({ seen, line }, k) => [
          { key: `seen_${k}`, label: `${METHODS[k]}: final log det`, value: seen[seen.length - 1] },
          { key: `line_${k}`, label: `${METHODS[k]}: predicted`, value: line[line.length - 1] },
        ]),
      ],
      look: "Look at the line: after learning GD stands still, while SGD keeps losing log det at a constant rate, as predicted. The smallest eigenvalues pay for it and fall one after the other; the map itself stays learned.",
      notes,
    };
  },
  code: (state) => networkCode(experiment(state), methods(state), "log_det"),
  csv: (state, known) => networkCsv(known, METHODS, experiment(state), number(state, "lr"), "log_det", "interface", 1),
};
