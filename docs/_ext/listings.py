"""Tables made from the package itself, by the directive ``{listing} NAME``; ``LISTINGS`` has their names."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, get_args

import typer.main
from docstrings import arguments, public
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from saddlescope.claims._symbols import html as typeset
from saddlescope.cli import app as command_line
from saddlescope.data import Dataset, GaussianData, Moments
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.methods import METHODS
from saddlescope.monitor.variables import VARIABLES as MONITORED
from saddlescope.networks import Network
from saddlescope.observables import OBSERVABLES, Variable
from saddlescope.plan import Accumulate, Logspaced, Plan
from saddlescope.runs.cite import ENTRIES
from saddlescope.runs.variables import COORDINATES, EVENTS
from saddlescope.schedules import SCHEDULES


def markdown(text: str) -> str:
    """Plain text as Markdown: nothing in it is markup.

    >>> print(markdown("u_α * |x|"))
    u\\_α \\* \\|x\\|
    """
    return re.sub(r"([\\`*_|<\[\]$])", r"\\\1", text)


def text(words: str) -> str:
    """Text as Markdown, with the indices and exponents that it writes as ``_`` and ``^``.

    >>> text("s_α^(2κ) < T_c * 2")
    's{sub}`α`{sup}`2κ` &lt; T{sub}`c` \\\\* 2'
    """
    shown = re.sub(r"([\\\\`*_|\[\]$])", r"\\\1", typeset(words))
    return re.sub(r"<(su[bp])>([^<>]*)</\1>", lambda found: f"{{{found[1]}}}`{html.unescape(found[2])}`", shown)


def rows(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in [names, ["---"] * len(names), *(list(line) for line in body)]
    )


def stacked(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A Markdown table whose rows become blocks on a phone."""
    return f":::{{div}} stacked\n{rows(head, body)}\n:::"


def _variables(chosen: dict[str, Variable], time: bool) -> str:
    axis = "time, " if time else ""
    return stacked(
        ("variable", "dims", "units", "definition"),
        (
            (f"`{name}`", (axis + ", ".join(one.dims)).rstrip(", "), markdown(one.units), text(one.definition))
            for name, one in chosen.items()
        ),
    )


def variables() -> str:
    """Observables of every run, those on request, what is known once, and coordinates."""
    standard = {name: one for name, one in OBSERVABLES.items() if not one.extra}
    extra = {name: one for name, one in OBSERVABLES.items() if one.extra}
    return (
        f"## In every run\n\n{_variables(standard, True)}\n\n"
        f"## On request\n\nBy `Plan(observe=[…])`.\n\n{_variables(extra, True)}\n\n"
        f"## Once in a run\n\n{_variables(EVENTS, False)}\n"
    )


def coordinates() -> str:
    """Coordinates of runs."""
    body = (
        (f"`{name}`", ", ".join(one.dims), markdown(one.units), markdown(one.long_name), text(one.definition))
        for name, one in COORDINATES.items()
    )
    return stacked(("coordinate", "dim", "units", "name on an axis", "what it is"), body)


def commands() -> str:
    """Every verb of the command line, as its ``--help`` shows it."""
    run, verbs = CliRunner(), typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
    shown = (run.invoke(command_line, [verb, "--help"], prog_name="saddlescope").stdout for verb in verbs)
    return "\n\n".join(f"## {verb}\n\n```text\n{text.strip()}\n```" for verb, text in zip(verbs, shown, strict=True))


TABLES: dict[str, tuple[type, ...]] = {
    "network": get_args(Network),
    "data": (GaussianData, Dataset, Moments),
    "init": (Gaussian, Balanced, Given),
    "method": METHODS,
    "method.schedule": SCHEDULES,
    "plan": (Plan,),
    "plan.saves": (Logspaced,),
    "plan.accumulate": (Accumulate,),
}
"""Tables of a run file, and the parts that they can describe."""


def run_file() -> str:
    """Every table of a run file with its types and keys."""
    return "\n\n".join("\n\n".join([f"## {name}", *map(_type, parts)]) for name, parts in TABLES.items())


def _type(part: type) -> str:
    body = (
        (f"`{name}`", markdown(kind), f"`{default}`" if default not in ("", "None") else "", markdown(advice))
        for name, kind, default, advice in arguments(part)
    )
    return f'**`type = "{part.__name__}"`**\n\n{stacked(("key", "allowed", "default", ""), body)}'


def monitor() -> str:
    """The variables of a watched training: name, dims, definition, and how it reads."""
    return stacked(
        ("variable", "dims", "definition", "reads as"),
        (
            (f"`{name}`", ", ".join(one.dims), text(one.definition), text(one.reads_as))
            for name, one in MONITORED.items()
        ),
    )


def names() -> str:
    """Every public name of the package, of its theory and of its monitor, with its first line."""
    return "\n\n".join(
        f"## `{short}`\n\n"
        + stacked(
            ("name", "what it is"),
            (
                (f"{{py:obj}}`{name} <{module}.{name}>`", _first(value))
                for name, value in public(module)
                if not inspect.ismodule(value)
            ),
        )
        for short, module in (
            ("sc", "saddlescope"),
            ("sc.theory", "saddlescope.theory"),
            ("sc.monitor", "saddlescope.monitor"),
        )
    )


def _first(value: Any) -> str:
    """The first sentence of a docstring as Markdown; names stay code, formulas get their indices."""
    first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0]
    parts = re.split(r"``(.+?)``", first)
    return "".join(
        f"`{part}`" if n % 2 and re.fullmatch(r"[\w.]+", part) else text(part) for n, part in enumerate(parts)
    )


def sources() -> str:
    """The works that the package builds on, with anchors by their keys."""
    return "\n\n".join(
        f"({key})=\n**{key}** {markdown(_reference(entry))}" for key, entry in ENTRIES.items() if key != "saddlescope"
    )


def _reference(entry: str) -> str:
    """A BibTeX entry as one line of text.

    >>> _reference("@misc{a, author = {Doe, Jane and Roe, R. W.}, title = {On {X}}, year = {2020}, eprint = {1.2},}")
    'Jane Doe, R. W. Roe: On X, 2020, arXiv:1.2.'
    """
    about = {
        key.lower(): " ".join(re.sub(r"[{}]", "", value).replace("--", "–").split())
        for key, value in re.findall(r"(\w+)\s*=\s*\{((?:[^{}]|\{[^{}]*\})*)\}", entry)
    }
    authors = ", ".join(" ".join(reversed(one.split(", "))) for one in about["author"].split(" and "))
    number = f"({about['number']})" if "number" in about else ""
    volume = about.get("volume", "") + number
    place = " ".join(filter(None, (about.get("journal") or about.get("booktitle"), volume)))
    eprint = f"arXiv:{about['eprint']}" if "eprint" in about else ""
    return f"{authors}: {', '.join(filter(None, (about['title'], place, about.get('pages'), about['year'], eprint)))}."


LISTINGS: dict[str, Callable[[], str]] = {
    "variables": variables,
    "monitor": monitor,
    "coordinates": coordinates,
    "commands": commands,
    "run-file": run_file,
    "names": names,
    "sources": sources,
}


class Listing(SphinxDirective):
    """The table of this name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] not in LISTINGS:
            raise self.error(f"there is no listing {self.arguments[0]!r}; allowed: {', '.join(LISTINGS)}")
        self.env.note_reread()  # the package may have changed, not the page
        return self.parse_text_to_nodes(LISTINGS[self.arguments[0]](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("listing", Listing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
