/** The bridge to the worker: what waits, what is given up, and whose parts are taken. */

import assert from "node:assert/strict";
import test from "node:test";

import { bridge } from "../src/bridge.js";

/** A worker that answers when it is told to. */
function scene() {
  /** @type {any[]} */
  const asked = [];
  /** @type {any} */
  const worker = { onmessage: null, postMessage: (/** @type {any} */ request) => asked.push(request) };
  /** @type {any[]} */
  const taken = [];
  const send = bridge(
    worker,
    (part, context) => taken.push([part.text, context]),
    (sentence) => taken.push([sentence]),
  );
  const answer = (/** @type {number} */ id, /** @type {any} */ part) => worker.onmessage({ data: { id, part } });
  return { asked, taken, send, answer, worker };
}

/** @param {string} name @returns {import("../src/types").Request} */
const request = (name) => ({ job: "sample", name });

test("a light setting is completed, and then only the newest that waited is sent", () => {
  const { asked, taken, send, answer } = scene();
  for (const name of ["a", "b", "c"]) send(request(name), name, false);
  assert.deepEqual(
    asked.map(({ name }) => name),
    ["a"],
  );
  answer(1, { text: "part of a", done: false });
  assert.equal(asked.length, 1);
  answer(1, { text: "a", done: true });
  assert.deepEqual(
    asked.map(({ name }) => name),
    ["a", "c"],
  );
  assert.deepEqual(taken, [
    ["part of a", "a"],
    ["a", "a"],
  ]);
});

test("a heavy setting is given up at once, and its later parts are not taken", () => {
  const { asked, taken, send, answer } = scene();
  send(request("heavy"), "heavy", true);
  send(request("next"), "next", false);
  assert.equal(asked.length, 2);
  answer(1, { text: "late", done: true });
  assert.deepEqual(taken, []);
  answer(2, { text: "next", done: true });
  assert.deepEqual(taken, [["next", "next"]]);
});

test("a light setting that takes long gives way once it has shown a part", (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const { asked, send, answer } = scene();
  send(request("slow"), "slow", false);
  send(request("next"), "next", false);
  now = 1000;
  assert.equal(asked.length, 1);
  answer(1, { text: "part", done: false });
  assert.equal(asked.length, 2);
});

test("after an error the next setting is sent", () => {
  const { asked, taken, send, worker } = scene();
  send(request("bad"), "bad", false);
  send(request("good"), "good", false);
  worker.onmessage({ data: { id: 1, error: "it failed" } });
  assert.deepEqual(taken, [["it failed"]]);
  assert.equal(asked[1].name, "good");
});
