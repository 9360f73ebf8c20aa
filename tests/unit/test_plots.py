"""The picture of a run and its panels: what they show, what they leave out and say so."""

import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import saddlescope as sc
from saddlescope.comparison import strengths
from saddlescope.runs.run import parts
from saddlescope.runs.selection import selected

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
        "mode strength [y/x]", "mode noise [(y/x)²/time]", "excess loss [y²]", "imbalance [weight²]", "rank",
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


# --- what a run may be


def test_any_selection_of_a_run_is_drawn(run):
    kept = run_of(keep="trajectories")
    for part in (
        run.isel(time=-1), run.isel(time=slice(5, 20)), run.isel(mode=1), run.sel(statistic="mean"),
        run.isel(time=slice(None, None, -1)), run.isel(trajectory=0),
        kept.isel(trajectory=3), kept.isel(trajectory=[1, 3]),
        kept.transpose(..., "trajectory", "mode", "time"), run.drop_vars("step"), kept.drop_vars(["step", "status"]),
    ):  # fmt: skip
        assert labels(sc.plot(part))[:2] == ["mode strength [y/x]", "mode noise [(y/x)²/time]"]


def test_a_store_is_drawn(run, tmp_path):
    problem = sc.Problem(sc.DeepLinear((2, 4, 2)), WHITE, sc.init.Balanced(scale=0.1))
    plan = sc.Plan(steps=400, trajectories=32, saves=40)
    sc.simulate(problem, SGD, plan, out=tmp_path / "run.zarr", progress=False)
    (stored,) = sc.plots.modes(sc.load(tmp_path / "run.zarr")).axes
    (direct,) = sc.plots.modes(run).axes
    for one, other in zip(stored.lines, direct.lines, strict=True):
        np.testing.assert_array_equal(one.get_ydata(), other.get_ydata())


def test_kept_trajectories_give_the_mean_and_band_of_statistics(run):
    (kept,), (statistics,) = (sc.plots.modes(one, theory=False).axes for one in (run_of(keep="trajectories"), run))
    for place in (0, 1):
        heights = [
            next(line.get_ydata() for line in lines(axes, sc.plots.COLOURS[place]) if line.get_linewidth() == 1.8)
            for axes in (kept, statistics)
        ]
        np.testing.assert_allclose(*heights, rtol=1e-10)


def test_few_trajectories_are_drawn_one_by_one():
    (axes,) = sc.plots.modes(run_of(keep="trajectories", trajectories=3), theory=False).axes
    assert sum(line.get_linewidth() == 0.9 for line in axes.lines) == 6


def test_no_save_and_an_incomplete_run(run):
    figure = sc.plot(run.isel(time=slice(0, 0)))
    assert not figure.axes and "Left out: mode strength (no save yet)" in footer(figure)


def test_many_modes_have_a_colour_scale_and_few_theories():
    data = sc.GaussianData(np.diag(np.linspace(3.0, 1.0, 12)), label_noise=0.1)
    (axes, bar) = sc.plots.modes(run_of(widths=(12, 12, 12), data=data, saves=10)).axes
    assert bar.get_ylabel() == "mode" and not axes.texts
    assert len(lines(axes, sc.plots.INK)) == 4
    assert "Theory for the first 4 modes only." in footer(sc.plot(run_of(widths=(12, 12, 12), data=data, saves=10)))


def test_modes_without_strength_are_left_out():
    data = sc.GaussianData.from_spectrum([2.0, 1.0], dim_in=4, dim_out=4, label_noise=0.2, seed=0)
    figure = sc.plot(run_of(widths=(4, 4, 4), data=data))
    assert [text.get_text() for text in figure.axes[0].texts] == ["s* = 2", "s* = 1"]
    assert "2 modes with s* = 0 not shown." in footer(figure)


def test_labels_beside_curves_do_not_touch():
    data = sc.GaussianData(np.diag([1.02, 1.01, 1.0]), label_noise=0.1)
    (axes,) = sc.plots.modes(run_of(widths=(3, 3, 3), data=data)).axes
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 3 and np.diff(heights).min() > 0.06 and heights[-1] <= 1


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.filterwarnings("ignore:.*stability edge")
def test_trajectories_that_run_away_do_not_stretch_the_axes():
    figure = sc.plot(run_of(method=sc.SGD(lr=0.18, batch_size=1), steps=200, trajectories=200))
    assert re.match("Diverged: 1.. of 200 trajectories, .*; curves are those of the others", footer(figure))
    low, high = figure.axes[0].get_ylim()
    assert low >= -1 and high < 10
    assert all(axes.get_ylim()[1] < 1e6 for axes in figure.axes)


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize(("lr", "who"), [(0.4, "All 200"), (0.2, "1.. of 200")])
def test_a_sentence_takes_the_place_of_the_panels_where_nearly_all_diverged(lr, who):
    dataset = run_of(method=sc.SGD(lr=lr, batch_size=1), steps=200, trajectories=200)
    first = int(dataset["status"].values[dataset["status"].values > 0].min())
    remedy = rf"lower lr = {lr} below the stability edge 0\.14"
    sentence = f"{who} trajectories diverged, the first at step {first}: {remedy}"
    figure = sc.plot(dataset)
    (text,) = (text.get_text().replace("\n", " ") for text in figure.texts if "diverged" in text.get_text())
    assert not figure.axes and not footer(figure) and re.fullmatch(sentence, text)
    for draw in ("modes", "noise", "loss", "rank", "stationary", "density_in_time"):
        with pytest.raises(ValueError, match=f"run has nothing to plot: {sentence[0].lower()}{sentence[1:]}$"):
            getattr(sc.plots, draw)(dataset)
    before = dataset.isel(time=dataset["step"].values < first)
    assert len(sc.plot(before).axes) == 5 and "Diverged" not in footer(sc.plot(before))


@pytest.mark.filterwarnings("ignore:.*diverged")
def test_of_one_trajectory_it_is_singular_and_the_others_are_drawn():
    dataset = run_of(method=sc.SGD(lr=0.2, batch_size=1), steps=200, trajectories=200, keep="trajectories")
    status = dataset["status"].values
    with pytest.raises(ValueError, match=r"run has nothing to plot: the trajectory diverged at step \d+: lower lr"):
        sc.plots.modes(dataset.isel(trajectory=int(np.argmax(status > 0))))
    assert sc.plots.modes(dataset.isel(trajectory=status == 0)).axes[0].lines


def test_a_run_with_one_save_that_is_known_has_one_tick():
    data = run_of(saves=200)
    data["excess_loss"] = data["excess_loss"].where(data["step"] == 0)
    (axes,) = sc.plots.loss(data).axes
    assert axes.get_xticks().tolist() == [0.0]


def test_footers_and_titles_fit_at_any_resolution():
    method = sc.SGD(lr=0.01, batch_size=4, momentum=0.5, schedule=sc.schedules.Warmup(steps=10))
    figure = sc.plot(run_of(method=method, widths=(2, 4, 2)))
    assert "\n" in figure.get_supxlabel()
    for dpi in (70, 200):
        figure.set_dpi(dpi)
        figure.canvas.draw()
        for text in (figure._supxlabel, figure._suptitle):
            assert 0.5 * figure.bbox.width < text.get_window_extent().x1 < figure.bbox.width


def test_footers_name_only_what_a_reader_may_miss(run):
    assert "Left out: log det (balanced layers are singular)" in footer(sc.plot(run))
    for narrow in ({"widths": (2, 2, 2)}, {"widths": (2, 2), "init": sc.init.Gaussian(scale=0.1)}):
        assert "Left out" not in footer(sc.plot(run_of(**narrow)))


def test_legend_names_every_kind_of_line(run):
    (axes,) = sc.plots.modes(run).axes
    legend = axes.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["mean, 5–95 %", "mode SDE, 5–95 %", "gradient flow", "s*"]
    level = next(line for line in axes.lines if list(line.get_ydata()) == [2.0, 2.0])
    dotted = [line for line in axes.lines if line.get_linestyle() == "--" and line.get_linewidth() == 0.6]
    assert level.get_linestyle() == "-" and len(dotted) == 4  # 5 and 95 % of both modes
    flow, mean = lines(axes, sc.plots.GREY)[0], lines(axes, sc.plots.COLOURS[0])[-1]
    assert flow.get_linewidth() > 2 * mean.get_linewidth() and flow.get_zorder() < mean.get_zorder()


def test_mode_noise_is_that_of_the_mode_sde(run):
    dashed = lines(sc.plots.noise(run).axes[0], sc.plots.INK)
    assert len(dashed) == 2 and not lines(sc.plots.noise(run, theory=False).axes[0], sc.plots.INK)
    for mode, line in enumerate(dashed):
        mean = run["mode_noise"].sel(statistic="mean", mode=mode).values
        ratio = np.interp(run["time"], *line.get_data()) / mean
        assert np.abs(ratio - 1).max() < 0.25 and np.abs(ratio[-10:] - 1).max() < 0.03
    assert dashed[0].get_ydata()[-1] == pytest.approx(0.0025 * 4 * 2**2 * 0.25, rel=0.03)  # T L² s*² σ²


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (sc.SGD(lr=0.01, batch_size=4, momentum=0.5), "without momentum"),
        (sc.SGD(lr=0.01, batch_size=4, schedule=sc.schedules.Warmup(steps=10)), "follows a schedule"),
        (sc.Langevin(lr=0.01, batch_size=4, noise="isotropic"), "isotropic"),
    ],
)
def test_the_footer_says_why_there_is_no_theory(method, reason):
    figure = sc.plot(run_of(method=method))
    assert not lines(figure.axes[0], sc.plots.INK)
    assert "No mode SDE: " in footer(figure) and reason in footer(figure)


def test_without_a_mode_sde_theory_is_gradient_flow_of_the_network():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)) @ [[1.0, 0.4, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 1.0]]
    data = sc.Dataset(X, X @ rng.normal(size=(3, 2)))
    init = sc.init.Gaussian(scale=0.1)
    figure = sc.plot(run_of(widths=(3, 4, 2), data=data, init=init, method=sc.GD(lr=1e-3), steps=3000, trajectories=4))
    assert "Theory is gradient flow of the network from the initial weights of 4 trajectories" in footer(figure)
    flows = lines(figure.axes[0], sc.plots.GREY)
    for place, flow in enumerate(flows):
        run = next(one for one in lines(figure.axes[0], sc.plots.COLOURS[place]) if one.get_linewidth() == 1.8)
        gap = np.abs(np.interp(run.get_xdata(), *flow.get_data()) - run.get_ydata()).max()
        assert gap < 0.02 * run.get_ydata()[-1]
    assert len(flows) == 2


def test_gradient_flow_has_no_noise_and_its_own_theory():
    figure = sc.plot(run_of(method=sc.GradientFlow(lr=0.01), trajectories=2))
    assert "mode noise (0 at all saves of GradientFlow)" in footer(figure)
    flow, _ = lines(figure.axes[0], sc.plots.GREY)
    solid = next(line for line in lines(figure.axes[0], sc.plots.COLOURS[0]) if line.get_linewidth() == 1.8)
    at = np.interp(solid.get_xdata(), flow.get_xdata(), flow.get_ydata())
    assert np.abs(at - solid.get_ydata()).max() < 2e-3  # interpolation; the curves are equal


def test_gaussian_weights_start_theory_late():
    figure = sc.plot(run_of(init=sc.init.Gaussian(scale=0.02), steps=1000))
    assert "Theory starts from the run's own strengths" in footer(figure)
    begin = min(line.get_xdata()[0] for line in lines(figure.axes[0], sc.plots.INK))
    assert begin > 0.2


@pytest.mark.parametrize("events", [["learning_time"], ["learning_time", "noise_peak"]])
def test_noise_peaks_are_marked_where_they_are(events):
    data = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.1)
    dataset = run_of(data=data, method=sc.SGD(lr=0.002, batch_size=4), steps=3000, events=events, saves=300)
    (axes,) = sc.plots.noise(dataset).axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(dots) == 2
    strength = dataset["mode_strength"].sel(statistic="mean")
    for mode, dot in enumerate(dots):
        reached = np.interp(dot.get_xdata()[0], dataset["time"], strength.sel(mode=mode))
        assert 0.5 < reached / float(dataset["target"][mode]) < 0.8  # 0.67 for the aligned mode without label noise


# --- distributions


def test_stationary_density_holds_the_histogram():
    dataset = run_of(
        widths=(1, 1, 1), data=sc.GaussianData([[1.0]], label_noise=1.0), init=sc.init.Balanced(scale=1.0),
        steps=20_000, accumulate=sc.Accumulate(0.0, 3.0, bins=60, start=2000),
    )  # fmt: skip
    (axes,) = sc.plots.stationary(dataset).axes
    heights, edges, _ = axes.patches[0].get_data()
    assert heights @ np.diff(edges) == pytest.approx(1.0, abs=1e-3)
    law, boltzmann = axes.lines
    centres = (edges[1:] + edges[:-1]) / 2
    away = [np.abs(np.interp(centres, *line.get_data()) - heights).max() for line in (law, boltzmann)]
    assert away[0] < 0.05 * heights.max()
    assert "density" in labels(sc.plot(dataset))


def test_point_masses_are_shown_as_such():
    law = sc.theory.ModeSDE(depth=2, target=1.0, temperature=2.0).stationary(start=0.3)
    (axes,) = sc.plots.stationary(law).axes
    assert axes.get_ylabel() == "probability"
    np.testing.assert_allclose([line.get_ydata()[1] for line in axes.lines], law.probabilities)


@pytest.mark.filterwarnings("ignore:T = lr")
def test_above_the_critical_temperature_strengths_are_shown_by_their_size():
    data, method = sc.GaussianData([[1.0]], label_noise=2.0), sc.Langevin(0.4, batch_size=1.0, dt=0.005)
    dataset = run_of(sc.init.Balanced(scale=0.05), method, (1, 1, 1), data, steps=1000)
    (axes,) = sc.plots.stationary(dataset).axes
    shares, edges, _ = axes.patches[0].get_data()
    sizes = np.abs(strengths(selected(dataset), 0, None)[0])
    assert axes.get_xscale() == "log" and edges[0] < sizes.min() < 1 < edges[-1]
    np.testing.assert_allclose(shares, np.histogram(sizes, edges)[0] / len(sizes))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "simulation", "s*", "stationary law: mass 1 at 0",
    ]  # fmt: skip
    law = sc.theory.mode_sde(*parts(dataset)[:2], 0).stationary()
    assert "approach point masses" in sc.plots.comparison(dataset, law).axes[0].get_title(loc="left")


def test_colours_of_a_law_in_time_are_its_density():
    """Not relative to each time: with the same colour map at all times, mass that spreads is paler."""
    sde = sc.theory.ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.05)
    axes, bar = sc.plots.density_in_time(sde, start=1e-2, end=6.0).axes
    heat = np.ma.getdata(axes.collections[0].get_array())
    grid = axes.collections[0].get_coordinates()[:, 0, 1]
    mass = (heat * np.diff(grid)[:, None]).sum(axis=0)
    assert mass[-1] == pytest.approx(1.0, abs=2e-3) and (mass < 1.001).all()
    (exact,) = sde.evolve(1e-2, [6.0])
    centres = (grid[1:] + grid[:-1]) / 2
    np.testing.assert_allclose(heat[:, -1], exact.pdf(centres), atol=0.03 * heat[:, -1].max())
    assert np.abs(np.diff(heat[120:], axis=1)).max() < 0.05 * heat[120:].max()  # no jump
    assert "CDF within" in bar.get_ylabel()


def test_law_in_time_has_the_quantiles_of_theory():
    sde = sc.theory.ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
    axes = sc.plots.density_in_time(sde, start=0.1, end=4.0).axes[0]
    (exact,) = sde.evolve(0.1, [4.0])
    ends = sorted(line.get_ydata()[-1] for line in axes.lines)
    np.testing.assert_allclose(ends, exact.ppf([0.05, 0.5, 0.95]), rtol=5e-3)


def test_comparison_shows_the_verdict_and_the_largest_difference(run):
    sde = sc.theory.mode_sde(sc.Problem(sc.DeepLinear((2, 4, 2)), WHITE, sc.init.Balanced(scale=0.1)), SGD, 0)
    for law, verdict in ((sde.stationary(), "agrees"), (sde.boltzmann(), "agrees"), (run, "agrees")):
        (axes,) = sc.plots.comparison(run, law).axes
        assert axes.get_title(loc="left").startswith(verdict)
    wrong = sc.theory.ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.0025).stationary()
    (axes,) = sc.plots.comparison(run, wrong).axes
    found = sc.compare(run, wrong)
    bar = next(line for line in axes.lines if line.get_label() == "largest difference")
    assert np.ptp(bar.get_ydata()) == pytest.approx(found.rows[0].difference)
    assert axes.get_title(loc="left").startswith("differs")


def test_regimes_name_the_regime_of_the_mode():
    sde = sc.theory.ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.2)
    (axes,) = sc.plots.regimes(sde).axes
    critical = next(line for line in axes.lines if "T_c$" in line.get_label())
    assert np.interp(2.0, *critical.get_data()) == pytest.approx(1 / 3, rel=1e-3)
    assert {text.get_text() for text in axes.texts} == set(sc.theory.phases.REGIMES)
    dot = next(line for line in axes.lines if line.get_label() == "this mode")
    assert dot.get_xydata().tolist() == [[2.0, 0.2]]


@pytest.mark.parametrize("noise", [0.5, 5.0, 20.0, 500.0])
def test_names_of_regimes_lie_in_the_plane(noise):
    figure = sc.plots.regimes(sc.theory.ModeSDE(depth=2, target=1.0, label_noise=noise, temperature=0.5 / noise))
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == set(sc.theory.phases.REGIMES)
    for text in axes.texts:
        box = text.get_window_extent()
        assert axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1


# --- axes, and bad input


def test_panels_draw_into_given_axes(run):
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert sc.plots.modes(run, axes=first) is figure and sc.plots.loss(run, axes=second) is figure
    assert first.lines and second.get_yscale() == "log"


@pytest.mark.parametrize(
    ("draw", "kind", "words"),
    [
        (lambda run: sc.plots.modes(run, axes=3), TypeError, "axes must be one matplotlib Axes"),
        (lambda run: sc.plot(run, theory="yes"), TypeError, "theory must be True or False, got 'yes'"),
        (lambda run: sc.plots.modes(run.drop_vars("mode_strength")), ValueError, "dropped from the run; keep it"),
        (lambda run: sc.plots.variable(run, "mode_matrix"), ValueError, r"Plan\(observe=\[\"mode_matrix\"\]\)"),
        (lambda run: sc.plots.variable(run, "histogram"), ValueError, r"Plan\(accumulate=Accumulate\(low, high\)\)"),
        (lambda run: sc.plots.variable(run, "noise_peak_step"), ValueError, r"Plan\(events=\[\"noise_peak\"\]\)"),
        (lambda run: sc.plots.variable(run, "nonsense"), ValueError, "one of alignment, .*got 'nonsense'"),
        (lambda run: sc.plots.stationary(3), TypeError, "run_or_law must be a run, a ModeSDE or a law"),
        (lambda run: sc.plots.stationary(run, mode=2), ValueError, "mode must be from 0 to 1, got 2"),
        (lambda run: sc.plots.density_in_time(3), TypeError, "run_or_sde must be a run or a ModeSDE"),
        (lambda run: sc.plots.density_in_time(run, start=1.0), ValueError, "leave them out"),
        (lambda run: sc.plots.regimes(-1.0), ValueError, "positive target strength, got -1"),
        (lambda run: sc.plots.comparison(run, 3), TypeError, "law must have cdf and mean"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(run, draw, kind, words):
    with pytest.raises(kind, match=words) as error:
        draw(run)
    assert "\n" not in str(error.value)


def test_a_loaded_run_has_the_accessor_in_a_fresh_interpreter(tmp_path):
    problem = sc.Problem(sc.DeepLinear((2, 4, 2)), WHITE, sc.init.Balanced(scale=0.1))
    sc.simulate(problem, SGD, sc.Plan(steps=400, saves=4), out=tmp_path / "run.zarr", progress=False)
    path = str(tmp_path / "run.zarr")
    code = f"import saddlescope as sc; print(len(sc.load({path!r}).saddlescope.plot().axes))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "5\n" and not done.stderr


def test_training_and_test_loss_share_a_scale():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    data = sc.Dataset(x, x + rng.normal(size=(60, 2))).split(test=20)
    problem = sc.Problem(sc.DeepLinear((2, 3, 2)), data, sc.init.Gaussian(scale=0.1))
    plan = sc.Plan(steps=200, trajectories=9, observe=["test_loss"])
    run = sc.simulate(problem, sc.SGD(lr=0.02, batch_size=4), plan, engine="reference")
    (axes,) = sc.plots.loss(run).axes
    low, high = axes.get_ylim()
    for name in ("loss", "test_loss"):
        mean = run[name].sel(statistic="mean")
        assert low <= mean.min() and mean.max() <= high
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training loss", "test loss"]
