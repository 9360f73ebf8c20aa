/**
 * The bridge to the worker: the newest setting wins.
 *
 * While a setting has not shown its first part, the next waits for it, so that a moving slider paints; after PATIENCE
 * it is sent all the same, and the worker gives the old one up.
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
  let first = false; // whether a first part is awaited
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
    first = true;
    worker.postMessage({ ...request, id: ++id });
  };
  worker.onmessage = ({ data }) => {
    if (data.ready || data.id !== id) return;
    if (data.error) {
      first = false;
      onError(data.error);
    } else {
      onPart(data.part, context);
      first = false;
    }
    if (waiting) send();
  };
  return (/** @type {Request} */ request, /** @type {any} */ about) => {
    const late = waiting !== null;
    waiting = { request, context: about };
    if (!first) send();
    else if (!late) timer = setTimeout(send, PATIENCE);
  };
}
