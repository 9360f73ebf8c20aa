"""The picture of a watched training: what it shows, what it leaves out and says so, at any size."""

import numpy as np
import pytest
import torch
from made_records import COVERAGE, record, records, weights
from matplotlib.figure import Figure
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope import cli
from saddlescope.monitor.record import Record
from saddlescope.monitor.results import to_dataset
from saddlescope.monitor.variables import Status
from saddlescope.plots.training import POOLED, _pooled
from saddlescope.runs.training import save


def dataset(count=2, **options):
    names = ("fc1.weight", "fc2.weight") if count == 2 else tuple(weights(count))
    return to_dataset(records(names=names, **options), quantities=["modes", "noise"], coverage=COVERAGE)


@pytest.fixture(scope="module")
def training():
    return dataset()


def labels(figure):
    return [axes.get_ylabel() for axes in figure.axes]


def footer(figure):
    return figure.get_supxlabel().replace("\n", " ")


def curves(axes):
    return [line.get_ydata() for line in axes.lines]


MODES = ["mode strength [weight]", "mode noise [(loss/weight)²]"]
REST = ["gradient noise [(loss/weight)²]", "noise scale [samples]", "change of imbalance [weight²]", "effective rank"]


def test_picture_has_the_panels_of_the_training(training):
    figure = sc.plot(training)
    assert isinstance(figure, Figure)
    assert labels(figure) == [MODES[0], MODES[0], MODES[1], MODES[1], *REST]
    assert all(axes.get_xlabel() == "step" for axes in figure.axes)
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["modes of fc1.weight", "modes of fc2.weight"]
    assert "Not recorded" not in footer(figure), "heads and layers in a row are in few models"
    assert "Noise is the variance of gradients of single samples" in footer(figure)
    assert [text.get_text() for text in figure.axes[4].get_legend().get_texts()] == ["squared mean gradient"]
    assert "all parameters" in [text.get_text() for text in figure.axes[4].texts]
    assert f"Noise is the mean of {POOLED} neighbouring records." in footer(figure)
    assert "Coverage: 2 of 5 parameters recorded; 1 not recorded: its hook did not fire (out_proj.weight)" in footer(
        figure
    )
    assert "Training watched at 116 steps" in figure.get_suptitle()


def test_lines_are_the_numbers_of_the_dataset(training):
    axes = dict(
        zip(("a", "b", "noise a", "noise b", "trace", "scale", "balance", "rank"), sc.plot(training).axes, strict=True)
    )
    for mode in range(4):
        found = training["mode_strength"].sel(weight="fc1.weight", mode=mode).values
        assert any(np.array_equal(found, y) for y in curves(axes["a"]))
    assert any(np.array_equal(training["noise_scale"], y) for y in curves(axes["scale"]))
    assert any(np.array_equal(training["batch_size"], y) for y in curves(axes["scale"]))
    for name in ("imbalance", "imbalance_predicted"):
        change = training[name][:, 0] - training["imbalance"][0, 0]
        assert any(np.array_equal(change, y) for y in curves(axes["balance"]))
    grey, pooled = (
        axes["noise b"].collections[0].get_paths()[0].vertices[:, 1],
        _pooled(training["control_variance"].values),
    )
    assert grey.min() == pytest.approx(pooled[:, 1].min()) and grey.max() == pytest.approx(pooled[:, 1].max())


def test_pooled_noise_is_the_mean_of_neighbours():
    values = np.random.default_rng(0).normal(size=(40, 3))
    values[5, 1] = np.nan
    for step in (0, 1, 7, 20, 39):
        part = values[max(0, step - POOLED // 2) : step + POOLED // 2 + 1]
        np.testing.assert_allclose(_pooled(values)[step], np.nanmean(part, axis=0))
    np.testing.assert_array_equal(_pooled(values[:10]), values[:10])


def test_theory_can_be_left_out(training):
    balance = sc.plot(training, theory=False).axes[-2]
    assert len([line for line in balance.lines if np.isfinite(line.get_ydata()).any()]) == 1
    assert "predicted" not in [text.get_text() for text in balance.get_legend().get_texts()]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 100])
def test_any_number_of_weights(count):
    figure = sc.plot(dataset(count, last=500, heads=4))
    shown = min(count, 3)
    assert labels(figure)[: 2 * shown] == [MODES[0]] * shown + [MODES[1]] * shown
    assert (f"Modes of the 3 of {count} weights whose mode strengths changed most" in footer(figure)) == (count > 3)
    assert (f"of {count} parameters" in footer(figure)) == (count > 4)
    assert ("pairs whose balance changed most" in footer(figure)) == (count > 9)
    assert max(len(axes.get_legend().get_texts()) for axes in figure.axes if axes.get_legend()) <= 3
    for axes in figure.axes:
        box = axes.get_position()
        assert box.width > 0.2 and box.height > 0.05, "the panels have room"


def test_alike_names_are_told_apart():
    ends = [f"transformer.layers.{i}.feed_forward.{j}" for i in range(2) for j in range(2)]
    made = dataset(2, last=200)
    names = [f"{end}~{end[:-1]}2" for end in ends]
    one = made[["imbalance"]].isel(pair=[0, 0, 0, 0]).assign_coords(pair=names)
    one["imbalance"] = one["imbalance"] * [1.0, 2.0, 3.0, 4.0]
    (axes,) = sc.plot(one).axes
    shown = {text.get_text().split(" from")[0] for text in axes.texts}
    assert len(shown) == 4 and all(len(name) < 30 for name in shown)
    assert "A pair is ‘from’ its imbalance at the first record." in footer(sc.plot(one))


def test_bands_of_rank_are_told_by_their_edges():
    figure = sc.plot(dataset(16, last=200))
    rank = figure.axes[-1]
    lines = [line.get_ydata() for line in rank.lines if line.get_linewidth() > 0]
    assert len(lines) == 2 * 5 and all(band.get_alpha() < 0.1 for band in rank.collections)
    assert "of 16 weights whose effective rank fell most, or rose least." in footer(figure)


def test_one_record_has_one_step_and_bands():
    figure = sc.plot(to_dataset([record(7)]))
    for axes in figure.axes:
        assert axes.get_xticks().tolist() == [7] and axes.get_xlim() == (6, 8)
    noise, rank = figure.axes[2], figure.axes[-1]
    assert np.ptp(noise.collections[0].get_paths()[0].vertices[:, 0]) > 0.3
    assert len(rank.collections) == 2


def test_small_noise_is_within_the_panel(training):
    small = training.copy(deep=True)
    small["mode_variance"][:, 0, 0] = 1e-5 * small["mode_variance"][:, 0].max()
    axes = sc.plot(small).axes[2]
    low = min(line.get_ydata().min() for line in axes.lines)
    assert axes.get_yscale() == "log" and axes.get_ylim()[0] < low


def test_the_layout_is_computed_once(training, tmp_path):
    figure = sc.plot(training)
    before = [axes.get_position().bounds for axes in figure.axes]
    assert figure.get_layout_engine() is None or not figure.get_layout_engine().adjust_compatible
    figure.savefig(tmp_path / "figure.png")
    assert [axes.get_position().bounds for axes in figure.axes] == before


def test_selected_weights_are_shown():
    whole = dataset(16, last=500)
    for chosen in (["blocks.3.q.weight"], "blocks.3.q.weight"):
        figure = sc.plot(whole.sel(weight=chosen))
        assert figure.axes[0].get_title("left") == "modes of blocks.3.q.weight"
        assert labels(figure)[:2] == MODES


def test_jumps_and_alarms_are_shown(training):
    wrong = training.copy(deep=True)
    wrong["balance_jump"][50, 0] = 1
    wrong["status"][3, 0] = Status.CHECK_FAILED
    figure = sc.plot(wrong)
    balance = figure.axes[-2]
    (marks,) = (line for line in balance.lines if line.get_marker() == "x")
    assert np.flatnonzero(np.isfinite(marks.get_ydata())).tolist() == [50]
    assert [text.get_text() for text in balance.get_legend().get_texts()] == ["measured", "predicted, 95 %", "jump"]
    assert "Alarms: check failed: fc1.weight in 1 of 116 records" in footer(figure)
    assert "Alarms" not in footer(sc.plot(training))


def test_weights_alone():
    names = ("mode_strength", "effective_rank_low", "effective_rank_high", "frobenius")
    made = [Record(r.step, 0, None, {name: r.values[name] for name in names}) for r in records(last=300)]
    figure = sc.plot(to_dataset(made))
    assert labels(figure) == [MODES[0], MODES[0], "effective rank"]
    assert "Not recorded: noise, noise scale, balance." in footer(figure)


def test_an_open_interval_of_the_noise_scale_reaches_the_top():
    low, high = np.full(40, 20.0), np.where(np.arange(40) < 20, 60.0, np.inf)
    value = np.where(np.arange(40) < 30, 40.0, np.inf)
    made = [
        Record(step, 8, 0.1, {name: {"": torch.tensor(numbers[step])} for name, numbers in (
            ("noise_scale", value), ("noise_scale_low", low), ("noise_scale_high", high))})
        for step in range(40)
    ]  # fmt: skip
    (axes,) = sc.plot(to_dataset(made)).axes
    band, top = axes.collections[0].get_paths()[0].vertices, axes.get_ylim()[1]
    assert band[:, 0].max() == 39 and np.isfinite(band).all()
    assert band[band[:, 0] >= 20, 1].max() > top > band[band[:, 0] < 19, 1].max()


def test_log_det_beside_its_prediction():
    made = [
        Record(step, 8, 0.1, {
            "log_det": {"a~b": torch.tensor(-0.01 * step)}, "log_det_predicted": {"a~b": torch.tensor(-0.011 * step)},
        })
        for step in range(30)
    ]  # fmt: skip
    (axes,) = sc.plot(to_dataset(made)).axes
    assert axes.get_ylabel() == "log determinant" and len(axes.lines) == 2


@pytest.mark.parametrize("made", [[], [Record(3, 8, None)]])
def test_nothing_recorded(made):
    figure = sc.plot(to_dataset(made, coverage=COVERAGE))
    assert not figure.axes and "recorded" in footer(figure)


def test_odd_datasets_are_drawn():
    """One record, missing numbers, negative estimates, weights that come and go."""
    values = {name: dict(by_key) for name, by_key in record(5).values.items()}
    values["mode_variance"]["fc1.weight"] = torch.full((4,), torch.nan)
    values["total_trace"][""] = torch.tensor(-1.0)
    broken = Record(5, 32, None, values)
    sc.plot(to_dataset([record(0)]))
    sc.plot(to_dataset([broken]))
    sc.plot(to_dataset([record(0), broken, record(9, names=("other",))]))
    sc.plot(to_dataset([record(step) for step in (7, 3, 5)]))


def test_a_watch_its_dataset_and_its_store_have_one_picture(training, tmp_path):
    class Watch:
        def to_xarray(self):
            return training

    save(training, tmp_path / "training.zarr")
    once = labels(sc.plot(training))
    assert labels(sc.plot(Watch())) == once
    assert labels(sc.load(tmp_path / "training.zarr").saddlescope.plot()) == once
    answer = CliRunner().invoke(cli.app, ["plot", str(tmp_path / "training.zarr"), "-o", str(tmp_path / "figure.png")])
    assert answer.exit_code == 0 and (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_neither_is_refused():
    with pytest.raises(TypeError, match="run must be a Dataset"):
        sc.plot(3)
