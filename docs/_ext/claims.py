"""A page for each claim, written before the build from the claims of the package, and from the report if there is one.

The pages are in ``docs/claims/PAPER/``, out of version control. The report is ``report/`` at the root of the
repository, as ``saddlescope reproduce`` writes it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from listings import LISTINGS, rows, stacked, text
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from saddlescope.claims import PAPERS, SOURCES
from saddlescope.claims.claim import Claim
from saddlescope.claims.report import FOUND, MARKS, NOT_RUN, RIVALS, catches, measured, predicted
from saddlescope.claims.reproduce import select

DOCS = Path(__file__).parents[1]
REPORT = DOCS.parent / "report"

Outcome = Mapping[str, Any]
"""A judged claim as it appears in report.json."""

COLOURS = {"confirmed": "success", "refuted": "danger", "inconclusive": "warning"}
BADGES = {verdict: f"{{bdg-{colour}}}`{MARKS[verdict]} {verdict}`" for verdict, colour in COLOURS.items()}
"""The verdicts of a report as badges of the site."""


def sentence(words: str) -> str:
    """The text with a capital first letter."""
    return text(words[:1].upper() + words[1:])


def outcomes(folder: Path = REPORT) -> dict[str, Outcome]:
    """The claims of the report that were run, by name, each with the SVG of its panels; none without a report."""
    try:
        record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        page = (folder / "index.html").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    about = {key: record[key] for key in ("version", "machine")}
    run = [claim for claim in record["claims"] if claim["verdict"] != NOT_RUN]
    return {claim["name"]: {**claim, **about, "panels": panels(page, claim["name"])} for claim in run}


def panels(page: str, name: str) -> list[bytes]:
    """The panels of a claim in a report, as SVG.

    >>> panels('<section id="a-b"><img src="data:image/svg+xml;base64,PHN2Zz4="></section>', "a/b")
    [b'<svg>']
    """
    section = re.search(rf'<section id="{re.escape(name.replace("/", "-"))}".*?</section>', page, re.DOTALL)
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', section[0]) if section else []
    return [base64.b64decode(one) for one in found]


def overview() -> str:
    """Every claim by paper, with its verdict where it was measured."""
    return "\n\n".join(_paper(paper, outcomes()) for paper in PAPERS)


def _paper(paper: str, found: Mapping[str, Outcome]) -> str:
    body = []
    for name, claim in select([paper]).items():
        outcome = found.get(name)
        head = outcome["numbers"][0] if outcome else None
        body.append(
            (
                f"[{text(claim.title)}]({name}.md)",
                BADGES[outcome["verdict"]] if outcome else "",
                f"{text(head['name'])}: {measured(head)}" if head else "",
                predicted(head) if head else "",
            )
        )
    pages = "\n".join(select([paper]))
    columns = ("claim", "verdict", "measured", "predicted") if any(line[1] for line in body) else ("claim",)
    table = stacked(columns, (line[: len(columns)] for line in body))
    return f"## {text(SOURCES[paper])}\n\n{table}\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```"


def page(name: str, claim: Claim, outcome: Outcome | None) -> str:
    """The page of a claim in Markdown; ``outcome`` is None where it was not measured."""
    related = [f"- [{text(other.title)}](../{full}.md)" for full, other in _related(claim).items()]
    sections = [
        ("", text(claim.statement)),
        ("", "\n\n".join(f"$$\n{equation}\n$$" for equation in claim.equations)),
        ("Why it matters", text(claim.why)),
        ("Measured", _measured(name, claim, outcome)),
        ("What is proved", text(claim.proved)),
        ("What is not known", text(claim.unknown)),
        ("Method", text(claim.method)),
        ("Negative control", text(claim.control)),
        ("Source", text(claim.source)),
        ("Related claims", "\n".join(related)),
    ]
    body = "\n\n".join(f"## {head}\n\n{words}" if head else words for head, words in sections if words)
    return f"(claim-{claim.name})=\n# {text(claim.title)}\n\n{body}\n"


def _related(claim: Claim) -> dict[str, Claim]:
    return select(claim.related) if claim.related else {}


def _measured(name: str, claim: Claim, outcome: Outcome | None) -> str:
    needed = f"pip install 'saddlescope[{claim.extra}]'\n" if claim.extra else ""
    command = f"```shell\n{needed}saddlescope reproduce {claim.name}\n```"
    if outcome is None:
        return f"This site was built without a report on this claim. To measure its numbers:\n\n{command}"
    coarse = " This was the quick form: small ensembles and wide regions." if outcome["quick"] else ""
    images = " ".join(f"![]({claim.name}-{n}.svg)" for n in range(1, len(outcome["panels"]) + 1))
    parts = [
        f"{BADGES[outcome['verdict']]} {sentence(outcome['reason'])}.{coarse}",
        f":::{{div}} panels\n{images}\n:::\n\n:::{{div}} caption\n{text(claim.caption)}\n:::" if images else "",
        _numbers(outcome["numbers"]),
        f"**Negative controls**, which must lie outside.\n\n{_controls(outcome['controls'])}",
        f"**Rival theories**, judged by the same rule; none may be confirmed.\n\n{_rivals(outcome['rivals'])}",
        f"saddlescope {outcome['version']}, {outcome['seconds']:.0f} s on {text(outcome['machine'])}. To repeat it:",
        command,
    ]
    return "\n\n".join(filter(None, parts))


def _numbers(numbers: Sequence[Mapping[str, Any]]) -> str:
    moved = " (set after a first look)"
    return rows(
        ("number", "measured [interval]", "region", "smallest error caught", "result"),
        (
            (
                text(one["name"]),
                measured(one),
                predicted(one) + moved * one["moved"],
                text(catches(one)),
                FOUND[one["verdict"]],
            )
            for one in numbers
        ),
    )


def _controls(numbers: Sequence[Mapping[str, Any]]) -> str:
    return rows(
        ("number", "measured [interval]", "region", "result"),
        ((text(one["name"]), measured(one), predicted(one), FOUND[one["verdict"]]) for one in numbers),
    )


def _rivals(rivals: Sequence[Mapping[str, Any]]) -> str:
    return rows(("theory", "verdict"), ((text(rival["theory"]), RIVALS[rival["verdict"]]) for rival in rivals))


def pages() -> dict[str, bytes]:
    """Every page and figure by its path in ``docs/claims``. Raises ExtensionError for a report that cannot be read."""
    files: dict[str, bytes] = {}
    try:
        found = outcomes()
        for name, claim in select().items():
            outcome = found.get(name)
            files[f"{name}.md"] = page(name, claim, outcome).encode()
            for n, panel in enumerate(outcome["panels"] if outcome else (), start=1):
                files[f"{name}-{n}.svg"] = panel
    except (KeyError, TypeError, ValueError) as error:
        raise ExtensionError(f"{REPORT} is not a report of this version; delete it, or make it again", error) from None
    return files


def write(app: Sphinx) -> None:
    """Write the pages that changed, and remove those of claims that no longer exist."""
    folder = DOCS / "claims"
    files = {folder / path: content for path, content in pages().items()}
    for old in {*folder.glob("*/*")} - files.keys():
        old.unlink()
    for file, content in files.items():
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before the build."""
    LISTINGS["claims"] = overview
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
