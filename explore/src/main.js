/** The page: tabs, settings, figures; the address holds the state, and the newest setting is drawn. */

import { bridge } from "./bridge.js";
import { escaped, shown, svg } from "./draw.js";
import { math } from "./formula.js";
import { download, figureFile } from "./files.js";
import { listen } from "./handles.js";
import { control, held, nudged, refresh } from "./settings.js";
import { fromQuery, toQuery } from "./state.js";
import { VIEWS } from "./views.js";

/** @typedef {import("./types").View} View @typedef {import("./types").State} State */
/** @typedef {import("./types").Picture} Picture @typedef {import("./types").Value} Value */

const PAUSE = 50; // milliseconds between two pictures of an answer that is not complete, and at least
const SHARE = 4; // times as long as it takes to draw one
const REST = 160; // milliseconds without a change after which everything is computed

/** A link to a file means nothing on another computer. */
const LOCAL =
  "This page is a file on your computer: to show this to others, send them the file too; they add what follows # in the link to the address of their copy.";

/** @param {string} id */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** What opens without an address: the run, where the page holds one. */
const FIRST = $("stored").textContent === "null" ? VIEWS[0] : VIEWS[VIEWS.length - 1];
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * What is on the page now. `known` is the answer so far to the request `answered`, for the state `of`; `asked` is the
 * newest request. `opening` counts views that were opened: answers to earlier ones come too late.
 * @type {{view: View, opening: number, state: State, asked: string, known: unknown, answered: string, of: State,
 *   picture: Picture | null, done: boolean}}
 */
const now = {
  view: VIEWS[0],
  opening: 0,
  state: {},
  asked: "",
  known: null,
  answered: "",
  of: {},
  picture: null,
  done: false,
};
let dirty = false;
/** When the next part of an answer may be drawn. */
let again = -Infinity;
/** The figures as they were last drawn. @type {string[]} */
const texts = [];
/** The settings of views that were left, as addresses. @type {Map<View, string>} */
const left = new Map();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let resting;

const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent ?? ""], { type: "text/javascript" })));
const send = bridge(worker, onPart, onError);

/** Says what went wrong; the same setting may be asked for again. @param {string} sentence */
function onError(sentence) {
  say([`The computation stopped: ${sentence}`]);
  now.asked = "";
  document.body.dataset.done = "true";
  $("figures").setAttribute("aria-busy", "false");
}

/** @param {import("./types").Part} part @param {{opening: number, text: string, state: State}} about */
function onPart(part, { opening, text, state }) {
  if (opening !== now.opening) return;
  now.known = now.view.take(now.known, part);
  now.answered = text;
  now.of = text === now.asked ? now.state : state;
  now.done = text === now.asked && part.done;
  if (part.done || (!still && performance.now() > again)) paint();
}

/** Draws at the next frame. */
function paint() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => {
    dirty = false;
    const began = performance.now();
    draw();
    again = performance.now() + Math.max(PAUSE, SHARE * (performance.now() - began));
  });
}

/** Asks for what the state needs; without `full`, for what moves with the slider. @param {boolean} full */
function ask(full) {
  clearTimeout(resting);
  document.body.dataset.rest = "false";
  const { view, state, opening } = now;
  const request = view.request(state, full);
  const [text, complete] = [JSON.stringify(request), JSON.stringify(view.request(state, true))];
  const fresh = request !== null && text !== now.asked && complete !== now.asked;
  if (fresh) {
    now.asked = text;
    now.done = false;
    document.body.dataset.done = "false";
    send(request, { opening, text, state }, full);
  } else if (!request) now.done = true;
  if (!request || !now.known || now.answered === now.asked) now.of = state;
  // Otherwise the first part of the new answer is drawn, not the old answer to a new question.
  if (!fresh || !now.known) paint();
  resting = setTimeout(() => (full ? rest() : ask(true)), REST);
}

/** Once nothing changes any more: the address, and words for screen readers. */
function rest() {
  const query = toQuery(now.view.key, now.state) + (document.body.classList.contains("compact") ? "&compact=1" : "");
  if (location.hash.slice(1) !== query) history.replaceState(null, "", `#${query}`);
  document.body.dataset.rest = "true";
}

/** @param {string} key @param {Value} value @param {boolean} full */
function set(key, value, full) {
  now.state = { ...now.state, [key]: value };
  veil();
  ask(full);
}

/** A change of a control. @param {string} key @param {Value} value @param {boolean} finished @param {string} [wrong] */
function change(key, value, finished, wrong) {
  if (finished) say(wrong ? [wrong] : []);
  set(key, value, finished);
  if (finished) refresh(now.view.fields, now.state);
}

// --- the picture

function draw() {
  const { view, of, known } = now;
  const picture = (now.picture = view.draw(of, known));
  const grid = $("figures");
  grid.dataset.columns = String(picture.columns ?? "");
  while (grid.children.length > picture.figures.length) grid.lastElementChild?.remove();
  const focused = document.activeElement?.getAttribute("data-key");
  picture.figures.forEach((figure, k) => {
    let card = /** @type {HTMLElement} */ (grid.children[k]);
    if (!card) {
      card = document.createElement("figure");
      card.innerHTML = `<div class="plot"></div><button type="button" class="small" data-figure="${k}">SVG</button>`;
      grid.append(card);
    }
    card.classList.toggle("wide", figure.wide ?? false);
    const plot = /** @type {HTMLElement} */ (card.firstElementChild);
    const width = Math.max(200, Math.floor(plot.clientWidth));
    const text = svg(figure, width, figure.wide ? 330 : Math.round(Math.min(290, 0.85 * width)), `f${k}`);
    if (texts[k] !== text) plot.innerHTML = texts[k] = text;
    /** @type {HTMLElement} */ (card.lastElementChild).setAttribute("aria-label", `Download ${figure.title} as SVG`);
  });
  if (focused) /** @type {HTMLElement | null} */ (grid.querySelector(`[data-key="${focused}"]`))?.focus();
  $("look").textContent = picture.look;
  const formulas = picture.formulas.join("\n");
  if (formulas !== $("formulas").dataset.tex)
    $("formulas").innerHTML = picture.formulas.map((tex) => `<p>${math(tex)}</p>`).join("");
  $("formulas").dataset.tex = formulas;
  $("numbers").innerHTML = picture.numbers
    .map(({ key, label, value }) => {
      const text = value === null ? "—" : typeof value === "string" ? escaped(value) : shown(value);
      return `<div><dt>${escaped(label)}</dt><dd data-number="${key}" data-value="${value}">${text}</dd></div>`;
    })
    .join("");
  $("notes").innerHTML = picture.notes.map((note) => `<p>⚠ ${escaped(note)}</p>`).join("");
  $("figures").setAttribute("aria-busy", String(!now.done));
  document.body.dataset.done = String(now.done);
}

/** Sentences about what the reader did. @param {string[]} sentences */
function say(sentences) {
  $("say").innerHTML = sentences.map((sentence) => `<p>${escaped(sentence)}</p>`).join("");
}

/** With “predict first”, hides the answer until the reader reveals it. */
function veil() {
  const wanted = /** @type {HTMLInputElement} */ ($("predict")).checked;
  document.body.classList.toggle("veiled", wanted);
}

// --- handles and buttons in figures

/** @param {string} key */
const fieldOf = (key) => now.view.fields.find((one) => one.key === key);

/** Sets numbers by a handle. @param {Record<string, number>} values */
function move(values) {
  for (const [key, value] of Object.entries(values)) {
    const field = fieldOf(key);
    if (field) now.state = { ...now.state, [key]: held(field, value) };
  }
  refresh(now.view.fields, now.state);
  veil();
  ask(false);
}

/** @param {string} key @param {number} direction */
function nudge(key, direction) {
  const field = fieldOf(key);
  if (field) move({ [key]: nudged(field, Number(now.state[key]), direction) });
}

/** Saves the figure whose button was pressed. @param {Event} event */
function saveFigure(event) {
  const button = /** @type {Element} */ (event.target).closest("[data-figure]");
  const picture = button?.closest("figure")?.querySelector("svg");
  if (!button || !picture) return;
  const name = `${now.view.key}-${Number(button.getAttribute("data-figure")) + 1}.svg`;
  download(name, figureFile(picture), "image/svg+xml");
}

// --- the page

/** Opens a view as it was left; the way back leads to the last. @param {View} view */
function reopen(view) {
  history.pushState(null, "", `#view=${view.key}`);
  open(view, new URLSearchParams(left.get(view)));
}

/** Opens a view with the settings of an address. @param {View} view @param {URLSearchParams} query */
function open(view, query) {
  const { state, wrong } = fromQuery(view.fields, query);
  left.set(now.view, toQuery(now.view.key, now.state));
  const same = view === now.view && $("presets").childElementCount > 0;
  Object.assign(now, { view, state, opening: now.opening + 1, known: null, asked: "", answered: "", done: false });
  say(wrong);
  for (const tab of $("tabs").children) {
    const here = tab.id === `tab-${view.key}`;
    tab.setAttribute("aria-selected", String(here));
    /** @type {HTMLElement} */ (tab).tabIndex = here ? 0 : -1;
    if (here) tab.scrollIntoView({ inline: "nearest", block: "nearest" });
  }
  document.title = `${view.title} · saddlescope`;
  $("about").textContent = view.about;
  $("settings").replaceChildren(...view.fields.map((field) => control(field, state[field.key], change)));
  refresh(view.fields, state);
  if (!same) offer(view);
  $("figures").replaceChildren();
  texts.length = 0;
  ask(true);
}

/** The presets of a view. @param {View} view */
function offer(view) {
  $("presets").replaceChildren(
    ...view.presets.map(({ name, values }) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
      button.onclick = () => open(view, new URLSearchParams(toQuery(view.key, values)));
      return button;
    }),
  );
}

/** The query of the address; what follows # comes first. */
function address() {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) query.set(key, value);
  return query;
}

function fromAddress() {
  const query = address();
  const name = query.get("view") ?? FIRST.key;
  const view = VIEWS.find((one) => one.key === name);
  document.body.classList.toggle("compact", query.get("compact") === "1");
  open(view ?? VIEWS[0], query);
  if (!view)
    say([
      `There is no view “${name}”; this is ${VIEWS[0].title}. The others are ${VIEWS.map((one) => one.key).join(", ")}.`,
    ]);
}

/** @param {string} text @param {string} what @param {string[]} more sentences about it */
async function copy(text, what, more = []) {
  $("text").textContent = text;
  /** @type {HTMLDetailsElement} */ ($("shown-text")).open = true;
  try {
    await navigator.clipboard.writeText(text);
    say([`${what} is on the clipboard.`, ...more]);
  } catch {
    say([`${what} is shown below the figures, to copy from there.`, ...more]);
  }
}

function begin() {
  $("tabs").replaceChildren(
    ...VIEWS.map((view) => {
      const tab = Object.assign(document.createElement("button"), {
        type: "button",
        id: `tab-${view.key}`,
        textContent: view.title,
      });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", "panel");
      tab.onclick = () => reopen(view);
      return tab;
    }),
  );
  $("tabs").onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = VIEWS[(VIEWS.indexOf(now.view) + by + VIEWS.length) % VIEWS.length];
    reopen(next);
    $(`tab-${next.key}`).focus();
  };
  $("python").onclick = () => copy(now.view.code(now.state).python, "The Python that reproduces this");
  $("toml").onclick = () => copy(now.view.code(now.state).toml, "The run file that reproduces this");
  $("link").onclick = () => {
    rest();
    const whole = `${location.href.split(/[?#]/)[0]}#${toQuery(now.view.key, now.state)}`;
    copy(whole, "The link to this", location.protocol === "file:" ? [LOCAL] : []);
  };
  $("csv").onclick = () => download(`${now.view.key}.csv`, now.view.csv(now.of, now.known), "text/csv");
  $("predict").onchange = veil;
  $("reveal").onclick = () => document.body.classList.remove("veiled");
  const narrow = matchMedia("(max-width: 800px)");
  const drawer = /** @type {HTMLDetailsElement} */ ($("drawer"));
  drawer.open = !narrow.matches;
  narrow.addEventListener("change", () => (drawer.open = !narrow.matches)); // where it is wide nothing could open it
  listen($("figures"), (index) => now.picture?.figures[index], move, nudge);
  $("figures").addEventListener("click", saveFigure);
  addEventListener("hashchange", fromAddress);
  addEventListener("resize", paint);
  fromAddress();
}

/** What tests and tinkerers read: everything at full precision. */
Object.assign(window, {
  saddlescope: {
    get done() {
      return now.done && !dirty;
    },
    /** Whether what is on the page is all that is wanted at rest, not what moves with a slider. */
    get full() {
      const request = now.view.request(now.state, true);
      return !request || now.asked === JSON.stringify(request);
    },
    get state() {
      return now.state;
    },
    csv: () => now.view.csv(now.of, now.known),
    code: () => now.view.code(now.state),
    numbers: () => Object.fromEntries((now.picture?.numbers ?? []).map(({ key, value }) => [key, value])),
    set: (/** @type {string} */ key, /** @type {Value} */ value) => set(key, value, true),
  },
});

begin();
