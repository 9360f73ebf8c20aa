"""The benchmarks: their output, and that a contestant with a different distribution is not timed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import saddlescope.bench as benchmark
from saddlescope.bench import arms, curves, report, targets, work
from saddlescope.bench.arms import OURS, Arm, Race
from saddlescope.bench.settings import network, scalar, table
from saddlescope.cli import app

SETTING = network(3, 1)
HOTTER = replace(SETTING, batch_size=0.5)
MINE = Arm(OURS, OURS, "langevin", 64, block=10)
NUMPY = Arm("NumPy", "numpy", "langevin", 64, ({"chunk": 32}, {"chunk": 64}), block=10)
ABSENT = replace(NUMPY, name="absent", peer="no_such_peer")
RACE = Race("tiny", SETTING, (MINE, NUMPY, ABSENT), (60, 2048), quick=True)


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of one tiny work, read back from its JSON."""
    folder = tmp_path_factory.mktemp("bench")
    works = {"T": work.Work("Langevin, tiny", (RACE,))}
    assert benchmark.bench(repeats=2, quick=True, out=folder, works=works) == 0
    return json.loads((folder / "bench.json").read_text()), (folder / "bench.md").read_text()


def test_what_is_written(record):
    facts, text = record
    contestants = facts["works"]["T"]["races"]["tiny"]["arms"]
    assert list(contestants) == [OURS, "NumPy"] and facts["repeats"] == 2
    for arm in contestants.values():
        assert len(arm["seconds"]) == 2 and arm["spread"][0] <= arm["nanoseconds"] <= arm["spread"][1]
        assert 0 < arm["work_memory"] < arm["memory"] and arm["compile_seconds"] >= 0
    assert contestants[OURS]["ratio"] == [1, 1, 1] and contestants["NumPy"]["options"]["chunk"] in (32, 64)
    assert len(facts["works"]["T"]["races"]["tiny"]["limits"]) == facts["repeats"]  # measured in every round
    assert facts["limits"]["float32"]["gflops"][0] > 0 and set(facts["machine"]["versions"]) == {OURS, *arms.PEERS}
    for word in ("## T · Langevin, tiny", "### tiny", "| NumPy |", "## Targets", "## Limits of this machine"):
        assert word in text
    assert all(len(line.split("|")) == len(report.ARMS) + 2 for line in text.splitlines() if "| NumPy |" in line)


def test_a_wrong_law_is_not_timed():
    """Negative control: half the batch size is twice the temperature."""
    wrong = replace(NUMPY, name="too hot", choices=({"chunk": 64, "setting": HOTTER},))
    entries, notes, other = arms.run(replace(RACE, arms=(MINE, NUMPY, wrong)), 1, 0.01, silent)
    assert [entry.arm.name for entry in entries] == [OURS, "NumPy"] and not notes
    assert len(other) == 1 and other[0].startswith("too hot has a different distribution: z = ")


def test_an_arm_that_fails_is_named():
    failing = replace(NUMPY, name="failing", choices=({"chunk": 64, "setting": None},))
    entries, notes, other = arms.run(replace(RACE, arms=(MINE, failing)), 1, 0.01, silent)
    assert [entry.arm.name for entry in entries] == [OURS] and not other
    assert notes == ["failing did not run: AttributeError: 'NoneType' object has no attribute 'teacher'"]


@pytest.mark.parametrize(
    ("function", "setting", "steps"),
    [("langevin", SETTING, 60), ("sgd", network(3, 8), 60), ("label_noise", table(), 40)],
)
def test_ours_and_numpy_have_one_law(function, setting, steps):
    race = Race(
        function,
        setting,
        (Arm(OURS, OURS, function, 256), Arm("NumPy", "numpy", function, 256, ({"chunk": 256},))),
        (steps, 2048),
    )
    entries, notes, other = arms.run(race, 1, 0.01, silent)
    assert len(entries) == 2 and not notes and not other


def test_every_work_is_well_formed():
    for name, job in work.WORKS.items():
        for race in job.races:
            names = [arm.name for arm in race.arms]
            assert names[0] == OURS and len(set(names)) == len(names), (name, race.name)
            assert {arm.peer for arm in race.arms} <= {OURS, *arms.PEERS}
            for arm in race.arms:
                steps, _ = arm.check or race.check
                assert steps % arm.block == 0 and arm.trajectories % arm.processes == 0, (race.name, arm.name)
        assert any(race.quick for race in job.races)
    for scheme in curves.schemes(1000):
        for _, _, steps in scheme.choices(0.3, quick=False):
            assert steps % scheme.arm.block == 0, scheme.arm.name


def test_every_target_finds_its_arms():
    arm = {"steps": 1, "trajectories": 1, "seconds": [1.0, 2.0, 3.0], "nanoseconds": 2.0}
    works = {
        name: {
            "races": {
                race.name: {"arms": {a.name: {**arm, "name": a.name, "peer": a.peer} for a in race.arms}}
                for race in job.races
            }
        }
        for name, job in work.WORKS.items()
    }
    race = works["W1"]["races"]["1024 trajectories"]
    race["limits"] = [{"float32": {"gflops": 1e-9 * targets.PRODUCTS / slower}} for slower in (1.0, 2.0, 3.0)]
    for target in targets.TARGETS:
        row = target.judge({"works": works})
        verdicts = ("",) if target.floor is None else ("reached", "met", "missed")
        assert row["measured"] and row["verdict"] in verdicts, target.what
        assert target.judge({"works": {}})["verdict"] == "not measured"
        if "peak" in target.what:
            assert row["measured"] == pytest.approx([1, 1, 1])  # the machine was as busy in the same round


def test_distance_from_the_stationary_law():
    law = curves.exact(0.3)
    draws = law.rvs(20_000, random_state=0)
    assert curves.distance(draws, 0.3) < 0.02 < curves.distance(1.1 * draws, 0.3)
    assert curves.distance(np.append(draws, [np.nan] * 5_000), 0.3) > 0.19


def test_the_figure(tmp_path):
    point = {"scheme": "ours", "peer": OURS, "temperature": 0.3, "noise": 0.006, "microseconds": 1.0, "distance": 0.1}
    curves.draw({"points": [point, {**point, "temperature": 0.03}]}, tmp_path / "w3.svg")
    assert (tmp_path / "w3.svg").stat().st_size > 1000
    assert scalar(0.3).temperature == 0.3


def test_an_unknown_work(tmp_path):
    done = CliRunner().invoke(app, ["bench", "W9", "-o", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == "error: WORK must be among W1, W2, W3, W4, W5, got 'W9'; leave it out for all of them\n"
