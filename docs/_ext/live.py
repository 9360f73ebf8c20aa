"""``{live}``: a view of the live page inside a page of the site, loaded when a reader scrolls to it.

The argument is a view with its settings, as in the address of the page: ``view=mode&T=0.05``. The page is one file,
``explore.html``, which ``make page`` builds. A picture of the view, drawn by the same code in node, stands in its place
until the view has loaded, on paper, and where no script runs.
"""

from __future__ import annotations

import re
import subprocess
from html import escape
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from saddlescope import explore

FILE = Path(explore.__file__).parent / "explore.html"

DRAW = Path(__file__).parents[2] / "explore" / "src" / "still.js"
"""Draws the picture of a view."""

TITLES = {
    "saddle": "Saddle to saddle",
    "mode": "One mode",
    "regimes": "Regimes",
    "wrong": "Wrong theories",
    "balance": "Balance",
    "rank": "Rank",
}
"""The views that can stand in a page."""


def picture(address: str) -> str:
    """Path of the picture of a view, from the folder of static files."""
    return f"live/{re.sub(r'[^A-Za-z0-9.]+', '-', address)}.svg"


def frame(address: str, root: str, caption: str) -> str:
    """The HTML of a view; ``root`` leads from the page to the folder of static files."""
    title, page = TITLES[parse_qs(address)["view"][0]], f"{root}{FILE.name}"
    whole, small = (escape(f"{page}#{query}") for query in (address, f"{address}&compact=1"))
    return (
        f'<figure class="live"><div><img src="{root}{picture(address)}" alt="{escape(caption)}">'
        f'<iframe loading="lazy" title="Live view: {title}" src="{small}"></iframe></div>'
        f'<figcaption>{escape(caption)} <a href="{whole}">Open it alone</a>, with all settings and numbers.'
        "<noscript> The view itself needs JavaScript; this is a picture of it.</noscript></figcaption></figure>"
    )


class Live(SphinxDirective):
    """A view; its content is the caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """The frame, or a warning where the page has not been built or there is no such view."""
        address = self.arguments[0]
        if parse_qs(address).get("view", [""])[0] not in TITLES:
            raise self.error(f"the live page has no view for {address!r}; begin with view=, one of {', '.join(TITLES)}")
        if not FILE.exists():
            raise self.error("the live page is not built; run make page")
        self.draw(address)
        root = "../" * self.env.docname.count("/") + "_static/"
        return [nodes.raw("", frame(address, root, " ".join(self.content)), format="html")]

    def draw(self, address: str) -> None:
        """Draw the picture of the view into the site."""
        file = Path(self.env.app.outdir) / "_static" / picture(address)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["node", DRAW, address, file], check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise self.error("pictures of live views are drawn by node, which is missing; install node 20") from None
        except subprocess.CalledProcessError as error:
            raise self.error(f"the picture of {address!r} cannot be drawn: {error.stderr.strip()}") from None


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive, and the live page to the static files."""
    app.add_directive("live", Live)
    if FILE.exists():
        app.config.html_static_path.append(str(FILE))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
