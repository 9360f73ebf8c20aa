/** The worker: one job at a time, in parts; the next setting stops the last at its next part. */

import { kernels } from "./engine.js";
import { JOBS } from "./jobs.js";

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

here.onmessage = async (/** @type {any} */ message) => {
  const { id, job, ...asked } = message.data;
  newest = id;
  try {
    const kernel = await ready;
    if (newest !== id) return;
    let began = performance.now();
    for (const part of JOBS[/** @type {keyof typeof JOBS} */ (job)](kernel, asked)) {
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
