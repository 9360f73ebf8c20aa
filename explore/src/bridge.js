/**
 * The bridge to the worker: the newest setting wins.
 *
 * While a setting is computed, the next waits for it, so that a moving slider paints; after PATIENCE it is sent all the
 * same, and the worker gives the old one up.
 */

/** @typedef {import("./types").Request} Request @typedef {import("./types").Part} Part */

const PATIENCE = 40;

/**
 * A function that asks the worker; `onPart` is called with every part of the newest answer.
 * @param {Worker} worker
 * @param {(part: Part, context: any) => void} onPart
 * @param {(sentence: string) => void} onError
 */
export function bridge(worker, onPart, onError) {
  let id = 0;
  let busy = false;
  let sent = 0;
  /** @type {{request: Request, context: any} | null} */
  let waiting = null;
  /** @type {any} */
  let context = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const send = () => {
    clearTimeout(timer);
    if (!waiting) return;
    const { request } = waiting;
    context = waiting.context;
    waiting = null;
    busy = true;
    sent = performance.now();
    worker.postMessage({ ...request, id: ++id });
  };
  worker.onmessage = ({ data }) => {
    if (data.ready || data.id !== id) return;
    if (data.error) {
      busy = false;
      onError(data.error);
    } else {
      onPart(data.part, context);
      busy = !data.part.done;
    }
    if (waiting && !busy) send();
  };
  return (/** @type {Request} */ request, /** @type {any} */ about) => {
    const timed = waiting !== null;
    waiting = { request, context: about };
    if (!busy) send();
    else if (!timed) timer = setTimeout(send, Math.max(0, sent + PATIENCE - performance.now()));
  };
}
