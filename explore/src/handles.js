/** Handles in figures: points that are dragged, or moved by the arrow keys. */

import { scale } from "./draw.js";

/** @typedef {import("./types").Figure} Figure */

const STEPS = /** @type {Record<string, [number, number]>} */ ({
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  ArrowRight: [1, 0],
  ArrowLeft: [-1, 0],
});

const REACH = 24; // pixels from a handle within which a press grabs it: a finger is wide

/**
 * The values of a figure's axes at a point of the window. Axes and place are those of this moment: while a handle is
 * held, neither new axes nor what appears above the figure moves its value.
 * @param {SVGSVGElement} picture
 * @param {Figure} figure
 */
function valuesOf(picture, figure) {
  const [left, right, top, bottom] = String(picture.dataset.box).split(",").map(Number);
  const box = picture.getBoundingClientRect();
  const [across, up] = [scale(figure.x, left, right), scale(figure.y, bottom, top)];
  return (/** @type {{clientX: number, clientY: number}} */ { clientX, clientY }) => ({
    x: across.back(clientX - box.left),
    y: up.back(clientY - box.top),
  });
}

/** The nearest handle of the figure under a point, if it is in reach. @param {EventTarget | null} target @param {{clientX: number, clientY: number}} at */
function handleNear(target, { clientX, clientY }) {
  /** @type {{handle: SVGElement, apart: number} | null} */
  let nearest = null;
  for (const handle of /** @type {Element} */ (target).closest("svg")?.querySelectorAll(".handle") ?? []) {
    const box = handle.getBoundingClientRect();
    const apart = Math.hypot(clientX - (box.left + box.right) / 2, clientY - (box.top + box.bottom) / 2);
    if (apart <= REACH && apart < (nearest?.apart ?? Infinity))
      nearest = { handle: /** @type {SVGElement} */ (handle), apart };
  }
  return nearest?.handle ?? null;
}

/**
 * Listens to the handles of all figures in a grid.
 * @param {HTMLElement} grid
 * @param {(index: number) => Figure | undefined} figureOf
 * @param {(values: Record<string, number>) => void} move
 * @param {(key: string, direction: number) => void} nudge
 */
export function listen(grid, figureOf, move, nudge) {
  /** @type {{handle: SVGElement, values: ReturnType<typeof valuesOf>} | null} */
  let held = null;

  grid.addEventListener("pointerdown", (event) => {
    const handle = handleNear(event.target, event);
    const card = handle?.closest("figure");
    const picture = handle?.closest("svg");
    const figure = card && figureOf([...grid.children].indexOf(card));
    if (!handle || !picture || !figure) return;
    held = { handle, values: valuesOf(picture, figure) };
    grid.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  // Otherwise a vertical drag scrolls the page, and the browser cancels the pointer.
  grid.addEventListener(
    "touchstart",
    (event) => {
      if (handleNear(event.target, event.touches[0])) event.preventDefault();
    },
    { passive: false },
  );
  grid.addEventListener("pointermove", (event) => {
    if (!held) return;
    const { x, y } = held.values(event);
    const { key = "", keyX, moves } = held.handle.dataset;
    move(moves === "xy" && keyX ? { [keyX]: x, [key]: y } : { [key]: moves === "x" ? x : y });
  });
  for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => (held = null));
  grid.addEventListener("keydown", (event) => {
    const handle = /** @type {SVGElement | null} */ (/** @type {Element} */ (event.target).closest(".handle"));
    const step = STEPS[event.key];
    if (!handle || !step) return;
    event.preventDefault();
    const { key = "", keyX, moves } = handle.dataset;
    nudge(step[0] && moves === "xy" && keyX ? keyX : key, step[0] || step[1]);
  });
}
