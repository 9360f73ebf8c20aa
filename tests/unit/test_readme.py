"""The README's examples run, and the names in it exist."""

import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if "import torch" in block:
        pytest.importorskip("torch")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_there_is_an_example() -> None:
    assert BLOCKS


@pytest.mark.parametrize("target", re.findall(r"^ {4}make (\w+)", README, flags=re.MULTILINE))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w./]+)\)", README))
def test_links_lead_to_files(path: str) -> None:
    assert (ROOT / path).exists()
