/**
 * Where balanced discrete SGD collapses at depth 2: a step multiplies the weights by 1 + η·mean(xy) near 0.
 *
 * mean(xy) = s*r² + σrz/√B with Br² ~ χ²_B and z normal; all weights collapse iff E log|1 + η·mean(xy)| < 0.
 */

const EULER = 0.5772156649015329;
const NODES = [0.1834346424956498, 0.525532409916329, 0.7966664774136267, 0.9602898564975363];
const WEIGHTS = [0.362683783378362, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763];

/** E log|x + z|, z normal: a series, and an asymptotic one beyond 6. @param {number} x */
export function logSize(x) {
  const q = x * x;
  if (q > 36) {
    let [sum, term] = [Math.log(Math.abs(x)), 1];
    for (let k = 1; k < 18; k++) {
      term *= (2 * k - 1) / q;
      sum -= term / (2 * k);
    }
    return sum;
  }
  let [sum, term] = [-(EULER + Math.LN2) / 2, q];
  for (let k = 0; k < 120 && Math.abs(term) > 1e-17; k++) {
    sum += term / (2 * k + 2);
    term *= -q / (2 * k + 3);
  }
  return sum;
}

/**
 * Growth of log a per step near 0.
 * @param {number} lr
 * @param {number} batch
 * @param {number} target
 * @param {number} noise
 */
export function collapseRate(lr, batch, target, noise) {
  const width = 9 / Math.sqrt(2 * batch);
  const [low, high] = [Math.max(0, 1 - width), Math.min(1 + width, 9)];
  const log = (/** @type {number} */ r) => (batch - 1) * Math.log(r) - (batch * (r * r - 1)) / 2;
  const panels = 24;
  const half = 1 / panels / 2;
  let [sum, total] = [0, 0];
  for (let k = 0; k < panels; k++)
    for (let i = 0; i < 8; i++) {
      const t = half * (2 * k + 1 + (i % 2 ? 1 : -1) * NODES[i >> 1]);
      const r = low + (high - low) * t ** 3; // with strong noise the logarithm turns sharply near r = 0
      const weight = WEIGHTS[i >> 1] * t * t * Math.exp(log(r));
      const spread = (lr * noise * r) / Math.sqrt(batch);
      sum += weight * (Math.log(spread) + logSize((1 + lr * target * r * r) / spread));
      total += weight;
    }
  return sum / total;
}

/** The lowest temperature η/B at which SGD of batch size B collapses, by bisection; null if there is none. @param {number} batch @param {number} target @param {number} noise */
export function collapseTemperature(batch, target, noise) {
  const rate = (/** @type {number} */ logT) => collapseRate(batch * Math.exp(logT), batch, target, noise);
  let [before, low] = [NaN, NaN];
  for (let logT = Math.log(1e-4); logT <= Math.log(20); logT += 0.15) {
    if (rate(logT) < 0) {
      [before, low] = [logT - 0.15, logT];
      break;
    }
  }
  if (!Number.isFinite(low)) return null;
  for (let k = 0; k < 40; k++) {
    const middle = (before + low) / 2;
    if (rate(middle) < 0) low = middle;
    else before = middle;
  }
  return Math.exp(low);
}
