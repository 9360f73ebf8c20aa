/**
 * Closed forms of one mode and of the plateaus of a network; the twin of saddlescope.theory.
 *
 * The convention is that of the package: ½ in the loss, T = η/B, κ = 1 − 1/L, g(s) = α(s − center)² + floor.
 */

/** @typedef {import("./engine.js").Mode} Mode */

const SPACING = 0.1; // of points on a line of gradient flow
const LAST = 29; // there 1/(1 + e⁻ᵘ) is 1 to 3e-13; beyond, rounding disorders times

/**
 * A mode on white Gaussian inputs: g(s) = 2(s − s*)² + σ².
 * @param {number} depth
 * @param {number} target
 * @param {number} noise
 * @param {number} temperature
 * @returns {Mode}
 */
export function gaussianMode(depth, target, noise, temperature) {
  return { depth, alpha: 2, center: target, floor: noise * noise, beta1: 1, beta2: target, temperature };
}

/** @param {Mode} mode @param {number} s */
export const gradientVariance = (mode, s) => mode.alpha * (s - mode.center) ** 2 + mode.floor;

/** Itô drift of the strength. @param {Mode} mode @param {number} s */
export function drift(mode, s) {
  const { depth: L, beta1, beta2, temperature: T } = mode;
  if (L === 1) return beta2 - beta1 * s;
  const a = s ** (1 / L);
  const pull = a ** (L - 1) * (beta2 - beta1 * s);
  return L * a ** (L - 1) * pull + ((L * (L - 1)) / 2) * T * a ** (3 * L - 4) * gradientVariance(mode, s);
}

/** Variance rate of the strength, L² s^{4κ} T g. @param {Mode} mode @param {number} s */
export function varianceRate(mode, s) {
  const { depth: L, temperature: T } = mode;
  return (L === 1 ? 1 : L * L * s ** (4 - 4 / L)) * T * gradientVariance(mode, s);
}

/** α₃ = Var[xy], the variance of the gradient at 0. @param {Mode} mode */
export const alpha3 = (mode) => gradientVariance(mode, 0);

/** Strength at which the noise is largest before the mode is learned, or null. @param {Mode} mode */
export function noisePeak(mode) {
  const power = 4 * (1 - 1 / mode.depth);
  const alpha2 = mode.alpha * mode.center;
  const root = ((power + 1) * alpha2) ** 2 - power * (power + 2) * mode.alpha * alpha3(mode);
  if (mode.depth === 1 || mode.alpha === 0 || alpha2 <= 0 || root <= 0) return null;
  return ((power + 1) * alpha2 - Math.sqrt(root)) / ((power + 2) * mode.alpha);
}

/** Power of s with which the density of depth 2 begins at 0, β₂/(Tα₃) − 3/2. @param {Mode} mode */
export const exponentAtZero = (mode) => mode.beta2 / (mode.temperature * alpha3(mode)) - 1.5;

/** Temperature above which all mass ends at 0: 2β₂/α₃ at depth 2, otherwise ∞. @param {Mode} mode */
export const criticalTemperature = (mode) => (mode.depth === 2 ? (2 * mode.beta2) / alpha3(mode) : Infinity);

/** Variance of the Boltzmann law, ½L s*^{2κ} T g(s*)/β₁. @param {Mode} mode */
export function boltzmannVariance(mode) {
  const { depth: L, beta1, beta2, temperature: T } = mode;
  const end = beta2 / beta1;
  return (L * Math.abs(end) ** (2 - 2 / L) * T * gradientVariance(mode, end)) / (2 * beta1);
}

/**
 * Learning rate at which the sharpest direction at s* is marginal, 2/(L s*^{2κ}); that of SGD on one white input is
 * lower by 1 + 2/B.
 * @param {number} depth @param {number} target @param {number} batch
 */
export const stabilityEdge = (depth, target, batch = Infinity) =>
  2 / (depth * target ** (2 - 2 / depth) * (1 + 2 / batch));

/**
 * Temperatures at which a mode of depth 2 changes its regime.
 * @param {number} target
 * @param {number} noise
 */
export function regimeTemperatures(target, noise) {
  const critical = (2 * target) / (2 * target * target + noise * noise);
  const slope = Math.sqrt(42) * noise - 4 * target;
  const bump = slope > 0 ? 1 / slope : Infinity;
  const gone = bump < critical / 3 || 10 * target * bump <= 1;
  return { zero: critical / 3, critical, bump: gone && Number.isFinite(bump) ? critical / 3 : bump };
}

/** The regime of a mode of depth 2. @param {number} target @param {number} noise @param {number} temperature */
export function regime(target, noise, temperature) {
  const { zero, critical } = regimeTemperatures(target, noise);
  const bump = extrema(target, noise, temperature).maxima.length > 0;
  if (temperature < zero) return "learned";
  if (temperature < critical) return bump ? "bimodal" : "at zero";
  return bump ? "collapsing" : "collapsed";
}

/**
 * Most and least likely strengths at depth 2, the positive roots of 14T s² + (2 − 20Ts*) s − (2s* − 3Tα₃).
 * @param {number} target
 * @param {number} noise
 * @param {number} temperature
 */
export function extrema(target, noise, temperature) {
  const T = temperature;
  const [a, b] = [14 * T, 2 - 20 * T * target];
  const c = -(2 * target - 3 * T * (2 * target * target + noise * noise));
  const discriminant = b * b - 4 * a * c;
  /** @type {{maxima: number[], minima: number[]}} */
  const found = { maxima: [], minima: [] };
  if (discriminant <= 0) return found;
  const q = -(b + Math.sign(b || 1) * Math.sqrt(discriminant)) / 2;
  const [low, high] = [q / a, c / q].sort((x, y) => x - y);
  if (low > 0) found.minima.push(low);
  if (high > 0) found.maxima.push(high);
  return found;
}

/** ∫ ρ^{1−L}/(1 − ρ^L) dρ by partial fractions over the roots of 1. @param {number} rho @param {number} depth */
function primitive(rho, depth) {
  let sum = 0;
  for (let k = 0; k < depth; k++) {
    const angle = (2 * Math.PI * k) / depth;
    const [x, y] = [1 - rho * Math.cos(angle), rho * Math.sin(angle)];
    sum += Math.cos(2 * angle) * Math.log(Math.hypot(x, y)) - Math.sin(2 * angle) * Math.atan2(y, x);
  }
  return rho ** (2 - depth) / (2 - depth) - sum / depth;
}

/**
 * Time at which gradient flow takes a mode from `start` to `strength`, which lies between it and the target.
 * @param {number} strength
 * @param {number} start
 * @param {number} target
 * @param {number} depth
 */
export function flowTime(strength, start, target, depth) {
  if (!((strength - start) * (target - strength) > 0)) return strength === start ? 0 : Infinity;
  if (depth === 1) return Math.log((start - target) / (strength - target));
  if (depth === 2)
    return (Math.log(strength / start) - Math.log((target - strength) / (target - start))) / (2 * target);
  const ends = [strength, start].map((s) => primitive((s / target) ** (1 / depth), depth));
  return (ends[0] - ends[1]) / target ** (2 - 2 / depth);
}

/**
 * Gradient flow from `start` until a time, as a line: its points are equally spaced in u = log(s/|s* − s|).
 * @param {number} start
 * @param {number} target
 * @param {number} depth
 * @param {number} until
 */
export function flowLine(start, target, depth, until) {
  const side = start < target ? 1 : -1;
  const strength = (/** @type {number} */ u) => target / (1 + side * Math.exp(-u));
  const time = (/** @type {number} */ u) => flowTime(strength(u), start, target, depth);
  const [x, y] = [[0], [start]];
  let low = Math.log(start / Math.abs(target - start));
  for (; low + SPACING < LAST && time(low + SPACING) < until; low += SPACING) {
    x.push(time(low + SPACING));
    y.push(strength(low + SPACING));
  }
  let high = low + SPACING;
  for (let k = 0; k < 50; k++) {
    const middle = (low + high) / 2;
    if (time(middle) < until) low = middle;
    else high = middle;
  }
  return { x: [...x, until], y: [...y, strength(low)] };
}

/** Length of the plateau to leading order in a small start. @param {number} start @param {number} target @param {number} depth */
export function plateauTime(start, target, depth) {
  if (start >= target || depth === 1) return 0;
  return depth === 2
    ? Math.log(target / start) / (2 * target)
    : start ** (-(depth - 2) / depth) / ((depth - 2) * target);
}

/**
 * Times at which modes that all start at `start` reach half their strength, to first order in T, at depth 2.
 * @param {number[]} targets
 * @param {number} start
 * @param {number} T
 * @param {number} noise
 * @param {number} lr
 * @returns {number[]}
 */
export function halfTimes(targets, start, T, noise, lr) {
  const variance = noise * noise;
  const times = targets.map((s) => (s === 0 ? NaN : Infinity));
  const order = targets.map((_, i) => i).filter((i) => targets[i] > 0);
  order.sort((i, j) => targets[j] - targets[i]);
  for (const mode of order) {
    const s = targets[mode];
    const free = 2 * s - lr * s * s - T * (2 * s * s + variance);
    const learned = T * (0.5 * s * s + variance);
    const stronger = order.filter((i) => targets[i] > s).sort((i, j) => times[i] - times[j]);
    let left = Math.log(s / start - 1);
    let now = 0;
    for (let stage = 0; stage <= stronger.length; stage++) {
      const waiting = stronger.slice(stage).reduce((sum, i) => sum + T * (0.5 * (s + targets[i]) ** 2 + variance), 0);
      const rate = free - stage * learned - waiting;
      const end = stage < stronger.length ? times[stronger[stage]] : Infinity;
      if (rate * (end - now) >= left) {
        times[mode] = now + left / rate;
        break;
      }
      left -= rate * (end - now);
      now = end;
    }
  }
  return times;
}
