import js from "@eslint/js";

const page = ["document", "window", "location", "history", "navigator", "performance", "Worker", "Blob", "URL"];
const more = ["URLSearchParams", "atob", "btoa", "Response", "DecompressionStream", "MessageChannel", "setTimeout", "clearTimeout"];
const rest = ["matchMedia", "requestAnimationFrame", "XMLSerializer", "WebAssembly", "self", "postMessage", "getComputedStyle", "addEventListener"];

export default [
  js.configs.recommended,
  {
    languageOptions: { globals: Object.fromEntries([...page, ...more, ...rest].map((name) => [name, "readonly"])) },
    rules: { eqeqeq: "error", "prefer-const": "error", "no-var": "error" },
  },
  { files: ["tests/**", "src/still.js"], languageOptions: { globals: { Buffer: "readonly", process: "readonly", URL: "readonly" } } },
];
