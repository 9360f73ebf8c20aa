"""The documentation: its extensions, what its pages point to, and that it must not need the network."""

import importlib
import re
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from saddlescope.claims._mathml import mathml
from saddlescope.runfile import run_from_toml
from saddlescope.sweeps.file import from_toml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).match("claims/*/*"))
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture
def extension(monkeypatch):
    """An extension of the site by name; skips where the site's packages are not installed."""
    for needed in ("sphinx", "myst_nb", "sphinx_design"):
        pytest.importorskip(needed)
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    yield importlib.import_module
    for file in (DOCS / "_ext").glob("*.py"):
        sys.modules.pop(file.stem, None)


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.M | re.S))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_to_files_have_targets(page):
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        generated = re.match(r"(\.\./)*claims/[\w-]+/[\w-]+\.md$|[\w-]+/[\w-]+\.md$", target) and "claims" in target
        assert re.match(r"https?://|mailto:", target) or generated or (page.parent / target).exists(), target


def test_pages_that_are_included_exist():
    for page in PAGES:
        for target in re.findall(r"^```\{include\} (\S+)", page.read_text(encoding="utf-8"), re.M):
            assert (page.parent / target).is_file(), f"{page}: {target}"


def test_every_notebook_names_its_kernel():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if "{code-cell}" in without_code("") + text:
            assert text.startswith("---\n") and "file_format: mystnb" in text.split("---")[1], page


def test_what_the_site_needs_is_in_the_extra():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]
    named = {re.match(r"[\w-]+", one)[0].replace("-", "_") for one in extra}
    conf = (DOCS / "conf.py").read_text()
    listed = re.search(r"^extensions = (\[.*\])", conf, re.M)[1]
    used = {name.split(".")[0] for name in re.findall(r'"([\w.]+)"', listed)}
    theme = re.search(r'^html_theme = "(\w+)"', conf, re.M)[1]
    assert used | {theme} <= named


@pytest.mark.parametrize("name", ["claims", "docstrings", "listings", "offline"])
def test_examples_of_the_extensions(extension, name):
    import doctest

    failed, tried = doctest.testmod(extension(name))
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ('<a href="https://arxiv.org/abs/1312.6120">paper</a>', 0),
        ('<link rel="stylesheet" href="_static/site.css"><img src="data:image/png;base64,AA==">', 0),
        ('<script defer src="https://cdn.example/mathjax.js"></script>', 1),
        ("<img alt='x' src='//cdn.example/x.png'>", 1),
        ('<link rel="stylesheet" href="https://fonts.example/css">', 1),
        ("body { background: url(http://cdn.example/x.png) }", 1),
        ('@import "https://fonts.example/css";', 1),
    ],
)
def test_loads_from_elsewhere_are_seen(extension, page, found):
    assert len(extension("offline").loads(page)) == found


@pytest.mark.parametrize(
    ("tex", "wanted"),
    [
        (r"T_{\mathrm{c}} \sim s^*", "&#x0223C;"),
        (r"a &= b \\ c &= d", "<mtable"),
        (r"\operatorname{Tr} C", "<mi>Tr</mi><mspace"),
        (r"\mathscr{B} \mathbf{W}", "ℬ"),
        (r"f''", '<mi mathsize="1.41em">&#x02033;</mi>'),
    ],
)
def test_formulas(tex, wanted):
    assert wanted in mathml(tex, block=True)


@pytest.mark.parametrize("tex", [r"\nothing x", r"\frac{a", r"\begin{array}{c} a"])
def test_formulas_that_cannot_be_shown_are_refused(tex):
    with pytest.raises(ValueError, match="formula"):
        mathml(tex)


def test_numbers_of_equations_begin_with_the_letter_of_their_page(extension):
    serial = iter(range(9))
    config = types.SimpleNamespace(equation_letters={"theory/rank": "R"})
    env = types.SimpleNamespace(domaindata={}, config=config, new_serialno=lambda _: next(serial))
    domain = extension("mathml").Numbered(env)
    for page, label in (("theory/rank", "eq-a"), ("theory/rank", "eq-b"), ("faq", "eq-c")):
        domain.note_equation(page, label)
    assert [domain.get_equation_number_for(f"eq-{name}") for name in "abc"] == ["R.1", "R.2", 3]


def test_sentences_of_docstrings_become_fields(extension):
    lines = ["Law of s_α.", "", "Raises ValueError for T < 0, TypeError for text. Source: Saxe 2013.", "", ">>> 1", "1"]
    found = extension("docstrings").to_rst(lines)
    assert ":Raises: ValueError for T < 0, TypeError for text." in found
    assert ":Source: Saxe 2013." in found
    assert found[0] == r"Law of s\_α."
    assert found[-3:] == [">>> 1", "1", ""]


def test_a_claim_without_a_report_says_how_to_measure_it(extension):
    claims = extension("claims")
    (name, claim), *_ = claims.select(["noise-peak"]).items()
    page = claims.page(name, claim, None)
    assert "saddlescope reproduce noise-peak" in page
    assert "(claim-noise-peak)=" in page
    assert "{bdg-" not in page


def test_every_public_name_is_looked_for(extension):
    names = {
        f"{module}.{name}"
        for module in ("saddlescope", "saddlescope.theory")
        for name, _ in extension("docstrings").public(module)
    }
    assert {"saddlescope.simulate", "saddlescope.theory.ModeSDE"} <= names


def test_the_sweep_file_of_the_documentation_describes_a_sweep():
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "sweeps.md").read_text(encoding="utf-8"), re.DOTALL)
    setup = from_toml(text)
    assert setup.grid.shape == (20, 16) and list(setup.schema[0]) == ["strength"]


def test_run_files_of_the_reference_describe_runs(tmp_path):
    """The whole file; then with the method and plan, and with the data, of the other examples."""
    text = (DOCS / "reference" / "run-file.md").read_text(encoding="utf-8")
    whole, method_and_plan, data = map(tomllib.loads, re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    columns = [*data["data"]["inputs"], *data["data"]["targets"]]
    rows = np.random.default_rng(0).normal(size=(150, len(columns)))
    np.savetxt(tmp_path / data["data"]["path"], rows, delimiter=",", header=",".join(columns), comments="")
    narrow = {"network": whole["network"] | {"widths": [3, 16, 16, 2]}}
    for tables in (whole, whole | data | method_and_plan | narrow):
        problem, method, plan = run_from_toml(tomli_w.dumps(tables), tmp_path)
        assert plan.steps == 20_000 and method.lr and problem.network.depth == 3


def test_a_live_view_is_framed_and_has_a_link(extension):
    html = extension("live").frame("view=mode&T=0.05", "../_static/", "Drag s₀ & s*.")
    assert '<iframe loading="lazy" title="Live view: One mode" ' in html
    assert 'src="../_static/explore.html#view=mode&amp;T=0.05&amp;compact=1"' in html
    assert '<a href="../_static/explore.html#view=mode&amp;T=0.05">' in html and "Drag s₀ &amp; s*." in html
    assert '<img src="../_static/live/view-mode-T-0.05.svg" alt="Drag s₀ &amp; s*.">' in html


@pytest.mark.parametrize("page", [page for page in PAGES if "{live}" in page.read_text(encoding="utf-8")])
def test_live_views_exist(extension, page):
    views = re.findall(r"```\{live\} view=(\w+)", page.read_text(encoding="utf-8"))
    assert views and set(views) <= set(extension("live").TITLES)
    for view in views:
        assert (DOCS.parent / "explore" / "src" / "views" / f"{view}.js").exists()


def test_the_page_about_the_live_page_names_every_view(extension):
    text = (DOCS / "live-page.md").read_text(encoding="utf-8")
    for view in (DOCS.parent / "explore" / "src" / "views").glob("*.js"):
        title = re.search(r'^  title: "(.*)",$', view.read_text(encoding="utf-8"), re.M)[1]
        assert f"*{title}*" in text
        assert extension("live").TITLES.get(view.stem, title) == title


def test_pictures_of_live_views_have_names_of_their_own(extension):
    found = [re.findall(r"```\{live\} (\S+)", page.read_text(encoding="utf-8")) for page in PAGES]
    addresses = {address for page in found for address in page}
    assert len({extension("live").picture(address) for address in addresses}) == len(addresses) >= 6
