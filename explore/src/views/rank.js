/** Rank: label noise and batches lower log det ΘᵀΘ along a line, and eigenvalues fall one after the other. */

import { networkCode } from "../code.js";
import { shown } from "../draw.js";
import { number as tex } from "../formula.js";
import {
  DASHES,
  FEW,
  INKS,
  cutShort,
  diverged,
  earlySteps,
  means,
  networkCsv,
  number,
  savedSteps,
  stepsFor,
  strengthsOf,
  survivors,
  takeSave,
} from "../networks.js";
import { stabilityEdge } from "../theory.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Figure} Figure @typedef {import("../networks.js").Runs} Runs */

const SAVES = 240;
const MOST = 24000; // steps

/** Whether every step uses all samples, as in the paper. @param {State} state */
const full = (state) => state.data === "samples";

/** @param {State} state */
const namesOf = (state) => (full(state) ? ["GD", "label noise"] : ["GD", "SGD"]);

/** Samples that a step uses: a batch, or all n, a multiple of the inputs so that they are white. @param {State} state */
function used(state) {
  const [dx, B, samples] = ["dx", "B", "samples"].map((key) => number(state, key));
  return full(state) ? Math.ceil(samples / dx) * dx : B;
}

/** @param {State} state */
function experiment(state) {
  const [dx, dy, lr] = ["dx", "dy", "lr"].map((key) => number(state, key));
  const h = Math.max(number(state, "h"), dx + dy);
  const given = strengthsOf(state);
  const strengths = [...Array(Math.min(dx, dy)).keys()].map((i) => given[i] ?? 0);
  const steps = stepsFor(number(state, "time"), lr, MOST, SAVES);
  return {
    widths: [dx, h, dy],
    strengths,
    noise: number(state, "sigma"),
    balanced: false,
    scale: number(state, "scale"),
    n: number(state, "n"),
    seed: number(state, "seed"),
    steps,
    saves: SAVES,
    at: earlySteps(steps, SAVES), // the prediction sums the loss, which falls fast at first
    float32: true,
    ...(full(state) && { samples: used(state) }),
  };
}

/** @param {State} state @returns {Record<string, import("../code.js").Method>} */
function methods(state) {
  const [lr, batch_size, noise] = ["lr", "B", "sigma"].map((key) => number(state, key));
  const [quiet, noisy] = namesOf(state);
  return full(state)
    ? { [quiet]: ["GD", { lr }, 0], [noisy]: ["GD", { lr }, noise] }
    : { [quiet]: ["GD", { lr }], [noisy]: ["SGD", { lr, batch_size }] };
}

/** The rate at which label noise alone lowers log det: −2ησ²dx dy over the samples of a step. @param {State} state */
function slopeOf(state) {
  const [dx, dy, lr, sigma] = ["dx", "dy", "lr", "sigma"].map((key) => number(state, key));
  return (-2 * lr * sigma * sigma * dx * dy) / used(state);
}

/**
 * log det as the mean loss predicts it: −2η² E‖Ḡ‖² at every step. E‖Ḡ‖² is ‖Δ‖² under GD, and σ²dx dy/n more with label
 * noise; under SGD it is ‖Δ‖²(1 + (dx+1)/B) + σ²dx dy/B.
 * @param {State} state @param {Runs} runs @param {number} k
 */
function predicted(state, runs, k) {
  const lr = number(state, "lr");
  const { at } = experiment(state);
  const spread = k && !full(state) ? 1 + (number(state, "dx") + 1) / number(state, "B") : 1;
  const excess = means(runs, k, "excess_loss", 0, 1);
  const seen = means(runs, k, "log_det", 0, 1);
  const rate = excess.map((loss) => (k ? slopeOf(state) : 0) - 4 * lr * spread * loss);
  const line = Float64Array.from(seen);
  for (let i = 1; i < line.length; i++) {
    const [before, after] = [rate[i - 1], rate[i]];
    // A sum over steps, which at a large η is not yet the integral.
    line[i] = line[i - 1] + (lr * ((at[i] - at[i - 1]) * (before + after) + before - after)) / 2;
  }
  return { seen, line };
}

/** Times of the saves so far. @param {State} state @param {Runs | null} runs */
const timesOf = (state, runs) =>
  savedSteps(experiment(state))
    .slice(0, runs?.saves ?? 0)
    .map((step) => step * number(state, "lr"));

/** @param {State} state @param {Runs | null} runs @returns {Figure} */
function lineFigure(state, runs) {
  const names = namesOf(state);
  const setting = experiment(state);
  const x = timesOf(state, runs);
  const found = runs ? names.map((_, k) => predicted(state, runs, k)) : [];
  const all = found.flatMap(({ seen, line }) => [...seen, ...line]).filter(Number.isFinite);
  const [low, high] = [Math.min(...all, Infinity), Math.max(...all, -Infinity)];
  const room = 0.1 * (high - low) || 1;
  return {
    title: "log det ΘᵀΘ, Θ = [W₁, W₂ᵀ], with its prediction",
    text: found
      .map(
        ({ seen, line }, k) =>
          `${names[k]} ends at ${shown(seen[seen.length - 1])}, predicted ${shown(line[line.length - 1])}`,
      )
      .join(", "),
    x: { label: "time η·step", low: 0, high: setting.steps * number(state, "lr") },
    y: { label: "log det", low: all.length ? low - room : 0, high: all.length ? high + room : 1 },
    layers: [
      ...(slopeOf(state) ? found.slice(1) : []).map(({ seen }) => ({
        kind: /** @type {const} */ ("line"),
        x,
        y: x.map((time) => seen[0] + slopeOf(state) * time),
        ink: "--grey",
        name: "straight line alone",
      })),
      ...found.flatMap(({ seen, line }, k) => [
        { kind: /** @type {const} */ ("line"), x, y: seen, ink: INKS[k], width: 4, opacity: 0.55, name: names[k] },
        {
          kind: /** @type {const} */ ("line"),
          x,
          y: line,
          ink: "--ink",
          dash: DASHES[k + 1],
          width: 1.5,
          name: `${names[k]}, predicted`,
        },
      ]),
    ],
    wide: true,
  };
}

/** @param {State} state @param {Runs | null} runs @param {number} k @returns {Figure} */
function eigenFigure(state, runs, k) {
  const setting = experiment(state);
  const size = setting.widths[0] + setting.widths[2];
  const x = timesOf(state, runs);
  const curves = runs ? [...Array(size).keys()].map((i) => means(runs, k, "eigenvalues", i, size)) : [];
  const all = curves.flatMap((curve) => [...curve]).filter((v) => v > 0);
  const [low, high] = [Math.min(...all, 1), Math.max(...all, 1)];
  return {
    title: `${namesOf(state)[k]}: eigenvalues of ΘᵀΘ`,
    text: `the smallest of ${size} ends at ${shown(curves[size - 1]?.[x.length - 1] ?? NaN)}`,
    x: { label: "time η·step", low: 0, high: setting.steps * number(state, "lr") },
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
  const setting = experiment(state);
  const x = timesOf(state, runs);
  const size = setting.strengths.length;
  const curves = runs ? setting.strengths.map((_, i) => means(runs, 1, "singular_values", i, size)) : [];
  const top = Math.max(...curves.flatMap((curve) => [...curve]).filter(Number.isFinite), setting.strengths[0], 0.1);
  return {
    title: `${namesOf(state)[1]}: singular values`,
    text: curves.map((curve, i) => `number ${i + 1} ends at ${shown(curve[x.length - 1])}`).join(", "),
    x: { label: "time η·step", low: 0, high: setting.steps * number(state, "lr") },
    y: { label: "singular value of the map", low: 0, high: 1.15 * top },
    layers: [
      ...curves.map((y, i) => ({ kind: /** @type {const} */ ("line"), x, y, ink: INKS[i % 6], dash: DASHES[i % 6] })),
      { kind: "marks", at: setting.strengths.filter((s) => s > 0), along: "y", ink: "--grey", name: "s*" },
    ],
  };
}

/** What is seen at the end minus what is predicted. @param {{seen: Float64Array, line: Float64Array}} found */
const gap = ({ seen, line }) => seen[seen.length - 1] - line[line.length - 1];

/** @param {State} state @param {number} slope */
function formulas(state, slope) {
  const [square, noise] = full(state)
    ? ["‖Δ‖^2", "\\frac{σ^2d_xd_y}{n}"]
    : ["‖Δ‖^2(1+\\frac{d_x+1}{B})", "\\frac{σ^2d_xd_y}{B}"];
  return [
    `\\log \\text{det}(Θ^′Θ)(t) = \\log \\text{det}(Θ^′Θ)(0) − 2η ∫ (${square} + ${noise}) dt ,  Δ = W_2W_1−M`,
    `\\text{slope_of_the_straight_line} = −2η${noise} = ${tex(slope)}`,
  ];
}

/** @param {State} state */
const look = (state) =>
  number(state, "sigma") > 0
    ? `Look at log det: under GD it falls only while the map is learned, under ${full(state) ? "fresh label noise" : "SGD"} at all times, by a straight line and by the error that noise sustains. The smallest eigenvalues fall fastest; the map itself stays learned.`
    : "Look at log det: it falls only while the map is learned, as without label noise nothing is left to move the weights.";

/** @type {import("../types").View} */
export const rank = {
  key: "rank",
  title: "Rank",
  about: "Two layers wider than the data need: noise lowers log det ΘᵀΘ along a line that theory predicts.",
  fields: [
    {
      key: "data",
      label: "a step uses",
      kind: "choice",
      value: "samples",
      low: 0,
      high: 0,
      choices: [
        ["samples", "all n samples"],
        ["batches", "a batch of fresh samples"],
      ],
    },
    { key: "s", label: "strengths s*", kind: "list", value: "2, 1", low: 0, high: 6, most: 6 },
    { key: "dx", label: "inputs", kind: "linear", value: 5, low: 1, high: 6, step: 1 },
    { key: "h", label: "hidden width ≥ inputs + outputs", kind: "linear", value: 10, low: 2, high: 24, step: 1 },
    { key: "dy", label: "outputs", kind: "linear", value: 2, low: 1, high: 6, step: 1 },
    { key: "sigma", label: "label noise σ", kind: "linear", value: 2, low: 0, high: 4, step: 0.05 },
    { key: "lr", label: "learning rate η", kind: "log", value: 0.1, low: 1e-3, high: 0.2 },
    { key: "samples", label: "samples n", kind: "log", value: 1000, low: 10, high: 1e5, when: full },
    {
      key: "B",
      label: "batch size B",
      kind: "linear",
      value: 5,
      low: 1,
      high: 64,
      step: 1,
      when: (state) => !full(state),
    },
    { key: "scale", label: "initial weights", kind: "linear", value: 0.5, low: 0.1, high: 1, step: 0.05 },
    { key: "time", label: "time", kind: "log", value: 2400, low: 2, high: 4000 },
    { key: "n", label: "trajectories", kind: "linear", value: 16, low: 4, high: 64, step: 4 },
    { key: "seed", label: "seed", kind: "linear", value: 0, low: 0, high: 99, step: 1 },
  ],
  presets: [
    { name: "Label noise 2 on 1000 samples, as in the paper", values: {} },
    { name: "SGD: batches of 5", values: { data: "batches", lr: 0.01, time: 40 } },
    {
      name: "SGD without label noise: log det stops falling",
      values: { data: "batches", lr: 0.01, time: 40, sigma: 0 },
    },
    { name: "SGD: large batches", values: { data: "batches", lr: 0.01, time: 40, B: 64 } },
    { name: "As many outputs as inputs", values: { dx: 4, dy: 4, h: 16, s: "3, 2, 1, 0.5", lr: 0.05, time: 1200 } },
  ],
  request(state, all) {
    const { widths, strengths, noise, scale, n, seed, steps, saves, at, samples } = experiment(state);
    const common = {
      widths,
      strengths,
      noise,
      lr: number(state, "lr"),
      batch: used(state),
      scale,
      balanced: false,
      n: all ? n : FEW,
      seed,
    };
    return {
      job: "networks",
      settings: [
        { ...common, source: "gd" },
        { ...common, source: "sgd", samples },
      ],
      steps,
      saves,
      at,
      names: ["log_det", "excess_loss", "singular_values", "eigenvalues"],
    };
  },
  take: takeSave,
  draw(state, known) {
    const all = /** @type {Runs | null} */ (known);
    const runs = all && survivors(all, "log_det", 1);
    const [dx, dy, lr] = ["dx", "dy", "lr"].map((key) => number(state, key));
    const setting = experiment(state);
    const { strengths, widths } = setting;
    const names = namesOf(state);
    const notes = [];
    if (number(state, "h") < dx + dy)
      notes.push(`The hidden width is raised to ${widths[1]}, inputs + outputs: in a narrower layer log det is −∞.`);
    if (full(state) && number(state, "samples") < used(state))
      notes.push(`n is raised to ${used(state)}, a multiple of the ${dx} inputs, so that these are white.`);
    notes.push(...cutShort(number(state, "time"), setting.steps, lr));
    const edge = stabilityEdge(2, Math.max(...strengths, 0.1));
    if (lr > edge) notes.push(`η = ${shown(lr)} is beyond the stability edge ${shown(edge)} of the strongest mode.`);
    diverged(all, "log_det", 1).forEach(
      (count, k) => count && notes.push(`${names[k]}: ${count} trajectories diverged and are left out.`),
    );
    const ends = runs?.done ? names.map((_, k) => predicted(state, runs, k)) : [];
    if (ends.length && Math.abs(gap(ends[0])) > 0.1)
      notes.push(
        "The first steps are too large for a prediction of second order in η: lower η or the initial weights.",
      );
    const slope = slopeOf(state);
    return {
      figures: [
        lineFigure(state, runs),
        eigenFigure(state, runs, 0),
        eigenFigure(state, runs, 1),
        singularFigure(state, runs),
      ],
      formulas: formulas(state, slope),
      numbers: [
        { key: "slope", label: "slope of the straight line", value: slope },
        ...ends.flatMap(({ seen, line }, k) => [
          { key: `seen_${k}`, label: `${names[k]}: final log det`, value: seen[seen.length - 1] },
          { key: `line_${k}`, label: `${names[k]}: predicted`, value: line[line.length - 1] },
        ]),
      ],
      look: look(state),
      notes,
    };
  },
  code: (state) => networkCode(experiment(state), methods(state), "log_det", namesOf(state)[1]),
  csv: (state, known) =>
    networkCsv(known, namesOf(state), experiment(state), number(state, "lr"), "log_det", "interface", 1),
};
