"""The summary: what it says holds in the numbers, and what the numbers do not hold is not said."""

import re

import numpy as np
import pytest
import torch
from made_records import COVERAGE, record, records, weights
from typer.testing import CliRunner

from saddlescope import cli
from saddlescope.monitor.record import Record
from saddlescope.monitor.results import to_dataset
from saddlescope.monitor.summary import TOPICS, summary
from saddlescope.monitor.variables import Status
from saddlescope.runs.training import save


def told(values, steps=30, batch=32, **options):
    """The summary of records with these values: a number, or a function of the step."""
    made = []
    for step in range(steps):
        at = {
            name: {key: torch.as_tensor(value(step) if callable(value) else value, dtype=torch.float64)
                   for key, value in by_key.items()}
            for name, by_key in values.items()
        }  # fmt: skip
        if "status" in at:
            at["status"] = {key: value.to(torch.int64) for key, value in at["status"].items()}
        made.append(Record(step, batch, 0.1, at))
    return summary(to_dataset(made, **options))


def test_it_says_what_was_recorded():
    told = summary(to_dataset(records(), quantities=["modes", "noise"], coverage=COVERAGE))
    assert told.title == ("Training watched at 116 steps, 0 to 4,998, batch size 32: 2 weights, 1 pair, modes, noise")
    assert [name for name, _ in told.rows] == ["coverage", *TOPICS]
    assert told["coverage"].startswith("2 of 5 recorded; 1 not recorded: its hook did not fire (out_proj.weight)")
    assert told["noise scale"] == "100 samples (95 %: from 80 to 130); the gradient of a batch of 32 is mostly noise"
    assert "fc1.weight 40–44 → 20–24, fc2.weight 40–44 → 30–34" in told["rank"]
    assert re.search(r"mode 3 of fc1.weight \(0.94\d* ± 0.02, \d+ × a random direction\)", told["modes"])
    assert "fc1.weight 70%" in told["noise"] and "fc2.weight 30%" in told["noise"]


@pytest.mark.parametrize("count", [0, 1, 2, 16, 100])
def test_it_is_short_whatever_the_size(count):
    """At most 18 lines, with the coverage first."""
    made = records(last=400, names=tuple(f"a.long.name.of.a.module.{name}" for name in weights(count))) if count else []
    told = summary(to_dataset(made, coverage=COVERAGE))
    lines = repr(told).splitlines()
    assert len(lines) <= (14 if count <= 2 else 18) and max(map(len, lines)) <= 100
    assert lines[1].startswith("  coverage")
    page = told._repr_html_()
    assert page.count("<tr>") == len(told.rows) and "<small>" in page


def test_noise_balances_starves_or_leaves_undecided():
    def of(rate, imbalance, stderr):
        return told(
            {"imbalance": {"a · b": imbalance}, "balance_noise": {"a · b": rate}, "balance_stderr": {"a · b": stderr}}
        )["balance"]

    assert of(-1e-3, 2.0, 1e-3) == "noise balances 1 (a · b: -0.001 ± 0.0002 a step at 2)"
    assert of(1e-3, -2.0, 1e-3).startswith("noise balances 1")
    assert of(1e-3, 2.0, 1e-3) == "noise starves 1 (the second part of a · b: +0.001 ± 0.0002 a step at 2)"
    assert of(-1e-3, -2.0, 1e-3).startswith("noise starves 1 (the first part of a · b")
    assert of(1e-3, 2.0, 4e-3) == "noise leaves undecided 1 (a · b)"  # √20 records: ± 9e-4


def test_prediction_names_the_pair_that_is_off():
    values = {
        "imbalance": {"good": lambda t: 1 - 0.01 * t, "bad": lambda t: 1 - 0.005 * t},
        "imbalance_predicted": {"good": lambda t: 1 - 0.0101 * t, "bad": lambda t: 1 + 0.01 * t},
        "imbalance_predicted_stderr": {"good": lambda t: 0.001 * t, "bad": lambda t: 0.001 * t},
    }
    assert told(values, steps=101)["prediction"] == (
        "change of imbalance as predicted, within two errors, in 1 of 2 pairs; "
        "good: measured -1, predicted -1.01 ± 0.1; bad: measured -0.5, predicted +1 ± 0.1"
    )


def test_a_change_that_is_not_predicted_is_measured():
    said = told({"imbalance": {"a~b": lambda t: 1 - 0.01 * t, "c~d": 1.0}}, steps=101)["prediction"]
    assert said == "the change of imbalance is not predicted under this optimizer; a~b: measured -1"


@pytest.mark.parametrize(
    ("batch", "meaning"), [(32, "mostly noise"), (100, r"to 130\)$"), (512, "mostly signal")], ids=str
)
def test_noise_scale_is_held_against_the_batch(batch, meaning):
    ends = {"noise_scale": {"": 100.0}, "noise_scale_low": {"": 80.0}, "noise_scale_high": {"": 130.0}}
    assert re.search(meaning, told(ends, batch=batch)["noise scale"])


def test_a_noise_scale_that_is_not_bounded():
    ends = {"noise_scale": {"": 5e7}, "noise_scale_low": {"": 80.0}, "noise_scale_high": {"": np.inf}}
    assert "95 %: at least 80" in told(ends)["noise scale"]
    last = {
        "noise_scale": {"": lambda t: 90.0 if t < 20 else np.inf},
        "noise_scale_low": {"": 80.0}, "noise_scale_high": {"": lambda t: 130.0 if t < 20 else np.inf},
    }  # fmt: skip
    assert told(last)["noise scale"].startswith("at least 80 samples (95 %), since the signal is not told from 0; ")


@pytest.mark.parametrize("low, high, lost", [(10.0, 12.0, 0), (9.0, 9.5, 1), (9.0, 10.5, 0)], ids=str)
def test_rank_is_lost_only_beyond_its_bounds(low, high, lost):
    values = {
        "effective_rank_low": {"a": lambda t: low if t else 10.0},
        "effective_rank_high": {"a": lambda t: high if t else 12.0},
    }
    assert told(values)["rank"].startswith(f"effective rank lost in {lost} of 1 weights")


def test_alarms():
    assert told({"check": {"a": 1e-7}, "status": {"a": 0}})["alarms"] == (
        "none; samples add up to the gradient within 1e-07"
    )
    values = {
        "status": {"a": lambda t: int(t == 3) * Status.CHECK_FAILED, "b": Status.REFUSED | Status.NOT_FINITE},
        "balance_jump": {"p": lambda t: float(t == 7)},
    }
    alarms = told(values)["alarms"]
    assert "check failed: a in 1 of 30 records; samples do not add up to the gradient" in alarms
    assert "not finite: b in 30 of 30 records" in alarms and "refused: b in 30" in alarms
    assert alarms.endswith("change of balance that samples do not explain: p in 1 of 30 records")


def test_what_is_missing_at_some_steps_does_not_hide_the_rest():
    nan = {"trace": {"a": lambda t: float("nan") if t > 20 else 2.0}, "trace_stderr": {"a": 1.0}}
    assert "a 100% (2 ± " in told(nan)["noise"]
    all_nan = {
        name: {"a": float("nan")} for name in ("trace", "trace_stderr", "effective_rank_low", "effective_rank_high")
    }
    repr(told(all_nan))
    repr(summary(to_dataset([record(0), Record(1, 4, None), record(2, names=("other",))])))


def test_others_are_refused():
    with pytest.raises(TypeError, match="training must be the dataset of a monitor, from to_xarray or load, got 3"):
        summary(3)


def test_info_prints_it(tmp_path):
    training = to_dataset(records(last=300), quantities=["modes"], coverage=COVERAGE)
    save(training, tmp_path / "training.zarr")
    answer = CliRunner().invoke(cli.app, ["info", str(tmp_path / "training.zarr")])
    assert answer.exit_code == 0 and answer.stdout.endswith(f"training.zarr: {summary(training)!r}\n")
    answer = CliRunner().invoke(cli.app, ["info", "--toml", str(tmp_path / "training.zarr")])
    assert answer.exit_code == 2 and answer.stderr.startswith("error: --toml needs the store of a run")
