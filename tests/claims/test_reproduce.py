"""The command that runs claims and writes the report, tested on synthetic claims."""

import base64
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from saddlescope import claims
from saddlescope.claims import report
from saddlescope.claims._mathml import line
from saddlescope.claims._template import STYLE
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.reproduce import KEPT, reproduce, select


def make_claim(name, value=0.5, experiment=None, related=()):
    def found(quick):
        shown = Number("<share> & more", Interval(value, value - 0.01, value + 0.01), (0.4, 0.6), catches="T × <1.1>")
        open_ended = Number("large", Interval(2.0, 1.5, 2.5, miss=4e-5), (1.0, np.inf), moved=True)
        control = Number("control", Interval(np.inf, 0.9, np.inf), (0.4, 0.6))
        run = Run("a run", 'key = "<&>"\n', 0.0)
        rivals = [Rival("<T> × 1.1", [open_ended, replace(shown, region=(0.8, 0.85))])]
        return Evidence([shown, open_ended], [control], [run], {"x": [0, 1]}, rivals)

    def draw(axes, evidence):
        axes[0].plot(evidence.curves["x"])
        axes[0].set(xlabel="T / T_c")

    texts = {
        text: f"{text} <b> of T_c"
        for text in ("statement", "source", "method", "control", "caption", "why", "proved", "unknown")
    }
    return Claim(
        name=name,
        title=f"{name} title",
        **texts,
        equations=(r"T_c < \infty",),
        experiment=experiment or found,
        draw=draw,
        related=related,
        panels=2,
    )


def stop(quick):
    raise KeyboardInterrupt


@pytest.fixture
def paper(monkeypatch):
    def use(*made):
        monkeypatch.setattr(claims, "PAPERS", {"paper": made})

    return use


def test_report_is_complete_and_stands_alone(paper, tmp_path):
    paper(make_claim("good"), make_claim("bad", value=0.9))
    assert reproduce(["paper"], quick=True, out=tmp_path, progress=False) == 1
    record = json.loads((tmp_path / "report.json").read_text())
    assert [claim["verdict"] for claim in record["claims"]] == ["confirmed", "refuted"]
    assert record["claims"][0]["numbers"][1]["region"] == [1.0, None]
    assert record["claims"][0]["runs"][0]["toml"] == 'key = "<&>"\n'
    page = (tmp_path / "index.html").read_text()
    for shown in (
        "good title",
        "bad title",
        *(
            f"{text} &lt;b&gt; of T<sub>c</sub>"
            for text in ("statement", "why", "proved", "unknown", "method", "source")
        ),
        "<msub><mi>T</mi><mi>c</mi></msub>",
        "&lt;share&gt; &amp; more",
        "key = &quot;&lt;&amp;&gt;",
    ):
        assert shown in page
    assert loaded(page) and all(address.startswith("data:image/svg+xml;base64,") for address in loaded(page))
    links = re.findall(r'href="([^"]+)"', page)
    assert all(link.startswith(("#", "figures/", "runs/")) for link in links)
    assert all(f'id="{link[1:]}"' in page for link in links if link.startswith("#"))
    assert (tmp_path / "figures" / "paper-good.pdf").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "index.html", "report.json", "runs"]
    for claim in record["claims"]:
        for kept in claim["runs"]:
            assert (tmp_path / kept["file"]).read_text() == kept["toml"] and kept["file"] in page
        assert f"saddlescope reproduce {claim['name']} --quick" in page


def loaded(page):
    """What a browser would load with the page, and inside its figures."""
    figures = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)", page)]
    assert not re.search(
        r"<(link|script|iframe|object|embed|base)\b|@import|srcset|http-equiv", "".join([page, *figures])
    )
    inside = re.findall(r"(?:xlink:href=\"|url\(\"?)([^#\")][^\")]*)", "".join(figures))
    return re.findall(r"(?:src=\"|url\(\"?)([^\")]+)", page) + inside


def test_a_resource_of_another_server_would_be_found():
    assert loaded('<img src="https://example.org/a.png"> <style>p { background: url(http://b) }</style>') == [
        "https://example.org/a.png",
        "http://b",
    ]
    with pytest.raises(AssertionError):
        loaded('<script src="https://example.org/a.js"></script>')


def test_related_claims_are_links_where_they_are_on_the_page(paper, tmp_path):
    paper(make_claim("good", related=("better", "best")), make_claim("better"), make_claim("best"))
    reproduce(["good", "better"], out=tmp_path, progress=False)
    page = (tmp_path / "index.html").read_text()
    assert '<li><a href="#paper-better">better title</a></li><li>best title (<code>paper/best</code>)</li>' in page
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["claims"][0]["related"][1] == {"name": "paper/best", "title": "best title"}
    paper(make_claim("good", related=("bettr",)))
    with pytest.raises(ValueError, match="no claim 'bettr'"):
        reproduce(out=tmp_path, progress=False)


def test_a_claim_whose_package_is_missing_is_not_run(paper, tmp_path, capsys):
    missing = replace(make_claim("bad", experiment=stop), extra="a_package_that_is_not_there")
    paper(make_claim("good"), missing)
    assert reproduce(out=tmp_path) == 0
    found, unrun = json.loads((tmp_path / "report.json").read_text())["claims"]
    assert (found["verdict"], unrun["verdict"], unrun["numbers"]) == ("confirmed", "not run", [])
    assert "pip install 'saddlescope[a_package_that_is_not_there]'" in unrun["reason"]
    page = (tmp_path / "index.html").read_text()
    assert "1 confirmed, 1 not run" in page and "bad title" in page and "Not run: a_package" in page
    assert "not run" in capsys.readouterr().out


def test_a_claim_that_was_not_run_runs_when_its_package_is_there(paper, tmp_path):
    missing = replace(make_claim("first"), extra="a_package_that_is_not_there")
    paper(missing, make_claim("second", experiment=stop))
    with pytest.raises(KeyboardInterrupt):
        reproduce(out=tmp_path, progress=False)
    paper(replace(missing, extra="numpy"), make_claim("second"))
    reproduce(out=tmp_path, progress=False)
    verdicts = [claim["verdict"] for claim in json.loads((tmp_path / "report.json").read_text())["claims"]]
    assert verdicts == ["confirmed", "confirmed"]


def test_symbols_of_figures_are_set(paper, tmp_path):
    paper(make_claim("good"))
    reproduce(out=tmp_path, progress=False)
    page = (tmp_path / "index.html").read_text()
    svg = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]).decode()
    assert "T_c" not in re.sub(r"<!--.*?-->", "", svg) and ">c</tspan>" in svg


@pytest.mark.parametrize(
    ("tex", "why"),
    [
        (r"\frac{a}{", "must come in pairs"),
        (r"\fract{1}{2}", r"holds \\fract"),
        ("a}", "must come in pairs"),
        (r"\begin{array}{c} a", "must come in pairs"),
        ("", "NoAvailableTokensError"),
    ],
)
def test_bad_tex_names_the_claim(tex, why):
    with pytest.raises(ValueError, match=rf"^claim 'a/b': .*{why}"):
        line(tex, "claim 'a/b'")


def test_report_shows_what_each_number_catches_and_every_rival(paper, tmp_path):
    paper(make_claim("good"))
    assert reproduce(quick=True, out=tmp_path, progress=False) == 0
    record = json.loads((tmp_path / "report.json").read_text())
    shown, open_ended = record["claims"][0]["numbers"]
    assert record["form"] == "quick: coarser"
    assert (shown["catches"], shown["refutes_from"], shown["moved"]) == (
        "T × <1.1>",
        pytest.approx([0.39, 0.61]),
        False,
    )
    assert (open_ended["miss"], open_ended["refutes_from"], open_ended["moved"]) == (4e-5, [0.5, None], True)
    (rival,) = record["claims"][0]["rivals"]
    assert (rival["theory"], rival["verdict"], len(rival["numbers"])) == ("<T> × 1.1", "refuted", 2)
    page = (tmp_path / "index.html").read_text()
    for words in (
        "quick: coarser",
        "T × &lt;1.1&gt;; refutes from 0.39",
        "&lt;T&gt; × 1.1",
        "miss probability 4 × 10<sup>−5</sup>",
        "first look",
    ):
        assert words in page
    reproduce(out=tmp_path, progress=False)
    assert json.loads((tmp_path / "report.json").read_text())["form"] == "full"
    assert "quick: coarser" not in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": '"><script>alert(1)</script>'},
        {"figure": {"pdf": "javascript:alert(1)", "panels": []}},
        {"runs": [{"name": "a", "file": "javascript:alert(1)", "diverged": 0.0, "toml": ""}]},
        {"runs": [{"name": "a", "file": "runs/../../up.toml", "diverged": 0.0, "toml": ""}]},
    ],
)
def test_a_hostile_record_does_not_reach_the_page(paper, tmp_path, change):
    paper(make_claim("good"))
    reproduce(out=tmp_path, progress=False)
    record = json.loads((tmp_path / "report.json").read_text())
    claim = record["claims"][0] | {"figure": {"pdf": "figures/a.pdf", "panels": []}}
    assert "<script" not in report.page(record | {"claims": [claim | {"title": "<script>"}]})
    with pytest.raises(ValueError, match=r"must (be confirmed|lie in figures)"):
        report.page(record | {"claims": [claim | change]})


def test_a_report_removes_only_what_it_made(paper, tmp_path):
    theirs = [
        ".partial/notes.txt",
        "index.html.new",
        "report.json.new",
        f"{KEPT}/other-claim.json",
        "runs/mine.toml",
    ]
    for name in theirs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("theirs")
    paper(make_claim("good"))
    assert reproduce(out=tmp_path, progress=False) == 0
    assert all((tmp_path / name).read_text() == "theirs" for name in theirs)
    made = {"figures/paper-good.pdf", "runs/paper-good-1.toml", "index.html", "report.json"}
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == made | set(theirs)


def test_claims_have_short_names_and_a_nearest_one(paper):
    paper(make_claim("good"), make_claim("better"))
    assert list(select(["better"])) == ["paper/better"]
    with pytest.raises(ValueError, match=r"no claim 'bettr' \(did you mean 'better'\?\)"):
        select(["bettr"])


def test_claims_stand_under_their_papers(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        claims, "PAPERS", {"one": (make_claim("a"), make_claim("b", value=0.9)), "two": (make_claim("c"),)}
    )
    monkeypatch.setattr(claims, "SOURCES", {"one": "First paper", "two": "Second paper"})
    assert reproduce(out=tmp_path) == 1
    page = re.sub("<[^>]*>", "", (tmp_path / "index.html").read_text())
    places = [
        page.index(words) for words in ("First paper: 1 confirmed, 1 refuted", "Second paper: 1 confirmed", "✗ refuted")
    ]
    assert places == sorted(places)
    shown = capsys.readouterr()
    assert shown.out.index("First paper") < shown.out.index("Second paper")
    lines = [line.split()[:2] for line in shown.err.splitlines() if line]  # older versions of rich leave an empty one
    assert lines == [
        ["confirmed", "a"],
        ["refuted", "b"],
        ["confirmed", "c"],
    ]


def test_a_run_with_a_data_set_lies_beside_the_page(paper, tmp_path):
    toml = "X = [" + "0.123456789, " * 2000 + "]\n"
    shown = make_claim("good").experiment(True)
    paper(make_claim("good", experiment=lambda quick: replace(shown, runs=[Run("large", toml, 0.0)])))
    reproduce(out=tmp_path, progress=False)
    assert (tmp_path / "runs" / "paper-good-1.toml").read_text() == toml
    assert "0.123456789" not in (tmp_path / "index.html").read_text()


def test_strict_json(paper, tmp_path):
    paper(make_claim("good"))
    assert reproduce(out=tmp_path, progress=False) == 0

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)


def test_interrupted_report_goes_on(paper, tmp_path):
    runs = []

    def count(name):
        def experiment(quick):
            runs.append(name)
            return make_claim(name).experiment(quick)

        return experiment

    first = make_claim("first", experiment=count("first"))
    paper(first, make_claim("second", experiment=stop))
    with pytest.raises(KeyboardInterrupt):
        reproduce(quick=True, out=tmp_path, progress=False)
    paper(first, make_claim("second", experiment=count("second")))
    assert reproduce(quick=True, out=tmp_path, progress=False) == 0
    assert runs == ["first", "second"]
    assert reproduce(quick=True, out=tmp_path, progress=False) == 0  # a finished report is recomputed
    assert runs == ["first", "second", "first", "second"]


def test_what_was_kept_of_another_form_is_not_taken(paper, tmp_path):
    paper(make_claim("first"), make_claim("second", experiment=stop))
    with pytest.raises(KeyboardInterrupt):
        reproduce(quick=True, out=tmp_path, progress=False)
    paper(make_claim("first", value=0.9), make_claim("second"))
    assert reproduce(quick=False, out=tmp_path, progress=False) == 1


@pytest.mark.parametrize("change", [{"why": None}, {"statement": "other words"}, {"equations": []}])
def test_what_was_kept_of_an_earlier_layout_or_text_is_recomputed(paper, tmp_path, change):
    """A kept outcome without the keys of the present report (None here), or with other texts, is not taken."""
    paper(make_claim("first"), make_claim("second", experiment=stop))
    with pytest.raises(KeyboardInterrupt):
        reproduce(out=tmp_path, progress=False)
    kept = tmp_path / KEPT / "paper-first.json"
    outcome = json.loads(kept.read_text()) | change | {"verdict": "refuted"}
    kept.write_text(json.dumps({key: value for key, value in outcome.items() if value is not None}))
    paper(make_claim("first"), make_claim("second"))
    assert reproduce(out=tmp_path, progress=False) == 0


def test_wrong_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"no claim 'saddle-to-sadle'.*did you mean 'saddle-to-saddle'"):
        reproduce(["saddle-to-sadle"], out=tmp_path, progress=False)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="out must be a folder"):
        reproduce(out=file, progress=False)
    (tmp_path / "index.html").write_text("somebody's page")
    with pytest.raises(ValueError, match=r"holds an index\.html that is not a report"):
        reproduce(out=tmp_path, progress=False)
    assert (tmp_path / "index.html").read_text() == "somebody's page"


def test_selection():
    every = select()
    assert list(every) == [f"{paper}/{claim.name}" for paper, made in claims.PAPERS.items() for claim in made]
    first, *_ = claims.PAPERS
    assert list(select([first])) == [f"{first}/{claim.name}" for claim in claims.PAPERS[first]]
    assert list(select(["saddle-to-saddle/plateaus"])) == ["saddle-to-saddle/plateaus"]
    assert len({claim.title for claim in every.values()}) == len(every)
    assert claims.PAPERS.keys() <= claims.SOURCES.keys()


def test_page_can_be_read_by_a_screen_reader(paper, tmp_path):
    paper(make_claim("good"), make_claim("better"))
    reproduce(quick=True, out=tmp_path, progress=False)
    page = (tmp_path / "index.html").read_text()
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = re.findall(r'id="([^"]+)"', page)
    assert len(set(names)) == len(names)
    assert '<html lang="en">' in page
    assert len(re.findall(r'role="img" aria-label="caption [^"]+"', page)) == 2
    assert page.count("quick: coarser") == 5  # title, printed pages, banner, both claims


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_page_have_contrast(scheme):
    light, dark = re.findall(r":root \{([^}]*--ink[^}]*)\}", STYLE)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", light if scheme == "light" else dark))
    pairs = [(front, "paper") for front in ("ink", "grey", "link", "open")] + [("ink", "soft")]
    pairs += [(verdict, f"{verdict}-soft") for verdict in ("good", "bad", "open")]
    assert min(contrast(colours[front], colours[back]) for front, back in pairs) >= 4.5
    assert contrast("#888888", "#ffffff") < 4.5


def contrast(front, back):
    """Contrast of two colours as the Web Content Accessibility Guidelines define it."""
    first, second = sorted(map(luminance, (front, back)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    levels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
