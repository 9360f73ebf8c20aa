/** Wrong theories: a sample of one mode, judged by the exact law and by its nearest rivals, as claims are. */

import { csv, modePython, modeToml } from "../code.js";
import { shown } from "../draw.js";
import { number as tex } from "../formula.js";
import { MODE_FIELDS, TOLERANCE, modeOf, partsOf, spaced } from "../modes.js";
import { number } from "../networks.js";
import { cdfOf, density, distance } from "../stationary.js";
import { normalCdf } from "../table.js";
import { alpha3, boltzmannVariance, criticalTemperature, gradientVariance } from "../theory.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Figure} Figure @typedef {import("../types").Part} Part */
/** @typedef {{name: string, cdf: (s: number) => number, distance: number, ink: string, dash?: string}} Theory */

const FALSE_ALARM = 1e-6;
const FEW = 128;
const MOST_TIMES = 400; // longest sampling time, in relaxation times

/** The distance beyond which a theory is refuted at a false-alarm level of 1e-6 (Dvoretzky–Kiefer–Wolfowitz). @param {number} n */
const bound = (n) => Math.sqrt(Math.log(2 / FALSE_ALARM) / (2 * n));

/**
 * Relaxation times 1/(L s*^{2κ}) until the start is forgotten, by measurement: r = T(L − 1)α₃/(2s*) compares noise and
 * drift near 0, and is T/T_c at depth 2. Infinite from T_c on.
 * @param {State} state
 */
function needed(state) {
  const { depth, target, temperature } = partsOf(state);
  const r = (temperature * (depth - 1) * alpha3(modeOf(state))) / (2 * target);
  if (depth === 2) return r < 1 ? 12 / (1 - r) ** 2 : Infinity;
  return 16 * (1 + r * r);
}

/** Time of the sample. @param {State} state */
function settled(state) {
  const { depth, target } = partsOf(state);
  return Math.min(needed(state), MOST_TIMES) / (depth * target ** (2 - 2 / depth));
}

/** The theories of the state seen last. @type {{key: string, all: Omit<Theory, "distance">[]}} */
let last = { key: "", all: [] };

/** The exact law and its rivals. @param {State} state */
function theories(state) {
  const key = JSON.stringify(partsOf(state));
  if (key !== last.key) last = { key, all: solved(state) };
  return last.all;
}

/** @param {State} state @returns {Omit<Theory, "distance">[]} */
function solved(state) {
  const mode = modeOf(state);
  const { depth, target, temperature: T } = partsOf(state);
  const sd = Math.sqrt(boltzmannVariance(mode));
  const next = depth + 1;
  const rivals = [
    { name: "exact law", ink: "--c1", cdf: cdfOf(density(mode)) },
    { name: "Boltzmann", ink: "--c2", dash: "7 3", cdf: (/** @type {number} */ s) => normalCdf((s - target) / sd) },
    {
      name: "isotropic: noise that does not depend on s",
      ink: "--c3",
      dash: "2 3",
      cdf: cdfOf(density({ ...mode, alpha: 0, floor: gradientVariance(mode, target) })),
    },
    {
      name: `depth ${next} at the same LT`,
      ink: "--c5",
      dash: "12 4",
      cdf: cdfOf(density({ ...modeOf({ ...state, L: next }), temperature: (T * depth) / next })),
    },
  ];
  if (depth > 1)
    rivals.splice(3, 0, {
      name: "no Itô term",
      ink: "--c4",
      dash: "8 3 2 3",
      cdf: cdfOf(density({ ...mode, ito: false })),
    });
  return rivals;
}

/** @typedef {{sample: Float64Array, done: boolean}} Known */

/** @param {State} state @param {Known} known @returns {Theory[]} */
const judged = (state, known) =>
  theories(state).map((theory) => ({ ...theory, distance: distance(known.sample, theory.cdf) }));

/** The range that holds nearly all of the sample. @param {Float64Array} sample */
function range(sample) {
  const at = (/** @type {number} */ q) => sample[Math.floor(q * (sample.length - 1))];
  const room = 0.25 * (at(0.995) - at(0.005));
  return [Math.min(at(0.005) - room, at(0.005)), at(0.995) + room];
}

/** The distribution function of a sample. @param {Float64Array} sample @param {number} s */
function share(sample, s) {
  let [low, high] = [0, sample.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sample[middle] <= s) low = middle + 1;
    else high = middle;
  }
  return low / sample.length;
}

/** @param {State} state @param {Known} known @param {Theory[]} all @returns {Figure[]} */
function figures(state, known, all) {
  const { sample } = known;
  const [from, to] = range(sample);
  const x = spaced(number(state, "L") > 1 ? Math.max(0, from) : from, to, 300);
  const seen = x.map((s) => share(sample, s));
  const limit = bound(sample.length);
  const tail = spaced(
    0.5 * number(state, "s"),
    Math.max(1.2 * sample[sample.length - 1], number(state, "s")),
    160,
    true,
  );
  const lines = all.map(({ name, cdf, ink, dash }) => ({
    name,
    cdf,
    ink,
    dash,
    kind: /** @type {const} */ ("line"),
    x,
  }));
  const most = Math.min(1, 1.15 * Math.max(1.5 * limit, ...all.map((theory) => theory.distance)));
  return [
    {
      title: "Sample minus theory",
      text: all.map((theory) => `${theory.name}: distance ${shown(theory.distance)}`).join(", "),
      x: { label: "strength s", low: x[0], high: to },
      y: { label: "difference of distribution functions", low: -most, high: most },
      layers: [
        {
          kind: "area",
          x,
          low: x.map(() => -limit),
          high: x.map(() => limit),
          ink: "--grey",
          name: "not refuted at 1e-6",
        },
        ...lines.map((line) => ({ ...line, y: x.map((s, i) => seen[i] - line.cdf(s)) })),
      ],
      wide: true,
    },
    {
      title: "Distribution functions",
      text: `the sample of ${sample.length} and ${all.length} theories`,
      x: { label: "strength s", low: x[0], high: to },
      y: { label: "probability below s", low: 0, high: 1 },
      layers: [
        { kind: "line", x, y: seen, ink: "--grey", width: 5, opacity: 0.5, name: "sample" },
        ...lines.map((line) => ({ ...line, name: undefined, width: 1.6, y: x.map(line.cdf) })),
      ],
    },
    {
      title: "Upper tails, on logarithmic axes",
      text: "probability above s: the sample and the exact law fall like a power, Boltzmann faster",
      x: { label: "strength s", low: tail[0], high: tail[tail.length - 1], log: true },
      y: { label: "probability above s", low: 0.3 / sample.length, high: 1, log: true },
      layers: [
        {
          kind: "line",
          x: tail,
          y: tail.map((s) => 1 - share(sample, s) || NaN),
          ink: "--grey",
          width: 5,
          opacity: 0.5,
          name: "sample",
        },
        ...lines.map((line) => ({
          ...line,
          x: tail,
          name: undefined,
          width: 1.6,
          y: tail.map((s) => 1 - line.cdf(s)),
        })),
      ],
    },
  ];
}

/** @type {import("../types").View} */
export const wrong = {
  key: "wrong",
  title: "Wrong theories",
  about: "The exact law and four theories that look right, on the same sample: distances and verdicts, live.",
  fields: [
    ...MODE_FIELDS.map((field) =>
      field.key === "T" ? { ...field, value: 0.2 } : field.key === "sigma" ? { ...field, value: 0.5 } : field,
    ),
    { key: "n", label: "sample size", kind: "log", value: 8192, low: 256, high: 65536 },
    { key: "seed", label: "seed", kind: "linear", value: 1, low: 0, high: 99, step: 1 },
  ],
  presets: [
    { name: "Hot, two layers", values: { L: 2, s: 1, sigma: 0.5, T: 0.3 } },
    { name: "Hot, three layers", values: { L: 3, s: 1.5, sigma: 0.55, T: 0.3 } },
    { name: "Four layers", values: { L: 4, s: 1, sigma: 0.5, T: 0.1 } },
    { name: "Cold: Boltzmann is good", values: { L: 2, s: 1, sigma: 0.5, T: 0.001 } },
  ],
  request(state, full) {
    const n = Math.round(number(state, "n"));
    return {
      job: "sample",
      mode: modeOf(state),
      start: number(state, "s"),
      time: settled(state),
      n: full ? n : Math.min(n, FEW),
      seed: number(state, "seed"),
      tolerance: TOLERANCE,
    };
  },
  take: (_, part) => ({ sample: /** @type {Float64Array} */ (part.sample), done: part.done }),
  draw(state, known) {
    const mode = modeOf(state);
    const notes = [];
    if (needed(state) > MOST_TIMES)
      notes.push(
        mode.depth === 2
          ? `T is near or above T_c = ${shown(criticalTemperature(mode))}: the sample has not settled, and even the exact law may be refuted.`
          : "The noise is so strong that the sample has not settled: even the exact law may be refuted.",
      );
    const sample = /** @type {Known | null} */ (known);
    if (!sample) return { figures: [], formulas: [], numbers: [], look: "Sampling …", notes };
    const all = judged(state, sample);
    const limit = bound(sample.sample.length);
    const verdict = (/** @type {Theory} */ theory) => (theory.distance > limit ? "refuted" : "not refuted");
    const refuted = all.slice(1).filter((theory) => theory.distance > limit);
    return {
      figures: figures(state, sample, all),
      formulas: [
        `p(s) ∝ \\frac{s^{−3κ}}{g(s)} \\exp(−\\frac{2}{TL} ∫ \\frac{s−s^*}{s^{2κ}g(s)} ds) ,  \\text{no_Itô_term:_} s^{−4κ} \\text{_for_} s^{−3κ} ,  κ = 1−\\frac{1}{L}`,
        `\\text{bound} = \\sqrt{\\frac{\\log(2/10^{−6})}{2n}} = ${tex(limit)}`,
      ],
      numbers: [
        { key: "bound", label: "a theory is refuted beyond", value: limit },
        ...all.flatMap((theory, k) => [
          { key: `distance_${k}`, label: `${theory.name}: distance`, value: theory.distance },
          { key: `verdict_${k}`, label: `${theory.name}: verdict`, value: verdict(theory) },
        ]),
      ],
      look: `${refuted.length} of ${all.length - 1} wrong theories are refuted by ${shown(sample.sample.length)} samples; the exact law is ${verdict(all[0])}. A theory is refuted where its line leaves the band. Lower T and watch Boltzmann become right first; raise the sample size to refute the others.`,
      notes,
    };
  },
  code(state) {
    const parts = partsOf(state);
    const [n, seed] = [Math.round(number(state, "n")), number(state, "seed")];
    const python = modePython(
      parts,
      `sample = mode.simulate(${parts.target}, [${settled(state)}], trajectories=${n}, seed=${seed}, tol=${TOLERANCE})[:, 0]
same_noise_everywhere = (0.0, 0.0, ${parts.noise}**2, 1.0, ${parts.target})
laws = {
    "exact law": mode.stationary(),
    "Boltzmann": mode.boltzmann(),
    "isotropic": sc.theory.ModeSDE(${parts.depth}, moments=same_noise_everywhere, temperature=${parts.temperature}).stationary(),
    "next depth": replace(mode, depth=${parts.depth + 1}, temperature=${(parts.temperature * parts.depth) / (parts.depth + 1)}).stationary(),
}
for name, law in laws.items():
    print(name, stats.kstest(sample, law.cdf).statistic)`,
      "from dataclasses import replace\n\nfrom scipy import stats",
    );
    return { python, toml: modeToml(parts, parts.target, settled(state), n, seed) };
  },
  csv(_, known) {
    const all = /** @type {Known | null} */ (known);
    return csv(["strength"], all ? [...all.sample].map((s) => [s]) : []);
  },
};
