"""Loggers: names, the compact selection, every package that can be logged to, and errors that never stop training."""

import json
import math
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from saddlescope.monitor import loggers as lg  # noqa: E402
from saddlescope.monitor.naming import named, on_host  # noqa: E402
from saddlescope.monitor.record import Record  # noqa: E402

VALUES = {
    "mode_variance": {"fc.weight": torch.tensor([2.0, 1.0])},
    "check": {"fc.weight": torch.tensor(1e-7), "out.weight": torch.tensor(math.nan)},
    "status": {"fc.weight": torch.tensor(0), "out.weight": torch.tensor(8)},
    "trace": {"fc.weight": torch.tensor(3.0, dtype=torch.float64), "fc.bias": torch.tensor(1.0)},
    "total_trace": {"": torch.tensor(4.0)},
    "noise_scale": {"": torch.tensor(math.nan)},
    "noise_scale_high": {"": torch.tensor(math.inf)},
    "effective_rank_low": {"fc.weight": torch.tensor(2.5)},
    "imbalance": {"attn.qk.h0": torch.tensor(-0.5)},
    "balance_noise": {"attn.qk.h0": torch.tensor(0.25)},
}
COMPACT = {
    "noise/total_trace": 4.0,
    "noise/noise_scale": math.nan,
    "noise/noise_scale_high": math.inf,
    "rank/effective_rank_low/fc.weight": 2.5,
    "balance/imbalance/attn.qk.h0": -0.5,
    "balance/balance_noise/attn.qk.h0": 0.25,
    "check/worst": pytest.approx(1e-7),
    "check/flagged": 1.0,
}


def record(step=3):
    return Record(step, 16, None, VALUES)


class Broken:
    """A logger whose every call raises."""

    calls = 0

    def log(self, step, numbers):
        self.calls += 1
        raise OSError("disk\nfull")

    def close(self):
        self.calls += 1
        raise OSError("disk full")


def test_every_number_has_one_name():
    numbers = on_host(VALUES)
    names = [name for name, _ in named(numbers)]
    assert len(names) == len(set(names)) == 14
    assert {"modes/mode_variance/fc.weight/1", "noise/trace/fc.bias", "modes/status/out.weight"} < set(names)
    assert numbers["trace"]["fc.weight"] == 3.0 and numbers["mode_variance"]["fc.weight"] == (2.0, 1.0)


def test_selections():
    everything = dict(named(on_host(VALUES)))
    compact = lg.selected(on_host(VALUES))
    assert {**compact, "noise/noise_scale": 0} == {**COMPACT, "noise/noise_scale": 0}
    assert math.isnan(compact["noise/noise_scale"])
    assert lg.selected(on_host(VALUES), "all").keys() == everything.keys()
    assert lg.selected(on_host(VALUES), ["trace"]) == {"noise/trace/fc.weight": 3.0, "noise/trace/fc.bias": 1.0}
    assert lg.InMemory("trace").which == ("trace",)
    with pytest.raises(
        ValueError, match=r'^which must be "compact", "all" or names of variables, got \'traces\' \(did you mean'
    ):
        lg.InMemory(["traces"])


def test_a_raising_logger_warns_once_and_the_others_go_on():
    broken, kept = Broken(), lg.InMemory()
    outlets = lg.Outlets([broken, kept])
    with pytest.warns(UserWarning, match="^the logger Broken raised OSError: disk full; training goes on") as warned:
        for step in range(3):
            outlets.record(record(step))
        outlets.event(3, {"alert/x": 1.0})
        outlets.close()
    assert len(warned) == 1 and broken.calls == 5
    assert [step for step, _ in kept.rows] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="full"):
        lg.Outlets([Broken()], strict=True).record(record())
    for wrong in ([print], print, 3, [3], [lg.JSONL], lg.JSONL):
        with pytest.raises(TypeError, match=r"^loggers must have the methods log\(step, numbers\) and close\(\), got"):
            lg.Outlets(wrong)


def test_one_logger_does_without_a_list_and_a_path_is_told_what_to_write(tmp_path):
    kept = lg.InMemory()
    lg.Outlets(kept).record(record())
    assert [step for step, _ in kept.rows] == [3]
    for path in ("log.jsonl", ["log.jsonl"]):
        with pytest.raises(TypeError, match=r"got the path 'log.jsonl'; write loggers=JSONL\('log.jsonl'\)$"):
            lg.Outlets(path)
    with pytest.raises(TypeError, match=r"^to must be a SummaryWriter or the path of a folder, got 3$"):
        lg.TensorBoard(3)
    with pytest.raises(TypeError, match=r'^which must be "compact", "all" or names of variables, got 3$'):
        lg.JSONL(tmp_path / "x", which=3)


def test_jsonl_is_valid_json_and_appends(tmp_path):
    path = tmp_path / "new" / "numbers.jsonl"
    for step in range(2):
        logger = lg.JSONL(path)
        lg.Outlets([logger]).record(record(step))
        assert len(path.read_text().splitlines()) == step + 1  # on disk before it is closed
    rows = [json.loads(line, parse_constant=lambda word: pytest.fail(word)) for line in path.open()]
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[0]["noise/noise_scale"] is None and rows[0]["noise/noise_scale_high"] is None
    assert rows[0]["noise/total_trace"] == 4.0


def test_tensorboard_folder_and_given_writer(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    def scalars(folder):
        events = EventAccumulator(str(folder)).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    outlets = lg.Outlets([lg.TensorBoard(tmp_path / "own")])
    outlets.record(record(3))
    outlets.close()
    assert scalars(tmp_path / "own").keys() == COMPACT.keys()
    assert scalars(tmp_path / "own")["balance/imbalance/attn.qk.h0"] == [(3, -0.5)]
    with SummaryWriter(str(tmp_path / "given")) as writer:
        outlets = lg.Outlets([lg.TensorBoard(writer, which="total_trace")])
        outlets.record(record(5))
        outlets.close()
        assert scalars(tmp_path / "given") == {"noise/total_trace": [(5, 4.0)]}
        writer.add_scalar("still open", 1.0)


def test_wandb_is_offline_and_takes_the_active_run(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = lg.WandB(project="p")
    outlets = lg.Outlets([logger], strict=True)
    outlets.record(record(3))
    run = wandb.run
    assert run.offline and run.project == "p"
    run.log({"loss": 1.0}, step=100)  # steps of the user need not be those of the watch
    outlets.record(record(4))
    other = lg.WandB()
    other.log(5, {"noise/total_trace": 7.0})
    other.close()
    assert wandb.run is run, "an active run that was taken is left open"
    assert run.summary["noise/total_trace"] == 7.0 and run.summary["monitor/step"] == 5
    outlets.close()
    assert wandb.run is None
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert file.stat().st_size > 0


def test_trackio_keeps_rows_on_this_machine(tmp_path):
    pytest.importorskip("trackio")
    code = """
import trackio
from saddlescope.monitor.loggers import Trackio
mine = trackio.init("mine", embed=False, auto_log_cpu=False)
taken = Trackio()
taken.log(1, {"noise/total_trace": 4.0})
taken.close()
assert trackio.context_vars.current_run.get() is mine
mine.finish()
trackio.context_vars.current_run.set(None)
new = Trackio(project="watched")
new.log(2, {"noise/total_trace": 5.0, "noise/noise_scale": float("nan")})
new.close()
from trackio.sqlite_storage import SQLiteStorage
for project, step, value in (("mine", 1, 4.0), ("watched", 2, 5.0)):
    (run,) = SQLiteStorage.get_runs(project)
    (row,) = SQLiteStorage.get_logs(project, run)
    assert (row["step"], row["noise/total_trace"]) == (step, value), row
"""
    environment = {"TRACKIO_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_nothing_is_imported_until_used_and_missing_packages_are_named(tmp_path, monkeypatch):
    code = """
import sys
from saddlescope.monitor.loggers import TensorBoard, Trackio, WandB
TensorBoard("logs"), Trackio(), WandB()
loaded = {"tensorboard", "trackio", "wandb"} & sys.modules.keys()
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(lg.importlib.util, "find_spec", lambda package: None)
    for make, package in ((lg.WandB, "wandb"), (lg.Trackio, "trackio"), (lambda: lg.TensorBoard("x"), "tensorboard")):
        with pytest.raises(ImportError, match=rf"^\w+ needs the package {package}: pip install {package}$"):
            make()
