/**
 * The law of one mode in time, by its quantiles.
 *
 * Node i carries the quantile at the probability Φ(zᵢ), with equally spaced zᵢ. It moves as probability flows, with
 * a − bb' − ½b² ∂ log p, where p is the mass between neighbouring nodes over their distance. That mass does not change:
 * none is lost, and a law is resolved as well when it is narrow as when it is broad.
 */

import { marcher } from "./rosenbrock.js";

/** @typedef {import("./coordinate.js").Coordinate} Coordinate */
const REACH = 4; // the last nodes, in standard deviations of a normal law
const STEP_ERROR = 1e-4;
const NUDGE = 1e-6; // of x, for derivatives

const GAUSS = [
  [-0.8611363115940526, 0.3478548451374538],
  [-0.3399810435848563, 0.6521451548625461],
  [0.3399810435848563, 0.6521451548625461],
  [0.8611363115940526, 0.3478548451374538],
];

/** @param {number} z */
const normal = (z) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);

/** Φ(a + h) − Φ(a) for a small h, also where it is tiny. @param {number} a @param {number} h */
const mass = (a, h) => GAUSS.reduce((sum, [at, weight]) => sum + (h / 2) * weight * normal(a + (h / 2) * (1 + at)), 0);

/** Nodes z, and logs of the ratios of the masses after and before them. @param {number} count */
export function nodes(count) {
  const h = (2 * REACH) / count;
  const z = Float64Array.from({ length: count + 1 }, (_, i) => -REACH + i * h);
  return { z, tilt: z.map((at) => Math.log(mass(at, h) / mass(at - h, h))) };
}

/**
 * Velocities of the nodes, and their derivatives by the node before, the node itself and the node after.
 * @param {Coordinate} map
 * @param {Float64Array} tilt
 * @returns {import("./rosenbrock.js").Velocity}
 */
function velocity(map, tilt) {
  const last = tilt.length - 1;
  const [here, beside] = [new Float64Array(2), new Float64Array(2)];
  return (X, out, jacobian) => {
    for (let i = 0; i <= last; i++) {
      const inner = i > 0 && i < last;
      // Beyond the ends, nodes would continue at equal distances.
      const up = i < last ? X[i + 1] - X[i] : X[i] - X[i - 1];
      const down = i > 0 ? X[i] - X[i - 1] : up;
      map.at(X[i], here);
      const [F, G] = here;
      const apart = 2 / (up + down);
      const slope = (tilt[i] - Math.log(up / down)) * apart; // of log p
      out[i] = F - G * slope;
      if (!jacobian) continue;
      map.at(X[i] + NUDGE, beside);
      const own = (beside[0] - F - (beside[1] - G) * slope) / NUDGE;
      const after = inner ? G * apart * (1 / up + slope / 2) : i ? 0 : (G * slope) / up;
      const before = inner ? G * apart * (1 / down - slope / 2) : i ? (-G * slope) / up : 0;
      jacobian[0][i] = before;
      jacobian[1][i] = own - before - after;
      jacobian[2][i] = after;
    }
  };
}

/**
 * Quantiles soon after the start, to second order in √t, and the time until which they hold.
 * @param {Coordinate} map
 * @param {number} start
 * @param {Float64Array} z
 */
function opening(map, start, z) {
  const [here, beside] = [new Float64Array(2), new Float64Array(2)];
  const x = map.x(start);
  map.at(x, here);
  map.at(x + NUDGE, beside);
  const [F, G] = here;
  const [fall, bend] = [(beside[0] - F) / NUDGE, (beside[1] - G) / NUDGE]; // F', bb'
  return {
    until: 1e-3 / (Math.abs(fall) + (bend * bend) / (2 * G)),
    at: (/** @type {number} */ t) =>
      z.map((z) => x + F * t + Math.sqrt(2 * G * t) * z * (1 + (fall * t) / 2) + (bend * t * (1 + z * z)) / 2),
  };
}

/** The largest error in units of distances, weighed; infinite where unknowns are out of order. @param {Float64Array} Y @param {Float64Array} errors @param {Float64Array} weights */
function largest(Y, errors, weights) {
  let most = 0;
  const last = Y.length - 1;
  for (let i = 0; i <= last; i++) {
    const [from, to] = [Math.max(0, i - 1), Math.min(last, i + 1)];
    const apart = (Y[to] - Y[from]) / (to - from);
    const error = (weights[i] * Math.abs(errors[i])) / apart;
    if (!(error >= 0 && (i === 0 || Y[i] > Y[i - 1]))) return Infinity;
    most = Math.max(most, error);
  }
  return most;
}

/**
 * Nodes at increasing times, one row a time, or null where steps would become too many. Yields so that it can be left.
 * @param {Coordinate} map
 * @param {number} start
 * @param {ArrayLike<number>} times
 * @param {number} count
 * @returns {Generator<null, Float64Array | null>}
 */
export function* quantiles(map, start, times, count) {
  const { z, tilt } = nodes(count);
  const found = new Float64Array(times.length * z.length);
  const { until, at } = opening(map, start, z);
  const first = Math.min(until, 1e-3 * times[times.length - 1]);
  let next = 0;
  for (; times[next] <= first; next++) found.set(at(times[next]), next * z.length);
  const weights = z.map((z) => ((normal(z) + 0.01) * 2 * REACH) / count);
  const march = marcher(velocity(map, tilt), z.length, (Y, errors) => largest(Y, errors, weights), STEP_ERROR);
  if (!(yield* march(at(first), first, times, next, found, first))) return null;
  return found.map(map.s);
}

/** Differences in the distribution function, one a time: of nodes, in distances of the finer. @param {Float64Array} rough @param {Float64Array} fine @param {number} count */
export function differences(rough, fine, count) {
  const [wide, size] = [2 * count + 1, count + 1];
  const h = REACH / count;
  const most = new Float64Array(rough.length / size);
  for (let time = 1; time < most.length; time++)
    for (let i = 1; i < count; i++) {
      const at = time * wide + 2 * i;
      const off = fine[at] - rough[time * size + i];
      const beside = off > 0 ? fine[at] - fine[at - 1] : fine[at + 1] - fine[at];
      if (off !== 0) most[time] = Math.max(most[time], normal(-REACH + 2 * i * h) * h * Math.abs(off / beside));
    }
  return most;
}
