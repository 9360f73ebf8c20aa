/** The shared shapes of the page: what a setting is, what a view offers, what the worker is asked. */

/** A value of a setting: a number, or a text such as a list of strengths. */
export type Value = number | string;
export type State = Record<string, Value>;

export interface Field {
  key: string;
  label: string;
  /** linear and log are sliders, choice a list of values, list numbers with commas between them. */
  kind: "linear" | "log" | "choice" | "list";
  value: Value;
  low: number;
  high: number;
  step?: number;
  choices?: [Value, string][];
  /** Whether it matters while the other settings are as they are; otherwise it is hidden. */
  when?: (state: State) => boolean;
  /** Whether 0 stands below the lowest value of a logarithmic slider. */
  zero?: boolean;
  /** The longest list. */
  most?: number;
}

export interface Preset {
  name: string;
  values: State;
}

/** What the worker is asked; `job` names the function. */
export interface Request {
  job: "paths" | "networks" | "sample";
  [argument: string]: unknown;
}

/** A part of an answer; later parts replace or add to earlier ones, as the view decides. */
export interface Part {
  done: boolean;
  [result: string]: unknown;
}

export interface Code {
  python: string;
  toml: string;
}

/** A number shown on the page, read back by tests at full precision. */
export interface Shown {
  key: string;
  label: string;
  value: number | string | null;
}

/** What a view draws: one figure each, the numbers beside them, and the sentence that says what to look at. */
export interface Picture {
  figures: Figure[];
  formulas: string[];
  numbers: Shown[];
  look: string;
  /** Warnings such as the stability edge. */
  notes: string[];
  /** Figures in a row where there is room. */
  columns?: 2 | 4;
}

export interface View {
  key: string;
  title: string;
  about: string;
  fields: Field[];
  presets: Preset[];
  /** What the worker has to compute; `full` is false while a slider moves. */
  request(state: State, full: boolean): Request | null;
  /** Adds a part of the answer to what is known. */
  take(known: unknown, part: Part): unknown;
  draw(state: State, known: unknown): Picture;
  code(state: State): Code;
  csv(state: State, known: unknown): string;
}

export interface Axis {
  label: string;
  low: number;
  high: number;
  log?: boolean;
}

export type Layer =
  | {
      kind: "line";
      x: ArrayLike<number>;
      y: ArrayLike<number>;
      ink: string;
      width?: number;
      dash?: string;
      name?: string;
      opacity?: number;
    }
  | {
      kind: "paths";
      x: ArrayLike<number>;
      y: ArrayLike<number>;
      count: number;
      ink: string;
      name?: string;
      opacity?: number;
    }
  | { kind: "area"; x: ArrayLike<number>; low: ArrayLike<number>; high: ArrayLike<number>; ink: string; name?: string }
  | { kind: "bars"; edges: ArrayLike<number>; y: ArrayLike<number>; ink: string; name?: string }
  | { kind: "heat"; x: ArrayLike<number>; y: ArrayLike<number>; z: ArrayLike<number>; name?: string }
  | {
      /** Shades (rows, columns) of the times x, from low to high. */
      kind: "shade";
      x: ArrayLike<number>;
      low: number;
      high: number;
      grey: Uint8Array;
      columns: number;
      rows: number;
      ink: string;
      name?: string;
    }
  | { kind: "marks"; at: number[]; along: "x" | "y"; ink: string; name?: string; dash?: string }
  | { kind: "dot"; x: number; y: number; ink: string; name?: string }
  | { kind: "handle"; x: number; y: number; key: string; moves: "x" | "y" | "xy"; keyX?: string; label: string }
  | { kind: "text"; x: number; y: number; text: string };

export interface Figure {
  title: string;
  /** Text for readers who do not see the figure. */
  text: string;
  x: Axis;
  y: Axis;
  layers: Layer[];
  /** Share of the row; 1 is half of a wide page. */
  wide?: boolean;
}
