/** Laws as tables of their quantiles at Φ(z), one row a time. */

/** @typedef {import("./evolution.js").Evolution} Evolution */

/** Φ(x), the distribution function of the standard normal, by its series. @param {number} x */
export function normalCdf(x) {
  if (Math.abs(x) > 8) return x > 0 ? 1 : 0;
  let [sum, term] = [x, x];
  for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
    term *= (x * x) / (2 * k + 1);
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}

/** z of a strength at a time, ±∞ beyond the nodes. @param {Pick<Evolution, "z" | "strengths">} law @param {number} time @param {number} s */
export function scoreOf({ z, strengths }, time, s) {
  const row = strengths.subarray(time * z.length, (time + 1) * z.length);
  let [low, high] = [0, z.length - 1];
  if (s < row[0]) return -Infinity;
  if (s >= row[high]) return Infinity;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (row[middle] <= s) low = middle;
    else high = middle;
  }
  return z[low] + ((z[high] - z[low]) * (s - row[low])) / (row[high] - row[low]);
}

/** The strength at z = Φ⁻¹(probability) and a time, by the cubic through four nodes. @param {Pick<Evolution, "z" | "strengths">} law @param {number} time @param {number} z */
export function quantile({ z: nodes, strengths }, time, z) {
  const h = nodes[1] - nodes[0];
  const i = Math.min(nodes.length - 4, Math.max(0, Math.floor((z - nodes[0]) / h) - 1));
  let s = 0;
  for (let j = i; j < i + 4; j++) {
    let weight = 1;
    for (let k = i; k < i + 4; k++) if (k !== j) weight *= (z - nodes[k]) / (nodes[j] - nodes[k]);
    s += weight * strengths[time * nodes.length + j];
  }
  return s;
}
