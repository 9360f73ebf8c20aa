"""The pages on theory: every numbered equation names code and tests that exist, and every formula can be rendered."""

import ast
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from saddlescope.claims._mathml import mathml

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "theory").glob("*.md"))
NUMBERED = re.compile(r"^\$\$ \((eq-[a-z0-9-]+)\)\n\n(.*)$", re.M)
DISPLAY = re.compile(r"^\$\$\n(.*?)^\$\$(?: \(\S+\))?$", re.M | re.S)
INLINE = re.compile(r"(?<![\$\\])\$([^$]+)\$(?!\$)")
NAME = r"(?:\{py:obj\})?`([\w.]+)`"
LINE = re.compile(r"\[Code: (.+) · Test: (.+)\]\{\.source\}")


def without_code(text):
    """Fenced blocks and code spans removed: a dollar there is no formula."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def formulas(text):
    """All TeX of a page, displayed and inline."""
    shown = without_code(text)
    return DISPLAY.findall(shown) + INLINE.findall(DISPLAY.sub("", shown))


@cache
def named_tests(path):
    """Names of the test functions that a file defines."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def resolve(name):
    """The object behind a dotted name; raises AttributeError where there is none."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            fields = getattr(found, "__dataclass_fields__", {})
            found = fields[part] if part in fields else getattr(found, part)
        return found
    raise AttributeError(name)


def unbalanced(tex):
    """A brace, \\left or \\begin without its partner, which the converter would pass over; else an empty string."""
    pairs = (r"(?<!\\)\{", r"(?<!\\)\}"), (r"\\left(?![a-z])", r"\\right(?![a-z])"), (r"\\begin", r"\\end")
    return next((first for first, last in pairs if len(re.findall(first, tex)) != len(re.findall(last, tex))), "")


def faults(text):
    """What is wrong with a page, in words."""
    found = []
    displays, numbered = len(re.findall(r"^\$\$ \(", text, re.M)), NUMBERED.findall(text)
    if displays != len(numbered):
        found.append(f"{displays} labels, of which {len(numbered)} are eq-… with a line of their own below")
    for label, line in numbered:
        match = LINE.fullmatch(line)
        if not match:
            found.append(f"{label}: {line!r} names no code and test")
            continue
        codes, tests = match.groups()
        names = re.findall(NAME, codes)
        if not names or re.sub(rf"{NAME}|[, ]", "", codes):
            found.append(f"{label}: {codes!r} is no list of objects")
        for name in names:
            try:
                resolve(name)
            except (AttributeError, KeyError):
                found.append(f"{label}: there is no {name}")
        for place in tests.split(", "):
            test = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", place)
            if not test or not (ROOT / test[1]).is_file() or test[2] not in named_tests(test[1]):
                found.append(f"{label}: there is no test {place}")
    return found


def faults_in_formulas(text):
    """What is wrong with the formulas of a page, in words."""
    found = []
    for tex in formulas(text):
        if alone := unbalanced(tex):
            found.append(f"{tex!r}: {alone} without its partner")
            continue
        try:
            mathml(tex)
        except ValueError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_equation_names_its_code_and_its_test(page):
    assert faults(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_formula_can_be_shown(page):
    assert faults_in_formulas(page.read_text(encoding="utf-8")) == []


def test_labels_are_unique_and_references_have_a_target():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    labels = [label for text in texts for label, _ in NUMBERED.findall(text)]
    assert len(labels) == len(set(labels)) > 0
    assert {name for text in texts for name in re.findall(r"\{eq\}`([^`]+)`", text)} <= set(labels)


def test_every_page_with_equations_has_a_letter_and_says_which_numbers_it_has():
    conf = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    letters = next(
        ast.literal_eval(node.value)
        for node in conf.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "equation_letters"
    )
    texts = {f"theory/{page.stem}": page.read_text(encoding="utf-8") for page in PAGES}
    labels = {name: [label for label, _ in NUMBERED.findall(text)] for name, text in texts.items()}
    assert set(letters) == {name for name, found in labels.items() if found}
    assert len(set(letters.values())) == len(letters)
    for name in letters:
        opening = " ".join(texts[name].split("\n## ")[0].split())
        assert f"{{eq}}`{labels[name][0]}` to {{eq}}`{labels[name][-1]}`" in opening, name


GOOD = """$$
a
$$ (eq-a)

[Code: `saddlescope.SGD.temperature`, `saddlescope.GD` · Test: `tests/unit/test_theory_pages.py::test_faults`]{.source}
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("a", "a", None),
        ("SGD.temperature", "SGD.heat", "no saddlescope.SGD.heat"),
        ("saddlescope.GD", "saddle.GD", "no saddle.GD"),
        ("`saddlescope.GD`", "gradient descent", "no list of objects"),
        ("::test_faults", "::test_fault", "no test"),
        ("unit/test_theory_pages", "unit/test_theory_page", "no test"),
        ("[Code: ", "", "names no code"),
        (" (eq-a)\n", " (a)\n", "1 labels, of which 0"),
    ],
)
def test_faults(old, new, fault):
    found = faults(GOOD.replace(old, new))
    assert found == [] if fault is None else any(fault in each for each in found)


@pytest.mark.parametrize(
    ("tex", "fault"), [("$a^2$", None), ("$\\nothing{a}$", "cannot be shown"), ("$$\n\\frac{a\n$$\n", "partner")]
)
def test_faults_in_formulas(tex, fault):
    found = faults_in_formulas(tex)
    assert found == [] if fault is None else fault in found[0]
