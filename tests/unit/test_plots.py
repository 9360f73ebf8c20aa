"""The picture of a run and its panels: what they show, what they leave out and say so."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import saddlescope as sc

WHITE = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5)
SGD = sc.SGD(lr=0.01, batch_size=4)


def run_of(init=None, method=SGD, widths=(2, 4, 2), data=WHITE, **plan):
    problem = sc.Problem(sc.DeepLinear(widths), data, init or sc.init.Balanced(scale=0.1))
    return sc.simulate(problem, method, sc.Plan(**({"steps": 400, "trajectories": 32, "saves": 40} | plan)))


@pytest.fixture(scope="module")
def run():
    return run_of()


def labels(figure):
    return [axes.get_ylabel() for axes in figure.axes]


def footer(figure):
    return figure.get_supxlabel().replace("\n", " ")


def lines(axes, colour=None):
    return [line for line in axes.lines if colour is None or line.get_color() == colour]


def test_picture_has_the_panels_of_the_run(run):
    figure = sc.plot(run)
    assert isinstance(figure, Figure)
    assert labels(figure) == [
        "mode strength [y/x]", "mode noise [(y/x)²/time]", "excess loss [y²]", "imbalance [weight²]", "effective rank",
        "log determinant",
    ]  # fmt: skip
    assert all(axes.get_xlabel() == "time" for axes in figure.axes)


def test_lines_are_those_of_the_run(run):
    (axes,) = sc.plots.modes(run, theory=False).axes
    mean = run["mode_strength"].sel(statistic="mean", mode=1).values
    assert any(np.array_equal(line.get_ydata(), mean) for line in lines(axes, sc.plots.COLOURS[1]))


def test_theory_of_balanced_weights_agrees_and_starts_at_their_strength(run):
    (axes,) = sc.plots.modes(run).axes
    dashed = [line for line in lines(axes, sc.plots.INK) if line.get_linewidth() == 1.0]
    assert len(dashed) == 2
    time, strength = run["time"].values, run["mode_strength"].sel(statistic="mean")
    for mode, line in enumerate(dashed):
        assert line.get_ydata()[0] == pytest.approx(0.01)
        expected = np.interp(time, line.get_xdata(), line.get_ydata())
        assert np.abs(expected - strength.sel(mode=mode)).max() < 0.05 * float(run["target"][mode])
        assert np.abs(0.8 * expected - strength.sel(mode=mode)).max() > 0.1  # the test can fail


def test_theory_can_be_left_out(run):
    (axes,) = sc.plots.modes(run, theory=False).axes
    assert not lines(axes, sc.plots.INK) and not lines(axes, sc.plots.GREY)


def test_the_accessor_is_the_same_picture(run):
    assert labels(run.saddlescope.plot()) == labels(sc.plot(run))


def test_nothing_global_changes(run):
    before = dict(mpl.rcParams)
    sc.plot(run)
    sc.plots.noise(run)
    assert dict(mpl.rcParams) == before
    code = "import sys, saddlescope.plots.picture; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_shows_it_once(run):
    png, size = sc.plot(run)._repr_png_()
    assert png[:4] == b"\x89PNG" and size["width"] == 1050


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_files(run, suffix, tmp_path):
    path = tmp_path / f"run.{suffix}"
    sc.plots.save(sc.plot(run), path)
    assert path.stat().st_size > 5000


def test_unknown_suffix_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in one of .*pdf.*got '.*run.txt'; use figure.pdf"):
        sc.plots.save(sc.plot(run, theory=False), tmp_path / "run.txt")


def test_what_is_not_a_run_is_refused():
    with pytest.raises(TypeError, match="run must be a Dataset from simulate or load, got 3"):
        sc.plot(3)
