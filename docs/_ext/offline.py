"""Built pages load nothing from the network: a page or style sheet that would is a warning, which fails the build."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

LOADS = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc(?:set)?\s*=\s*[\"']?\s*(?:https?:)?//[^\s\"'>]+"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|license))[^>]*?\bhref\s*=\s*[\"']?\s*(?:https?:)?//[^\s\"'>]+"
    r"|@import\s+(?:url\()?[\"']?\s*(?:https?:)?//[^\s\"')]+"
    r"|url\(\s*[\"']?\s*(?:https?:)?//[^\s\"')]+",
    re.IGNORECASE,
)
"""What a browser fetches from elsewhere when it shows a page; links to click are no loads."""


def loads(text: str) -> list[str]:
    """Loads from elsewhere in the text of a page or a style sheet.

    >>> loads('<a href="https://arxiv.org">paper</a> <script src="https://cdn.example/x.js">')
    ['<script src="https://cdn.example/x.js']
    """
    return LOADS.findall(text)


def check(app: Sphinx, failure: Exception | None) -> None:
    """Raise ExtensionError for the first page that loads something from elsewhere."""
    if failure is not None or app.builder.format != "html":
        return
    for file in sorted(Path(app.outdir).rglob("*")):
        if file.suffix in (".html", ".css") and (found := loads(file.read_text(encoding="utf-8"))):
            page = file.relative_to(app.outdir)
            raise ExtensionError(f"{page} loads from the network: {found[0]}; put the file into docs/_static")


def setup(app: Sphinx) -> dict[str, Any]:
    """Check at the end of every build."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
