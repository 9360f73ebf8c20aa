"""``{live}``: a view of the live page inside a page of the site, loaded when a reader scrolls to it.

The argument is a view with its settings, as in the address of the page: ``view=mode&T=0.05``. The page is one file,
``explore.html``, which ``make page`` builds. Where no script runs, the figures of the notebook around it remain.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from saddlescope import explore

FILE = Path(explore.__file__).parent / "explore.html"

TITLES = {
    "saddle": "Saddle to saddle",
    "mode": "One mode",
    "regimes": "Regimes",
    "wrong": "Wrong theories",
    "balance": "Balance",
    "rank": "Rank",
}
"""The views that can stand in a page."""


def frame(address: str, root: str, caption: str) -> str:
    """The HTML of a view; ``root`` leads from the page to the folder of static files."""
    title, page = TITLES[parse_qs(address)["view"][0]], f"{root}{FILE.name}"
    whole, small = (escape(f"{page}#{query}") for query in (address, f"{address}&compact=1"))
    return (
        f'<figure class="live"><iframe loading="lazy" title="Live view: {title}" src="{small}"></iframe>'
        f'<figcaption>{escape(caption)} <a href="{whole}">Open it alone</a>, with all settings and numbers.'
        "<noscript> It needs JavaScript; the figures of this page do not.</noscript></figcaption></figure>"
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
        root = "../" * self.env.docname.count("/") + "_static/"
        return [nodes.raw("", frame(address, root, " ".join(self.content)), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive, and the live page to the static files."""
    app.add_directive("live", Live)
    if FILE.exists():
        app.config.html_static_path.append(str(FILE))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
