"""Small mistakes, put into a copy of the tree one at a time: each must make the test named beside it fail.

    python tests/mutants/mutants.py [NAME …]        (make mutants runs them all)

The copy has an interpreter that sees its ``src`` first and the packages of this environment after it. Its kernel is
built for the baseline instruction set without much optimisation, which takes seconds. Before the mutants, every named
test must pass there, and a tree that cannot be imported must be noticed. A mutant is caught when its test fails, not
when it cannot be collected.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from table import BREAKS_IMPORT, MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]


class Copy:
    """A copy of the tree with an interpreter and a kernel of its own."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.build = folder / "tree", folder / "build"
        for name in ("src", "tests", "cpp"):
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, self.tree / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "CMakeLists.txt"):
            shutil.copy(ROOT / name, self.tree / name)
        venv.create(folder / "venv", symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        (packages,) = (folder / "venv").glob("lib/python*/site-packages")
        installed = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "copy.pth").write_text("\n".join([str(self.tree / "src"), *installed]))
        for file, old, new in (
            ("CMakeLists.txt", "(-O3", "(-O1"),
            ("cpp/isas.cmake", 'if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")', "if(FALSE)"),
            ("cpp/dispatch.cpp", "#if defined(__x86_64__)", "#if 0"),
        ):
            self.replace(file, old, new)
        tools = Path(sys.executable).parent
        self.cmake = str(tools / "cmake")
        self.call(
            self.cmake,
            *("-S", str(self.tree), "-B", str(self.build), "-G", "Ninja"),
            *(f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}", f"-DPython_EXECUTABLE={sys.executable}"),
        )
        self.compile()

    def replace(self, file: str, old: str, new: str) -> None:
        """Change one place of a file."""
        path = self.tree / file
        text = path.read_text()
        if text.count(old) != 1:
            raise SystemExit(f"{file} must have {old!r} exactly once, it has it {text.count(old)} times")
        path.write_text(text.replace(old, new))

    def compile(self) -> None:
        """Build the kernel and put it beside the Python files."""
        self.call(self.cmake, "--build", str(self.build))
        (kernel,) = self.build.glob("_kernel*.so")
        shutil.copy(kernel, self.tree / "src" / "saddlescope")

    def call(self, *command: str) -> None:
        """Run a command that must not fail."""
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.tree)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the copy's Python."""
        command = [str(self.python), "-B", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.tree)

    def test(self, *tests: str) -> subprocess.CompletedProcess[str]:
        """Run tests up to the first that fails."""
        return self.run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests)


def caught_by(copy: Copy, mutant: Mutant) -> str | None:
    """The test that fails under a mutant; None when it survives."""
    original = (copy.tree / mutant.file).read_text()
    copy.replace(mutant.file, mutant.old, mutant.new)
    try:
        if mutant.file.startswith("cpp/"):
            copy.compile()
        done = copy.test(mutant.test)
    finally:
        (copy.tree / mutant.file).write_text(original)
    if done.returncode == 0:
        return None
    lines = (line for line in done.stdout.splitlines() if line.startswith("FAILED "))
    failed = [line.removeprefix("FAILED ").split(" - ")[0] for line in lines]
    if done.returncode != 1 or not failed:
        raise SystemExit(f"{mutant.name}: the test did not run\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return failed[0]


def main(names: list[str]) -> int:
    """Run the mutants, or those whose names contain one of these; 1 when one survives."""
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        copy = Copy(Path(folder))
        copy_is_used(copy)
        sound = copy.test(*dict.fromkeys(mutant.test for mutant in chosen))
        if sound.returncode:
            raise SystemExit(f"tests fail without a mutant\n{sound.stdout[-3000:]}{sound.stderr[-3000:]}")
        survivors, compiled = 0, True
        for mutant in chosen:
            native, start = mutant.file.startswith("cpp/"), time.monotonic()
            if not native and not compiled:
                copy.compile()
            test, compiled = caught_by(copy, mutant), not native
            survivors += test is None
            print(f"{mutant.name:60} {test or 'SURVIVES'}  ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return int(survivors > 0)


def copy_is_used(copy: Copy) -> None:
    """Raise SystemExit unless Python files and kernel are those of the copy."""
    where = "import saddlescope as s; print(s.__file__, s._kernel.__file__, *s._kernel.instruction_sets())"
    found = copy.run("-c", where).stdout.split()
    inside = [str(copy.tree) in path for path in found[:2]]
    broken = (copy.tree / BREAKS_IMPORT.file).read_text()
    (copy.tree / BREAKS_IMPORT.file).write_text(broken.replace(BREAKS_IMPORT.old, BREAKS_IMPORT.new, 1))
    noticed = copy.run("-c", "import saddlescope").returncode != 0
    (copy.tree / BREAKS_IMPORT.file).write_text(broken)
    if inside != [True, True] or found[2:] != ["baseline"] or not noticed:
        raise SystemExit(f"the copy is not what is imported: {found}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
