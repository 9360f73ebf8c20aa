/** The kernels in WebAssembly: an exact recursion, members that do not depend on each other, no leaks of memory. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import test from "node:test";

import { kernels, modePaths, observe, squaredSingularValues, start } from "../src/engine.js";

const BUILT = new URL("../../build/explore/page.wasm", import.meta.url);
const skip = existsSync(BUILT) ? false : "the kernels are not compiled; make page compiles them";

/** @type {import("../src/engine.js").Setting} */
const SETTING = {
  widths: [2, 3, 2],
  strengths: [2, 1],
  noise: 0.5,
  source: "sgd",
  lr: 0.01,
  batch: 2,
  scale: 0.1,
  balanced: true,
  n: 5,
  seed: 3,
};

/** Strengths after some steps. @param {import("../src/engine.js").Exports} kernel @param {typeof SETTING} setting @param {number[]} steps */
function strengths(kernel, setting, steps) {
  const run = start(kernel, setting);
  for (const step of steps) kernel.network_advance(run, step);
  const found = observe(kernel, run, setting, ["mode_strength"]).mode_strength;
  kernel.network_stop(run);
  return found;
}

test("balanced layers under GD follow a ← a − ηa(a² − s*)", { skip }, async () => {
  const kernel = await kernels(readFileSync(BUILT));
  const found = strengths(kernel, { ...SETTING, source: "gd", n: 1 }, [300]);
  SETTING.strengths.forEach((target, mode) => {
    let a = 0.1;
    for (let step = 0; step < 300; step++) a -= SETTING.lr * a * (a * a - target);
    assert.ok(Math.abs(found[mode] / (a * a) - 1) < 1e-5, `mode ${mode}: ${found[mode]} is not ${a * a}`);
  });
});

test("a member depends on its number and the seed alone, not on stops or on others", { skip }, async () => {
  const kernel = await kernels(readFileSync(BUILT));
  const all = strengths(kernel, SETTING, [200]);
  assert.deepEqual(strengths(kernel, SETTING, [7, 8, 150, 200]), all);
  assert.deepEqual(strengths(kernel, { ...SETTING, n: 2 }, [200]), all.slice(0, 4));
  assert.notDeepEqual(strengths(kernel, { ...SETTING, seed: 4 }, [200]), all);
});

test("all samples: label noise is divided by √n, and without it the step is that of GD", { skip }, async () => {
  const kernel = await kernels(readFileSync(BUILT));
  const all = { ...SETTING, samples: 100, batch: 100, balanced: false, scale: 0.5 };
  const found = strengths(kernel, all, [300]);
  assert.deepEqual(strengths(kernel, { ...all, samples: 400, batch: 400, noise: 1 }, [300]), found);
  assert.notDeepEqual(strengths(kernel, { ...all, samples: 400, batch: 400 }, [300]), found);
  const descent = strengths(kernel, { ...all, samples: 0, source: "gd" }, [300]);
  assert.deepEqual(strengths(kernel, { ...all, noise: 0 }, [300]), descent);
});

test("memory stays as it is over many runs, stopped or not", { skip }, async () => {
  const kernel = await kernels(readFileSync(BUILT));
  const mode = { depth: 2, alpha: 2, center: 1, floor: 0.25, beta1: 1, beta2: 1, temperature: 0.1 };
  let size = 0;
  for (let k = 0; k < 200; k++) {
    strengths(kernel, SETTING, [20]);
    for (const { first } of modePaths(kernel, mode, 0.1, [1, 2], 400, k, 0.1)) if (first) break;
    if (k === 20) size = kernel.memory.buffer.byteLength;
  }
  assert.equal(kernel.memory.buffer.byteLength, size);
});

test("singular values of a matrix whose columns are known combinations", () => {
  const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
  const columns = [Float64Array.of(3 * c, s, 0), Float64Array.of(-3 * s, c, 0)];
  const [large, small] = squaredSingularValues(columns);
  assert.ok(Math.abs(large - 9) < 1e-12 && Math.abs(small - 1) < 1e-12);
});
