"""Every script in examples/ runs as it is, without a warning, and writes its figure."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  builds the cache of fonts, which warns when it is slow
import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("networks/*.py"), *FOLDER.glob("sweeps/*.py")])


def run(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script in a folder, with an environment that says nothing about figures or warnings."""
    kept = ("HOME", "USERPROFILE", "PATH", "SYSTEMROOT", "TEMP", "MPLCONFIGDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_an_example_runs(script, tmp_path):
    imported = re.findall(r"^(?:import|from) (\w+)", script.read_text(encoding="utf-8"), re.M)
    if missing := [name for name in imported if find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert any(character.isdigit() for character in done.stdout)
    figure = tmp_path / f"{script.stem}.png"
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_an_example_is_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 60


def test_a_script_that_fails_or_warns_is_noticed(tmp_path):
    script = tmp_path / "wrong.py"
    script.write_text("import warnings\nwarnings.warn('careful')\n", encoding="utf-8")
    assert "careful" in run(script, tmp_path).stderr
    script.write_text("raise SystemExit('no')\n", encoding="utf-8")
    assert run(script, tmp_path).returncode == 1


def test_there_are_examples():
    assert SCRIPTS
