"""The picture of the README, docs/_static/run.svg: the run of its example, made by ``make figures``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import saddlescope as sc

DOCS = Path(__file__).parent


def main() -> None:
    """Run the example and write its picture."""
    code = re.search(r"^```python\n(.*?)^```$", (DOCS.parent / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    if code is None:
        raise ValueError("README.md has no block of Python; add the example")
    names: dict[str, Any] = {}
    exec(compile(code[1], "README.md", "exec"), names)
    file = DOCS / "_static" / "run.svg"
    sc.plots.save(names["figure"], file)
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
