/** All views, in the order of their tabs. */

import { balance } from "./views/balance.js";
import { mode } from "./views/mode.js";
import { rank } from "./views/rank.js";
import { regimes } from "./views/regimes.js";
import { run } from "./views/run.js";
import { saddle } from "./views/saddle.js";
import { wrong } from "./views/wrong.js";

/** @type {import("./types").View[]} */
export const VIEWS = [saddle, mode, regimes, wrong, balance, rank, run];
