"""The summary: what it says holds in the numbers, and what the numbers do not hold is not said."""

import re

import numpy as np
import pytest
import torch
from made_records import COVERAGE, record, records, weights
from typer.testing import CliRunner

from saddlescope import cli
from saddlescope.monitor.coverage import NO_PAIR, PREDICTED, UNPREDICTED, Coverage
from saddlescope.monitor.record import Record
from saddlescope.monitor.results import to_dataset
from saddlescope.monitor.summary import PAIRS, TOPICS, summary
from saddlescope.monitor.variables import Status
from saddlescope.monitor.words import labels, within
from saddlescope.runs.training import save


def told(values, steps=30, batch=32, lr=0.1, **options):
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
        made.append(Record(step, batch, lr, at))
    return summary(to_dataset(made, **options))


def test_it_says_what_was_recorded():
    told = summary(to_dataset(records(), quantities=["modes", "noise"], coverage=COVERAGE))
    assert told.title == ("Training watched at 116 steps, 0 to 4,998, batch size 32: 2 weights, 1 pair, modes, noise")
    assert [name for name, _ in told.rows] == ["coverage", *TOPICS]
    assert told["coverage"].startswith(
        "2 of 5 parameters recorded; 1 not recorded: its hook did not fire (out_proj.weight)"
    )
    assert told["noise scale"] == "100 samples (95 %: from 80 to 130); the gradient of a batch of 32 is mostly noise"
    assert "fc1.weight 40–44 → 20–24, fc2.weight 40–44 → 30–34" in told["rank"]
    assert re.search(r"mode 3 of fc1.weight \(0.9\d ± 0.02, \d+ × a random direction\)", told["modes"])
    assert "fc1.weight 70%" in told["noise"] and "fc2.weight 30%" in told["noise"]


@pytest.mark.parametrize("count", [0, 1, 2, 16, 100])
def test_all_of_it_is_shown_whatever_the_size(count):
    """Every word of every row but the lines of many pairs, with the coverage first."""
    made = records(last=400, names=tuple(f"a.long.name.of.a.module.{name}" for name in weights(count))) if count else []
    told = summary(to_dataset(made, coverage=COVERAGE))
    lines = repr(told).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("  coverage")
    words = " ".join(repr(told).split())
    for topic, text in told.rows:
        for line in text.splitlines()[: PAIRS + 1]:
            assert " ".join(line.split()) in words, topic
    assert ('and 38 more: print(watch.summary()["balance"])' in words) == (count == 100)
    page = told._repr_html_()
    assert page.count("<tr>") >= len(told.rows) and "<small>" in page
    with pytest.raises(KeyError, match="topic must be one of coverage"):
        told["ranks"]


def pair(rate=-1e-3, imbalance=2.0, stderr=1e-3, steps=30, predicted=2.0, coverage=(), lr=0.1, batch=32):
    """The row of balance with one pair."""
    values = {
        "imbalance": imbalance, "balance_noise": rate, "balance_stderr": stderr,
        "imbalance_predicted": predicted, "imbalance_predicted_stderr": 0.1,
    }  # fmt: skip
    values = {name: {"a~b": value} for name, value in values.items()}
    return told(values, steps, batch, lr, coverage=Coverage(coverage), quantities=["balance"])["balance"]


def test_noise_balances_starves_or_is_not_told_from_0():
    assert pair() == (
        "of 1 pair, noise balances 1; changes as predicted, within two errors, in 1 of 1. "
        "Imbalance is ‖first part‖² − ‖second‖²:\n"
        "a~b: noise balances it, -0.0010 ± 0.0002 per step; last imbalance 2, changed by +0, predicted +0.0 ± 0.1"
    )
    assert "a~b: noise balances it, +0.0010 ± 0.0002 per step" in pair(1e-3, -2.0)
    assert "of 1 pair, noise starves a part of 1; " in pair(1e-3)
    assert "a~b: noise starves the second part, +0.0010" in pair(1e-3)
    assert "a~b: noise starves the first part, -0.0010" in pair(-1e-3, -2.0)
    assert "noise is not told from 0 in 1; " in pair(1e-3, stderr=4e-3)  # √20 records: ± 9e-4
    assert "a~b: noise not told from 0, +0.0010 ± 0.0009 per step" in pair(1e-3, stderr=4e-3)


def test_every_pair_is_held_against_its_prediction():
    at = ("a good one", "bad")
    values = {
        "imbalance": dict(zip(at, (lambda t: 2 - 0.01 * t, lambda t: 1 - 0.005 * t), strict=True)),
        "imbalance_predicted": dict(zip(at, (lambda t: 2 - 0.0101 * t, lambda t: 1 + 0.01 * t), strict=True)),
        "imbalance_predicted_stderr": dict.fromkeys(at, lambda t: 0.001 * t),
        "balance_noise": dict.fromkeys(at, -1e-3),
        "balance_stderr": dict.fromkeys(at, 1e-4),
    }
    said = told(values, steps=101)["balance"]
    assert "noise balances 2; changes as predicted, within two errors, in 1 of 2." in said
    assert "a good one: noise balances it" in said and "changed by -1, predicted -1.0 ± 0.1\n" in said
    assert said.endswith("changed by -0.5, predicted +1.0 ± 0.1 (off by 15 errors)")


GONE = float("nan")
AWAY = {"rate": GONE, "stderr": GONE, "predicted": GONE}


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"coverage": [("a~b", UNPREDICTED, "its optimizer is AdamW")]}, "its optimizer is AdamW"),
        ({"lr": None} | AWAY, "no step of an optimizer was seen"),
        (
            {"batch": 1, "coverage": [("a~b", UNPREDICTED, "not seen")]} | AWAY,
            "a batch of one sample does not show its noise",
        ),
        ({"imbalance": lambda t: 1.0 if t < 7 else GONE}, "no finite number since step 7"),
        (AWAY, "not seen per sample at the last record"),
    ],
    ids=["optimizer", "none", "one sample", "diverged", "else"],
)
def test_a_pair_without_a_prediction_has_a_reason(options, reason):
    said = pair(**options)
    assert said.startswith(f"no prediction: {reason}")
    assert "noise balances" not in said and "predicted +" not in said and "\na~b: last imbalance " in said


def test_different_reasons_stand_with_their_pairs():
    rows = (("a~b", UNPREDICTED, "clipped"), ("a.qk.1", NO_PAIR, "u·g_u differs"))
    values = {
        "imbalance": {"a~b": 1.0, "b~c": 1.0}, "balance_noise": {"a~b": 1.0, "b~c": 1.0},
        "balance_stderr": {"a~b": 0.1, "b~c": 0.1}, "imbalance_predicted": {"a~b": 1.0, "b~c": 1.0},
        "imbalance_predicted_stderr": {"a~b": 0.1, "b~c": 0.1},
    }  # fmt: skip
    lines = told(values, coverage=Coverage(rows))["balance"].splitlines()
    assert lines[1].startswith("b~c: noise starves the second part")
    assert lines[2:] == [
        "a~b: last imbalance 1, changed by +0; no prediction: clipped",
        "a.qk.1: not used as a pair: u·g_u differs",
    ]


def test_a_change_may_be_predicted_without_its_parts():
    said = pair(rate=GONE, coverage=[("a~b", PREDICTED, "not divided into noise and gradient: momentum")])
    assert "noise" not in said.splitlines()[0] and said.endswith(
        "a~b: last imbalance 2, changed by +0, predicted +0.0 ± 0.1; not divided into noise and gradient: momentum"
    )


def test_no_pair_at_all_is_said():
    assert told({}, quantities=["balance"])["balance"].startswith("no pair of weights was found")
    assert "balance" not in dict(told({}, quantities=["noise"]).rows)


def test_two_blocks_have_two_names():
    names = [f"transformer.encoder.layers.{i}.feed_forward.{j}~transformer.encoder.layers.{i}.feed_forward.2"
             for i in (0, 1) for j in (0, 1)]  # fmt: skip
    for width in (4, 8, 24, 33, 60, 200):
        assert len({*labels(names, width)}) == 4
    assert labels(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    "value, error, text",
    [(121, 12, "121 ± 10"), (1234.6, 33, "1,235 ± 30"), (0.04, 1.0, "0 ± 1"), (2e35, 1e35, "2e+35 ± 1e+35"),
     (1.0, 0.0, "1"), (np.nan, 1.0, "nan"), (0.0, 1e-5, "0e+00 ± 1e-05"), (9.97, 0.096, "10.0 ± 0.1")],
)  # fmt: skip
def test_numbers_have_the_digits_of_their_errors(value, error, text):
    assert within(value, error) == text


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


@pytest.mark.parametrize(
    "low, high, lost", [(10.0, 12.0, 0), (9.0, 9.5, 1), (9.0, 10.5, 0), (9.997, 9.9997, 0)], ids=str
)
def test_rank_is_lost_only_beyond_its_bounds(low, high, lost):
    values = {
        "effective_rank_low": {"a": lambda t: low if t else 10.0},
        "effective_rank_high": {"a": lambda t: high if t else 12.0},
    }
    assert told(values)["rank"].startswith(f"effective rank lost in {lost} of 1 weight")


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
    assert "a 100% (2.0 ± 0.2)" in told(nan)["noise"]
    assert told({"trace": {"a": np.nan}, "trace_stderr": {"a": np.nan}}, batch=1)["noise"] == (
        "not measured: a batch of one sample has no variance"
    )
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
    assert answer.exit_code == 2 and answer.stderr.endswith("has no TOML; leave --toml out to see its summary\n")


def test_commands_name_the_stores_of_monitors(tmp_path):
    for verb, more in (("info", []), ("plot", ["-o", str(tmp_path / "figure.jpg")])):
        asked = CliRunner().invoke(cli.app, [verb, "--help"], terminal_width=200)
        assert "or watch.save(…)." in asked.stdout
        answer = CliRunner().invoke(cli.app, [verb, str(tmp_path / "missing.zarr"), *more])
        assert answer.exit_code == 2 and "simulate(…, out=…) or watch.save(…) wrote" in answer.stderr
    asked = CliRunner().invoke(cli.app, ["plot", "--help"], terminal_width=200).stdout
    save(to_dataset(records(last=50)), tmp_path / "training.zarr")
    for suffix in re.findall("png|jpg|pdf|svg", asked):
        file = tmp_path / f"figure.{suffix}"
        assert CliRunner().invoke(cli.app, ["plot", str(tmp_path / "training.zarr"), "-o", str(file)]).exit_code == 0
        assert file.stat().st_size
