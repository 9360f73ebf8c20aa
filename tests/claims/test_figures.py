"""Figures: the picture of a run, and panels together and alone."""

import pytest

from saddlescope import plots
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import aligned, network, run
from saddlescope.init import Gaussian
from saddlescope.methods import GD, SGD
from saddlescope.plan import Plan


@pytest.mark.parametrize("keep", ["statistics", "trajectories"])
@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_picture_of_a_run(keep, suffix, tmp_path):
    problem = network(2, 4, (2.0, 1.0), Gaussian(scale=0.1), 0.1)
    dataset = run(problem, SGD(lr=0.01, batch_size=2), Plan(steps=200, trajectories=12, saves=20, keep=keep))
    path = tmp_path / f"run.{suffix}"
    plots.plot_run(dataset, path)
    assert path.stat().st_size > 5000


def test_picture_of_a_run_without_noise_and_of_one_trajectory(tmp_path):
    dataset = run(network(2, 2, (2.0, 1.0), aligned(2, 0.1), 0.0), GD(lr=0.01), Plan(steps=20, saves=2))
    plots.plot_run(dataset, tmp_path / "run.svg")
    assert "NaN" not in (tmp_path / "run.svg").read_text()


def test_unknown_suffix_is_refused(tmp_path):
    dataset = run(network(2, 2, (1.0,), aligned(2, 0.1), 0.0), GD(lr=0.01), Plan(steps=2))
    with pytest.raises(ValueError, match=r"path must end in one of .*pdf.*got '.*run.txt'; use figure.pdf"):
        plots.plot_run(dataset, tmp_path / "run.txt")


def test_panels_together_and_alone():
    def draw(axes, numbers):
        for place, panel in enumerate(axes):
            plots.interval(panel, 0.0, numbers)
            panel.set(title=f"panel {place}: 0.12345")

    number = Interval(0.5, 0.4, 0.7)
    sizes = {count: tuple(plots.panels(draw, number, count).get_size_inches() / plots.PANEL) for count in (2, 3, 4, 5)}
    assert sizes == {2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (3, 2)}
    first, second = (plots.to_svgs(plots.panels(draw, number, 5)) for _ in range(2))
    assert first == second and len(first) == 5
    for place, svg in enumerate(first):
        assert [f">panel {other}: 0.12345<" in svg for other in range(5)] == [other == place for other in range(5)]
