/**
 * Steps in time for stiff equations whose every unknown depends on its two neighbours: RODAS3, linearly implicit, of
 * order 3 with an error of order 2 inside (Sandu et al. 1997, Atmospheric Environment 31).
 */

/**
 * Writes velocities, and, if wanted, their derivatives by the unknown before, itself, and after.
 * @typedef {(X: Float64Array, out: Float64Array, jacobian: Float64Array[] | null) => void} Velocity
 */

const MOST_STEPS = 800;
const TURN = 4; // steps between two yields, where the caller may stop

/** Solves (shift − J) k = k in place. @param {Float64Array[]} jacobian @param {number} shift @param {Float64Array} k @param {Float64Array} c */
function solve([before, own, after], shift, k, c) {
  const last = k.length - 1;
  for (let i = 0; i <= last; i++) {
    const pivot = shift - own[i] + (i ? before[i] * c[i - 1] : 0);
    k[i] = (k[i] + (i ? before[i] * k[i - 1] : 0)) / pivot;
    c[i] = -after[i] / pivot;
  }
  for (let i = last - 1; i >= 0; i--) k[i] -= c[i] * k[i + 1];
}

/**
 * One step: from X with velocities f to Y; returns the error of every unknown.
 * @param {Velocity} velocity
 * @param {number} size
 */
function stepper(velocity, size) {
  const [k1, k2, k3, k4, c] = Array.from({ length: 5 }, () => new Float64Array(size));
  /** @param {Float64Array} X @param {Float64Array} f @param {Float64Array[]} J @param {number} step @param {Float64Array} Y */
  return (X, f, J, step, Y) => {
    const shift = 2 / step;
    k1.set(f);
    solve(J, shift, k1, c);
    for (let i = 0; i < size; i++) k2[i] = f[i] + (4 * k1[i]) / step;
    solve(J, shift, k2, c);
    for (let i = 0; i < size; i++) Y[i] = X[i] + 2 * k1[i];
    velocity(Y, k3, null);
    for (let i = 0; i < size; i++) k3[i] += (k1[i] - k2[i]) / step;
    solve(J, shift, k3, c);
    for (let i = 0; i < size; i++) Y[i] += k3[i];
    velocity(Y, k4, null);
    for (let i = 0; i < size; i++) k4[i] += (k1[i] - k2[i] - (8 / 3) * k3[i]) / step;
    solve(J, shift, k4, c);
    for (let i = 0; i < size; i++) Y[i] += k4[i];
    return k4;
  };
}

/**
 * A function that carries unknowns on from a time, and writes them at `times[next]` and later into rows of
 * `found`; its generator returns whether it came to the end. `size` makes one number of the errors of a step, infinite
 * where the step must not be taken.
 * @param {Velocity} velocity
 * @param {number} n
 * @param {(Y: Float64Array, errors: Float64Array) => number} size
 * @param {number} tolerance
 */
export function marcher(velocity, n, size, tolerance) {
  const [f, before, Y, ...J] = Array.from({ length: 6 }, () => new Float64Array(n));
  const advance = stepper(velocity, n);
  /** @param {Float64Array} X @param {number} t @param {ArrayLike<number>} times @param {number} next @param {Float64Array} found @param {number} step the first @returns {Generator<null, boolean>} */
  return function* (X, t, times, next, found, step) {
    velocity(X, f, J);
    for (let steps = 0; next < times.length; steps++) {
      if (steps === MOST_STEPS) return false;
      if (steps % TURN === TURN - 1) yield null;
      const error = size(Y, advance(X, f, J, step, Y)) / tolerance;
      const grow = Math.min(4, Math.max(0.2, 0.9 * Math.max(error, 1e-9) ** (-1 / 3)));
      if (error <= 1) {
        before.set(f);
        velocity(Y, f, J);
        for (; next < times.length && times[next] <= t + step; next++) {
          const u = (times[next] - t) / step;
          const row = found.subarray(next * n, (next + 1) * n);
          for (let i = 0; i < n; i++) row[i] = between(u, X[i], Y[i], step * before[i], step * f[i]);
        }
        t += step;
        X.set(Y);
      }
      step *= error <= 1 ? grow : Math.min(grow, 0.8);
    }
    return true;
  };
}

/** The cubic with these values and slopes at 0 and 1. @param {number} u @param {number} from @param {number} to @param {number} out @param {number} into */
const between = (u, from, to, out, into) =>
  (1 - u) ** 2 * ((1 + 2 * u) * from + u * out) + u * u * ((3 - 2 * u) * to - (1 - u) * into);
