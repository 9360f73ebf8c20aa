/**
 * The package's kernels in WebAssembly: what they are given, what they return.
 *
 * Every function is short, so that its caller can stop between two calls.
 */

/** @typedef {Record<string, any>} Exports */

const MEMBERS = 32; // trajectories in a call: 128 take 5 % less time, but the first picture comes three times as late

/** Sources of the gradient, as numbered by the kernels. */
export const SOURCES = { flow: 0, gd: 1, sgd: 2, gradient: 3, aligned: 4, isotropic: 5 };

/**
 * The kernels, ready to be called.
 * @param {BufferSource} bytes
 * @returns {Promise<Exports>}
 */
export async function kernels(bytes) {
  const module = await WebAssembly.compile(bytes);
  /** @type {Record<string, Record<string, any>>} */
  const nothing = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (nothing[from] ??= {})[name] = () => 0; // files and clocks, which the kernels never use
  }
  const exports = /** @type {Exports} */ ((await WebAssembly.instantiate(module, nothing)).exports);
  exports._initialize?.();
  return exports;
}

/**
 * Puts numbers into the memory of the kernels; `give` frees them.
 * @param {Exports} kernel
 * @param {ArrayLike<number>} values
 * @param {Float64ArrayConstructor | Int32ArrayConstructor} type
 * @returns {number}
 */
function put(kernel, values, type) {
  const at = kernel.take(Math.max(1, values.length) * type.BYTES_PER_ELEMENT);
  new type(kernel.memory.buffer, at, values.length).set(values);
  return at;
}

/**
 * A mode in the numbers of the kernel; the twin of kernel.mode_paths.Mode.
 * @typedef {{depth: number, alpha: number, center: number, floor: number, beta1: number, beta2: number,
 *   temperature: number}} Mode
 */

/**
 * Strengths (n, times) of n members that all start at `start`, a block of members at a time.
 * @param {Exports} kernel
 * @param {Mode} mode
 * @param {number} start
 * @param {ArrayLike<number>} times
 * @param {number} n
 * @param {number} seed
 * @param {number} tolerance
 * @returns {Generator<{first: number, last: number, strengths: Float64Array}>}
 */
export function* modePaths(kernel, mode, start, times, n, seed, tolerance) {
  const { depth, alpha, center, floor, beta1, beta2, temperature } = mode;
  const saves = times.length;
  const when = put(kernel, times, Float64Array);
  const out = kernel.take(8 * n * saves);
  const begin = depth === 1 ? start : Math.log(start) / depth;
  try {
    for (let first = 0; first < n; first += MEMBERS) {
      const numbers = [depth, alpha, center, floor, beta1, beta2, temperature, 0, tolerance, begin];
      const last = Math.min(n, first + MEMBERS);
      kernel.mode_paths(...numbers, last, first, saves, when, seed, out);
      const strengths = new Float64Array(kernel.memory.buffer, out + 8 * first * saves, (last - first) * saves).slice();
      if (depth > 1) for (let i = 0; i < strengths.length; i++) strengths[i] = Math.exp(depth * strengths[i]);
      yield { first, last, strengths };
    }
  } finally {
    kernel.give(when);
    kernel.give(out);
  }
}

/** @param {number[]} widths */
const parameters = (widths) => widths.slice(1).reduce((sum, width, l) => sum + width * widths[l], 0);

/** ‖W_l‖² of every member and layer. @param {Float64Array} weights @param {number[]} widths @param {number} n */
function norms(weights, widths, n) {
  const [L, size] = [widths.length - 1, parameters(widths)];
  const out = new Float64Array(n * L);
  for (let i = 0; i < n; i++) {
    let at = i * size;
    for (let l = 0; l < L; l++)
      for (const end = at + widths[l] * widths[l + 1]; at < end; at++) out[i * L + l] += weights[at] ** 2;
  }
  return out;
}

/** Eigenvalues of ΘᵀΘ, Θ = [W₁, W₂ᵀ], of every member, largest first. @param {Float64Array} weights @param {number[]} widths @param {number} n */
function gramEigenvalues(weights, widths, n) {
  const [dx, h, dy] = widths;
  const [size, k] = [parameters(widths), dx + dy];
  const out = new Float64Array(n * k);
  for (let i = 0; i < n; i++) {
    const at = i * size;
    const theta = (/** @type {number} */ row, /** @type {number} */ j) =>
      j < dx ? weights[at + row * dx + j] : weights[at + h * dx + (j - dx) * h + row];
    const columnsOf = [...Array(k).keys()].map((j) => Float64Array.from({ length: h }, (_, row) => theta(row, j)));
    out.set(squaredSingularValues(columnsOf), i * k);
  }
  return out;
}

/** Squared singular values of a matrix given by its columns, by one-sided Jacobi rotations. @param {Float64Array[]} columnsOf */
export function squaredSingularValues(columnsOf) {
  const dot = (/** @type {Float64Array} */ x, /** @type {Float64Array} */ y) => {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
    return sum;
  };
  for (let sweep = 0, turned = true; turned && sweep < 40; sweep++) {
    turned = false;
    for (let a = 0; a < columnsOf.length; a++)
      for (let b = a + 1; b < columnsOf.length; b++) {
        const [x, y] = [columnsOf[a], columnsOf[b]];
        const [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)];
        if (!(Math.abs(xy) > 1e-14 * Math.sqrt(xx * yy))) continue;
        turned = true;
        const zeta = (yy - xx) / (2 * xy);
        const t = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const c = 1 / Math.hypot(1, t);
        for (let i = 0; i < x.length; i++) {
          const old = x[i];
          x[i] = c * (old - t * y[i]);
          y[i] = c * (t * old + y[i]);
        }
      }
  }
  return columnsOf.map((x) => dot(x, x)).sort((p, q) => q - p);
}

/**
 * A run of a deep linear network on white inputs, in the basis of its teacher: Gaussian ones, or `samples`, which "sgd"
 * uses all at every step, with fresh label noise.
 * @typedef {{widths: number[], strengths: number[], noise: number, source: keyof typeof SOURCES, lr: number,
 *   batch: number, samples?: number, momentum?: number, scale: number | number[], balanced: boolean, n: number,
 *   seed: number}} Setting
 */

/**
 * Places of the observables in a row of the table.
 * @param {number} depth
 * @param {number} modes
 * @returns {Record<string, [number, number]>} name to first column and number of columns
 */
export function columns(depth, modes) {
  const sizes = Object.entries({
    loss: 1,
    excess_loss: 1,
    mode_strength: modes,
    singular_values: modes,
    alignment: modes,
    imbalance: depth - 1,
    imbalance_trace: depth - 1,
    log_det: depth - 1,
    mode_noise: modes,
    layer_noise: depth * modes,
    effective_rank: 1,
    learned_modes: 1,
  });
  /** @type {Record<string, [number, number]>} */
  const places = {};
  let from = 0;
  for (const [name, size] of sizes) {
    places[name] = [from, size];
    from += size;
  }
  return places;
}

/**
 * Starts a run: a pointer for the functions below, which `kernel.network_stop` frees.
 * @param {Exports} kernel
 * @param {Setting} setting
 * @returns {number}
 */
export function start(kernel, setting) {
  const { widths, strengths, noise, samples = 0, source, lr, batch, momentum = 0, scale, balanced, n, seed } = setting;
  const scales = typeof scale === "number" ? widths.slice(1).map(() => scale) : scale;
  const given = [
    put(kernel, widths, Int32Array),
    put(kernel, strengths, Float64Array),
    put(kernel, scales, Float64Array),
  ];
  const numbers = [noise, samples, SOURCES[source], lr, lr, batch, 0, momentum, given[2], balanced ? 1 : 0, n, seed];
  const run = kernel.network_start(widths.length - 1, given[0], given[1], ...numbers);
  given.forEach(kernel.give);
  if (!run) throw new Error(`the kernels have no network of widths ${widths.join(", ")}`);
  return run;
}

/**
 * The observables `names` of every member at the current step, each (n, size); noise at the temperature η/B, under GD
 * that which SGD would have at these weights.
 * @param {Exports} kernel
 * @param {number} run
 * @param {Setting} setting
 * @param {string[]} names
 * @returns {Record<string, Float64Array>}
 */
export function observe(kernel, run, setting, names) {
  const { widths, strengths, lr, batch, n } = setting;
  const at = kernel.network_observe(run, lr / batch);
  const width = kernel.network_width(run);
  const table = new Float64Array(kernel.memory.buffer, at, n * width);
  const places = columns(widths.length - 1, strengths.length);
  const weights = new Float64Array(kernel.memory.buffer, kernel.network_weights(run), n * parameters(widths));
  return Object.fromEntries(
    names.map((name) => {
      if (name === "norms") return [name, norms(weights, widths, n)];
      if (name === "eigenvalues") return [name, gramEigenvalues(weights, widths, n)];
      const [from, size] = places[name];
      const values = new Float64Array(n * size);
      for (let i = 0; i < n; i++) values.set(table.subarray(i * width + from, i * width + from + size), i * size);
      return [name, values];
    }),
  );
}
