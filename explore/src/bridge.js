/**
 * The bridge to the worker: the newest setting wins.
 *
 * While a slider moves, requests are light: the next one waits until the current one is complete, or has delivered a
 * part and run for PATIENCE milliseconds, so that the figures follow the slider. A request at rest is heavy: the next
 * one cancels it at once.
 */

/** @typedef {import("./types").Request} Request @typedef {import("./types").Part} Part */

const PATIENCE = 80;

/**
 * A function that asks the worker; `onPart` is called with every part of the newest answer.
 * @param {Pick<Worker, "postMessage" | "onmessage">} worker
 * @param {(part: Part, context: any) => void} onPart
 * @param {(sentence: string) => void} onError
 */
export function bridge(worker, onPart, onError) {
  let id = 0;
  /** What the worker computes. @type {"nothing" | "light" | "heavy"} */
  let busy = "nothing";
  let sent = 0;
  /** @type {{request: Request, context: any, heavy: boolean} | null} */
  let waiting = null;
  /** @type {any} */
  let context = null;

  const send = () => {
    if (!waiting) return;
    const { request, heavy } = waiting;
    context = waiting.context;
    waiting = null;
    busy = heavy ? "heavy" : "light";
    sent = performance.now();
    worker.postMessage({ ...request, id: ++id });
  };
  worker.onmessage = ({ data }) => {
    if (data.id !== id) return;
    if (data.error || data.part.done) busy = "nothing";
    if (data.error) onError(data.error);
    else onPart(data.part, context);
    if (busy === "nothing" || performance.now() - sent > PATIENCE) send();
  };
  return (/** @type {Request} */ request, /** @type {any} */ about, /** @type {boolean} */ heavy) => {
    waiting = { request, context: about, heavy };
    if (busy !== "light") send();
  };
}
