"""The store of a watched training: round trips, damage, places, and who refuses what."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from made_records import COVERAGE, record, records
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope import _files, _zarr, cli
from saddlescope.monitor.record import Record
from saddlescope.monitor.results import to_dataset
from saddlescope.runs.checkpoint import DamagedStore
from saddlescope.runs.training import save


def named(name):
    return [Record(0, 4, 0.1, {"mode_strength": {name: torch.arange(3.0)}, "imbalance": {name: torch.tensor(1.0)}})]


MADE = {
    "all": records(last=300, heads=2),
    "empty": [],
    "nothing measured": [Record(3, 8, None)],
    "no modes": [Record(3, 8, None, {"mode_strength": {"a": torch.empty(0)}})],
    "unicode": named("Schicht 1 · Wₗ → 重み\n\t'\"/é"),
    "empty name": named(""),
}


@pytest.fixture
def training():
    return to_dataset(records(last=300), quantities=["modes"], schedule="log+50", coverage=COVERAGE)


@pytest.fixture
def stored(training, tmp_path):
    save(training, tmp_path / "training.zarr")
    return tmp_path / "training.zarr"


@pytest.mark.parametrize("name", MADE)
def test_round_trips(name, tmp_path, monkeypatch):
    monkeypatch.setattr(_zarr, "CHUNK_BYTES", 2000)  # so that arrays have several chunks
    given = to_dataset(MADE[name], coverage=COVERAGE)
    save(given, tmp_path / "a.zarr")
    once = sc.load(tmp_path / "a.zarr")
    save(once, tmp_path / "b.zarr")
    xr.testing.assert_identical(once, given)
    xr.testing.assert_identical(sc.load(tmp_path / "b.zarr"), given)
    assert {one.dtype for one in once.variables.values()} <= {np.dtype(t) for t in ("f8", "i8", "O")}


def test_other_readers_see_the_same(training, stored):
    found = xr.open_zarr(stored).load()
    assert set(found.variables) - set(training.variables) == {"digests"}
    for name, variable in training.variables.items():
        np.testing.assert_array_equal(found[name], variable)
        assert found[name].dims == variable.dims and found[name].attrs == variable.attrs
    assert found.attrs == training.attrs and set(found.coords) == set(training.coords)


def damages(data):
    yield "flipped", data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
    yield "first", bytes([data[0] ^ 1]) + data[1:]
    yield "last", data[:-1] + bytes([data[-1] ^ 128])
    yield "cut", data[:-1]
    yield "longer", data + b" "
    yield "empty", b""


def test_any_damage_to_any_file_is_noticed(training, stored):
    files = sorted(file for file in stored.rglob("*") if file.is_file())
    assert len(files) > 60
    for file in files:
        data = file.read_bytes()
        for kind, changed in damages(data):
            file.write_bytes(changed)
            with pytest.raises(DamagedStore, match=r"training.zarr' is damaged: .*restore it from a copy"):
                sc.load(stored)
                pytest.fail(f"{kind} {file}")
        file.unlink()
        with pytest.raises(DamagedStore, match=r"missing|damaged"):
            sc.load(stored)
        file.write_bytes(data)
    xr.testing.assert_identical(sc.load(stored), training)


def test_exchanged_files_are_noticed(stored):
    one, other = (stored / name / "c" / "0" / "0" for name in ("trace", "trace_stderr"))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(DamagedStore, match="trace/c/0/0 is not what was written"):
        sc.load(stored)


def test_info_tells_of_damage(stored):
    (stored / "trace" / "c" / "0" / "0").unlink()
    answer = CliRunner().invoke(cli.app, ["info", str(stored)])
    assert answer.exit_code == 2 and answer.stderr.startswith("error: the store") and answer.stderr.count("\n") == 1


# --- places


def test_an_earlier_save_is_replaced(stored):
    later = to_dataset(records(last=500), coverage=COVERAGE)
    save(later, stored)
    xr.testing.assert_identical(sc.load(stored), later)
    assert [entry.name for entry in stored.parent.iterdir()] == ["training.zarr"]


def test_an_empty_folder_is_filled(training, tmp_path):
    (tmp_path / "new").mkdir()
    save(training, tmp_path / "new")
    xr.testing.assert_identical(sc.load(tmp_path / "new"), training)


@pytest.mark.parametrize("what", ["file", "folder", "run", "damaged", "more", "link"])
def test_nothing_else_is_replaced(what, training, stored, tmp_path):
    path = tmp_path / "other"
    if what == "file":
        path.write_text("mine")
    elif what == "folder":
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    elif what == "run":
        simulated(out=path)
    else:
        shutil.copytree(stored, path)
        if what == "damaged":
            (path / "digests" / "c" / "0").write_bytes(b"")
        elif what == "more":
            (path / "trace" / "notes.txt").write_text("mine")
        else:
            (path / "trace" / "link").symlink_to(stored)
    before = sorted((str(file), file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())
    with pytest.raises(FileExistsError, match=r"path .*other' .*; (give another path|move it elsewhere)"):
        save(training, path)
    assert before == sorted((str(file), file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())


def test_a_failed_save_leaves_the_earlier_one(training, stored, monkeypatch):
    monkeypatch.setattr(_files, "put", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="the disk is full"):
        save(to_dataset([record(0)]), stored)
    monkeypatch.undo()
    xr.testing.assert_identical(sc.load(stored), training)
    assert [entry.name for entry in stored.parent.iterdir()] == ["training.zarr"]


def test_a_killed_save_is_undone_when_loaded(training, stored):
    stored.rename(stored.with_name(f".{stored.name}.{'0' * 16}.saddlescope-old"))
    xr.testing.assert_identical(sc.load(stored), training)


def test_two_writers_at_once_are_refused(training, stored):
    with _files.sole(stored, "path"), pytest.raises(BlockingIOError, match="being written by another process"):
        save(training, stored)


def test_wrong_paths(training, tmp_path):
    with pytest.raises(TypeError, match="path must be a path"):
        save(training, 3)
    with pytest.raises(ValueError, match="path must be on this machine"):
        save(training, "s3://bucket/training.zarr")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="lies below"):
        save(training, tmp_path / "file" / "training.zarr")


# --- who refuses what


def simulated(**options):
    problem = sc.Problem(sc.DeepLinear((2, 2)), sc.GaussianData(np.eye(2)), sc.init.Gaussian(scale=0.5))
    return sc.simulate(problem, sc.GD(lr=0.1), sc.Plan(steps=10), engine="reference", **options)


WHAT = "what a monitor recorded of a training"


def test_functions_of_simulations_refuse_it(training):
    for use in (
        lambda: sc.compare(training, simulated()),
        lambda: sc.compare(simulated(), training),
        lambda: sc.simulate(training, sc.GD(lr=0.1), sc.Plan(steps=20)),
        lambda: sc.cite(training),
        lambda: training.saddlescope.weights(),
        lambda: sc.plots.modes(training),
    ):
        with pytest.raises((TypeError, ValueError), match=WHAT) as found:
            use()
        assert "\n" not in str(found.value)


def test_a_store_is_no_run(stored):
    with pytest.raises(ValueError, match=f"is not a run but {WHAT}"):
        sc.read(stored)
    with pytest.raises(FileExistsError, match="exists and is not a run"):
        simulated(out=stored)
    with pytest.raises(FileExistsError, match="exists and is not a run"):
        simulated(out=stored, overwrite=True)
    answer = CliRunner().invoke(cli.app, ["run", str(stored), "--steps", "20"])
    assert answer.exit_code == 2 and WHAT in answer.stderr


def test_loading_needs_no_torch(stored):
    code = f"import sys; sys.modules['torch'] = None; import saddlescope as sc; sc.load({str(stored)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_watch_is_saved_loaded_and_drawn(tmp_path):
    """From the training loop to the command line."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sc.monitor.Watch(model, schedule=3)
    for _ in range(12):
        with watch.step():
            model(torch.randn(8, 4)).square().sum(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    watch.save(tmp_path / "training.zarr")
    loaded, direct = sc.load(tmp_path / "training.zarr"), watch.to_xarray()
    xr.testing.assert_identical(loaded.assign_attrs(created_at=""), direct.assign_attrs(created_at=""))
    np.testing.assert_array_equal(loaded["step"], [0, 3, 6, 9])
    assert repr(watch.summary()).splitlines()[1].endswith("4 of 4 parameters recorded; 1 of 1 pairs predicted")
    answer = CliRunner().invoke(cli.app, ["info", str(tmp_path / "training.zarr")])
    assert answer.stdout.strip().endswith(repr(watch.summary()))
    assert [axes.get_ylabel() for axes in sc.plot(watch).axes] == [axes.get_ylabel() for axes in sc.plot(loaded).axes]
