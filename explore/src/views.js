/** All views, in the order of their tabs. */

import { mode } from "./views/mode.js";
import { saddle } from "./views/saddle.js";

/** @type {import("./types").View[]} */
export const VIEWS = [saddle, mode];
