/** The worker: one job at a time, in parts; the next setting stops the last at its next part. */

import { evolution } from "./evolution.js";
import { kernels, modePaths, observe, start } from "./engine.js";

/** Work between two looks for a newer setting, in milliseconds. */
const TURN = 12;

/** @type {any} */
const here = self;
let newest = 0;

/** Lets a newer message in. */
function pause() {
  return new Promise((resume) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resume;
    channel.port2.postMessage(0);
  });
}

/** @param {string} text base64 of a gzip of the module */
async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const ready = unpacked(here.WASM).then(kernels);

/**
 * Strengths of an ensemble of one mode, a block of members at a time, the first with the law in time if that is asked.
 * @param {any} kernel
 * @param {any} asked
 */
async function* paths(kernel, asked) {
  const { mode, start: from, times, n, seed, tolerance, law } = asked;
  const first = law ? yield* evolution(mode, from, times) : undefined;
  for (const block of modePaths(kernel, mode, from, times, n, seed, tolerance)) {
    yield { ...block, done: block.last === n, ...(block.first === 0 && { law: first }) };
  }
}

/** Steps that take about five milliseconds. @param {import("./engine.js").Setting} setting */
function few({ widths, n, batch, source }) {
  const weights = widths.slice(1).reduce((sum, width, l) => sum + width * widths[l], 0);
  const columns = source === "sgd" && batch < widths[0] ? batch : widths[0];
  return Math.max(1, Math.floor(2e6 / (weights * columns * (n + 3))));
}

/**
 * Runs of a network under several methods, side by side: every part is one save of all of them.
 * @param {any} kernel
 * @param {any} asked
 */
async function* networks(kernel, asked) {
  const { settings, steps, saves, names, at } = asked;
  const stepOf = (/** @type {number} */ save) => (at ? at[save] : (save * steps) / saves);
  /** @type {number[]} */
  const runs = [];
  try {
    for (const setting of settings) runs.push(start(kernel, setting));
    for (let save = 0; save <= saves; save++) {
      const [from, until] = [Math.max(0, save - 1), save].map(stepOf);
      const values = [];
      for (let k = 0; k < runs.length; k++) {
        for (let step = from; step < until;) {
          step = Math.min(until, step + few(settings[k]));
          kernel.network_advance(runs[k], step);
          yield null;
        }
        values.push(observe(kernel, runs[k], settings[k], names));
      }
      yield { save, values, done: save === saves };
    }
  } finally {
    runs.forEach((run) => kernel.network_stop(run));
  }
}

/**
 * A large sample of one mode at one time, sorted.
 * @param {any} kernel
 * @param {any} asked
 */
async function* sample(kernel, asked) {
  const { mode, start: from, time, n, seed, tolerance } = asked;
  const all = new Float64Array(n);
  for (const { first, last, strengths } of modePaths(kernel, mode, from, [time], n, seed, tolerance)) {
    all.set(strengths, first);
    if (last < n) yield null;
  }
  yield { sample: all.sort(), done: true };
}

/** @type {Record<string, (kernel: any, asked: any) => AsyncGenerator<any>>} */
const JOBS = { paths, networks, sample };

here.onmessage = async (/** @type {any} */ message) => {
  const kernel = await ready;
  const { id, job, ...asked } = message.data;
  if (id < newest) return;
  newest = id;
  let began = performance.now();
  try {
    for await (const part of JOBS[job](kernel, asked)) {
      if (part) here.postMessage({ id, part });
      if (performance.now() - began < TURN) continue;
      await pause();
      if (newest !== id) return;
      began = performance.now();
    }
  } catch (error) {
    here.postMessage({ id, error: String(error) });
  }
};

newest = 0;
ready.then(() => here.postMessage({ ready: true }));
