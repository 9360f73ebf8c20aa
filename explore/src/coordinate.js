/** The coordinate in which the law of one mode is computed. */

import { gradientVariance } from "./theory.js";

/** @typedef {import("./engine.js").Mode} Mode @typedef {ReturnType<typeof coordinate>} Coordinate */

/**
 * The coordinate x: y = y* + ε sinh(x), where y is log(s)/L, or s at depth 1. Noise varies slowly in it, also where
 * label noise is small and all noise is small near s*. `at` writes F = a − bb' and G = ½b².
 * @param {Mode} mode
 */
export function coordinate(mode) {
  const { depth: L, alpha, floor, beta1, beta2, temperature: T } = mode;
  const target = beta2 / beta1;
  const center = L === 1 ? target : Math.log(target) / L;
  const near = Math.sqrt(floor / alpha);
  const scale = L === 1 ? near : Math.min(1, near / (L * target));
  const strength = (/** @type {number} */ y) => (L === 1 ? y : Math.exp(L * y));
  return {
    s: (/** @type {number} */ x) => strength(center + scale * Math.sinh(x)),
    x: (/** @type {number} */ s) => Math.asinh(((L === 1 ? s : Math.log(s) / L) - center) / scale),
    at(/** @type {number} */ x, /** @type {Float64Array} */ out) {
      const [slope, bend] = [scale * Math.cosh(x), scale * Math.sinh(x)]; // y', y''
      const s = strength(center + bend);
      const [g, off] = [gradientVariance(mode, s), s - target];
      const up = L === 1 ? 1 : Math.exp((L - 2) * (center + bend));
      const noise = up * up * T * g;
      const steeper = up * up * T * (L === 1 ? alpha * off : (L - 2) * g + L * alpha * off * s); // bb'
      const pull = -up * beta1 * off - (L === 1 ? 0 : noise / 2);
      out[0] = (pull - steeper) / slope + (noise * bend) / (2 * slope ** 3);
      out[1] = noise / (2 * slope * slope);
    },
  };
}
