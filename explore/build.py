"""The live page as one file: kernels in WebAssembly, modules, worker, script and style inline.

Modules keep to ``import { a, b } from "./x.js"`` and ``export function | const | class``; each becomes a function that
returns what it exports, in the order in which they need each other. The compiler is that of the package ``ziglang``.
"""

from __future__ import annotations

import base64
import gzip
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "src"
LARGEST = 400_000
"""Bytes of the page at most."""

TARGET = ("-target", "wasm32-wasi", "-mexec-model=reactor", "-mcpu=generic+simd128", "-msimd128")
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-s")
IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]*)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function\*? (\w+)|const (\w+)|class (\w+))", re.MULTILINE)


def kernels(out: Path) -> bytes:
    """The kernels in WebAssembly; compiled again when one of their files is newer."""
    files = [*(HERE.parent / "cpp").rglob("*.hpp"), *(HERE / "wasm").iterdir(), Path(__file__)]
    if not out.exists() or out.stat().st_mtime < max(file.stat().st_mtime for file in files):
        out.parent.mkdir(parents=True, exist_ok=True)
        source = HERE / "wasm" / "page.cpp"
        compiler = [sys.executable, "-m", "ziglang", "c++"]
        subprocess.run([*compiler, *TARGET, *FLAGS, f"-I{HERE.parent / 'cpp'}", source, "-o", out], check=True)
    return out.read_bytes()


def bundle(entry: Path) -> str:
    """A module and all that it imports, as one script."""
    done: dict[Path, str] = {}
    parts: list[str] = []

    def add(path: Path) -> str:
        if path in done:
            return done[path]
        text = path.read_text()
        for _, other in IMPORT.findall(text):
            add((path.parent / other).resolve())
        names = ["".join(found) for found in EXPORT.findall(text)]
        done[path] = f"m{len(done)}"
        text = IMPORT.sub(lambda found: f"const {{{renamed(found[1])}}} = {_of(path, found[2], done)};\n", text)
        body = EXPORT.sub("", text)
        parts.append(f"const {done[path]} = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();\n")
        return done[path]

    add(entry.resolve())
    return '"use strict";\n' + "".join(parts)


def renamed(names: str) -> str:
    """Names of an import as those of an object: ``a as b`` is ``a: b``."""
    return names.replace(" as ", ": ")


def _of(path: Path, other: str, done: dict[Path, str]) -> str:
    return done[(path.parent / other).resolve()]


def page(wasm: bytes) -> str:
    """The page with everything in it."""
    packed = base64.b64encode(gzip.compress(wasm, 9, mtime=0)).decode()
    parts = {
        "style": (SOURCE / "style.css").read_text(),
        "worker": f'self.WASM = "{packed}";\n{bundle(SOURCE / "worker.js")}',
        "page": bundle(SOURCE / "main.js"),
    }
    for name, text in parts.items():
        if f"</{'style' if name == 'style' else 'script'}" in text.lower():
            raise ValueError(f"{name} must not hold the closing tag of its element; write it in two pieces")
    frame = (SOURCE / "index.html").read_text()
    if sorted(re.findall(r"\{\{(\w+)\}\}", frame)) != sorted(parts):
        raise ValueError(f"index.html must have one place for each of {', '.join(parts)}; write them as {{{{style}}}}")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], frame)


def main() -> None:
    """Write the page to the path given, by default where the package looks for it."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "src" / "saddlescope" / "explore" / "explore.html"
    text = page(kernels(HERE.parent / "build" / "explore" / "page.wasm"))
    size = len(text.encode())
    if size > LARGEST:
        raise SystemExit(f"the page has {size:,} bytes, more than {LARGEST:,}; make it smaller")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"{out}: {size:,} bytes, {len(gzip.compress(text.encode(), 9)):,} compressed")


if __name__ == "__main__":
    main()
