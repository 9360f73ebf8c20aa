/** Handles in figures: points that are dragged, or moved by the arrow keys. */

import { scale } from "./draw.js";

/** @typedef {import("./types").Figure} Figure */

const STEPS = /** @type {Record<string, [number, number]>} */ ({
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  ArrowRight: [1, 0],
  ArrowLeft: [-1, 0],
});

/** The value of a figure's axes at a point of its picture. @param {SVGSVGElement} picture @param {Figure} figure @param {PointerEvent} event */
function valueAt(picture, figure, event) {
  const [left, right, top, bottom] = String(picture.dataset.box).split(",").map(Number);
  const box = picture.getBoundingClientRect();
  const across = scale(figure.x, left, right).back(event.clientX - box.left);
  return { x: across, y: scale(figure.y, bottom, top).back(event.clientY - box.top) };
}

/**
 * Listens to the handles of all figures in a grid.
 * @param {HTMLElement} grid
 * @param {(index: number) => Figure | undefined} figureOf
 * @param {(values: Record<string, number>) => void} move
 * @param {(key: string, direction: number) => void} nudge
 */
export function listen(grid, figureOf, move, nudge) {
  /** @type {{handle: SVGElement, card: number} | null} */
  let held = null;
  const handleOf = (/** @type {Event} */ event) =>
    /** @type {SVGElement | null} */ (/** @type {Element} */ (event.target).closest(".handle"));

  grid.addEventListener("pointerdown", (event) => {
    const handle = handleOf(event);
    const card = handle?.closest("figure");
    if (!handle || !card) return;
    held = { handle, card: [...grid.children].indexOf(card) };
    grid.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  grid.addEventListener("pointermove", (event) => {
    const figure = held && figureOf(held.card);
    const picture = held && grid.children[held.card].querySelector("svg");
    if (!held || !figure || !picture) return;
    const { x, y } = valueAt(picture, figure, event);
    const { key = "", keyX, moves } = held.handle.dataset;
    move(moves === "xy" && keyX ? { [keyX]: x, [key]: y } : { [key]: moves === "x" ? x : y });
  });
  for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => (held = null));
  grid.addEventListener("keydown", (event) => {
    const handle = handleOf(event);
    const step = STEPS[event.key];
    if (!handle || !step) return;
    event.preventDefault();
    const { key = "", keyX, moves } = handle.dataset;
    nudge(step[0] && moves === "xy" && keyX ? keyX : key, step[0] || step[1]);
  });
}
