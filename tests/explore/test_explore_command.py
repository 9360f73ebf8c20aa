"""saddlescope explore: the page as a file, a store inside it, refusals in one sentence."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import saddlescope as sc
import saddlescope.explore.live as module
from saddlescope.cli import app
from saddlescope.explore.live import EMPTY, page

TEMPLATE = f"<title>saddlescope</title>{EMPTY}"


@pytest.fixture
def built(monkeypatch):
    """A page that is nothing but its block for numbers."""
    monkeypatch.setattr("saddlescope.explore.live._built", lambda: TEMPLATE)


@pytest.fixture
def run(tmp_path):
    problem = sc.Problem(sc.DeepLinear((2, 3, 2)), sc.GaussianData(np.diag([2.0, 1.0])), sc.init.Balanced(scale=0.5))
    plan = sc.Plan(steps=400, saves=4, trajectories=40, keep="trajectories")
    sc.simulate(problem, sc.SGD(0.01, 1), plan, out=tmp_path / "run.zarr")
    return tmp_path / "run.zarr"


def inlined(text):
    return json.loads(re.search(r'id="stored">(.*?)</script>', text, re.DOTALL)[1])


def test_page_without_a_store(built):
    assert page() == TEMPLATE


def test_numbers_of_a_run_are_inlined(built, run):
    stored, kept = inlined(page(run)), sc.load(run)
    strength = stored["variables"]["mode_strength"]
    assert strength["dims"][-1] == "time" and stored["toml"].startswith("[network]")
    shape = [len(strength["coords"][dim]) for dim in strength["dims"]]
    expected = kept["mode_strength"].isel(trajectory=slice(32)).transpose(*strength["dims"])
    assert tuple(shape) == expected.shape
    np.testing.assert_allclose(np.array(strength["values"]).reshape(shape), expected, rtol=1e-6)


def test_a_large_store_is_refused_in_one_sentence(built, run, monkeypatch):
    monkeypatch.setattr("saddlescope.explore.live.LARGEST", 100)
    result = CliRunner().invoke(app, ["explore", str(run)])
    assert result.exit_code == 2
    assert re.fullmatch(r"error: store .* a page holds at most 100; .*\n", result.output)


def test_command_writes_the_page(built, tmp_path):
    result = CliRunner().invoke(app, ["explore", "-o", str(tmp_path / "page.html")])
    assert result.exit_code == 0 and (tmp_path / "page.html").read_text() == TEMPLATE


def test_command_opens_the_browser_without_out(built, monkeypatch):
    opened = []
    monkeypatch.setattr(module.webbrowser, "open", opened.append)
    assert CliRunner().invoke(app, ["explore"]).exit_code == 0
    assert opened[0].startswith("file:")


def test_page_that_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match="make page"):
        page()
