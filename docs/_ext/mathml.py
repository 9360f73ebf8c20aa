"""The formulas of the site as MathML, made when it is built, by the converter of the claims' report.

Their numbers carry the letter of their page, so that they are unique: R.1, R.2, … on a page with the letter R.
"""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.math import MathDomain
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from saddlescope.claims._mathml import mathml

LOGGER = logging.getLogger(__name__)


def _shown(translator: HTML5Translator, node: nodes.Element, block: bool) -> str:
    try:
        return mathml(node.astext(), block)
    except ValueError as error:
        LOGGER.warning("%s", error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(f'<span class="math">{_shown(translator, node, block=False)}</span>')
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on a separate line, with its number if it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(f'<div class="formula">{_shown(translator, node, block=True)}</div>')
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


class Numbered(MathDomain):
    """Equations whose numbers begin with the letter of their page, from ``equation_letters``."""

    def note_equation(self, docname: str, labelid: str, location: Any = None) -> None:
        """Number an equation."""
        super().note_equation(docname, labelid, location)
        if letter := self.env.config.equation_letters.get(docname):
            number = f"{letter}.{self.equations[labelid][1]}"
            self.equations[labelid] = (docname, number)  # type: ignore[assignment]


def setup(app: Sphinx) -> dict[str, Any]:
    """Make this the renderer "mathml" and the numbering of equations."""
    app.add_config_value("equation_letters", {}, "env", (dict,))
    app.add_domain(Numbered, override=True)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
