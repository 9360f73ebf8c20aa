"""The store of a sweep: what goes in comes out, whoever reads; what others may not do; what it costs."""

import dataclasses
import itertools
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from made_sweeps import filled, layout, result

import saddlescope as sc
from saddlescope.runs import swept
from saddlescope.runs.checkpoint import DamagedStore
from saddlescope.sweeps import layout as layouts
from saddlescope.sweeps.export import export
from saddlescope.sweeps.layout import Result
from saddlescope.sweeps.memory import Memory
from saddlescope.sweeps.store import Store

pytest.importorskip("icechunk")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK_RUNS", 20)


@pytest.fixture(scope="module")
def whole():
    """The whole sweep, in memory."""
    one = layout()
    return filled(Memory(one), one, range(one.size)).dataset()


@pytest.fixture
def truth(whole):
    return whole.copy(deep=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The whole sweep in a store, of which tests have copies."""
    one = layout()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "BLOCK_RUNS", 20)
        store = filled(Store.open(tmp_path_factory.mktemp("original") / "sweep.zarr", one), one, range(one.size))
        store.close()
    return store.place


@pytest.fixture
def stored(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "sweep.zarr"))


def test_a_sweep_comes_back(stored, truth):
    found = sc.load(stored)
    xr.testing.assert_identical(found.load(), truth)
    assert list(found.coords) and set(found.coords) == {"lr", "width", "seed", "save"}
    assert found.status.attrs["definition"] and found.attrs == {"toml": "lr = 1", "version": "0"}


@pytest.mark.parametrize("shape", [(1, 1), (3, 100), (100, 3), (41, 7)])
def test_every_order_of_runs_is_the_same_sweep(shape, tmp_path):
    one = layout(shape)
    order = np.random.default_rng(1).permutation(one.size).tolist()
    store = filled(Store.open(tmp_path / "sweep.zarr", one), one, order, every=7)
    xr.testing.assert_identical(store.dataset().load(), filled(Memory(one), one, range(one.size)).dataset())
    store.close()


def test_pending_runs_are_nan_with_status_0(tmp_path, truth):
    one, done = layout(), [0, 3, 77, 279]
    store = filled(Store.open(tmp_path / "sweep.zarr", one), one, done)
    found = store.dataset().stack(run=("lr", "width"), create_index=False).load()
    assert np.flatnonzero(found.status).tolist() == done
    rest = np.setdiff1d(np.arange(one.size), done)
    assert store.pending().tolist() == rest.tolist()
    assert found.isel(run=rest).loss.isnull().all() and found.isel(run=rest).mode_strength.isnull().all()
    assert (found.isel(run=rest).message == "").all() and (found.isel(run=rest).digest == 0).all()
    store.close()
    again = Store.open(store.place, one)
    assert again.pending().tolist() == rest.tolist()
    filled(again, one, rest.tolist()).close()
    xr.testing.assert_identical(sc.load(store.place).load(), truth)


def test_results_are_visible_after_the_commit_and_all_at_once(tmp_path):
    one = layout()
    store = Store.open(tmp_path / "sweep.zarr", one)
    before = store.dataset()
    for index in range(60):
        store.put(result(index, one))
    assert not store.dataset().status.any()
    store.commit()
    assert int((store.dataset().status != 0).sum()) == 60
    assert not before.status.any(), "a dataset stays what it was"
    store.close()


KEYS = [
    {"lr": 2},
    {"lr": -1, "width": 5},
    {"lr": slice(1, 6, 2)},
    {"lr": slice(None, None, -1)},
    {"lr": slice(5, None, -3)},
    {"width": slice(35, 3, -7), "lr": [4, 0, 4]},
    {"save": 2},
    {"save": slice(None, None, -2), "width": slice(0, 40, 39)},
    {"lr": slice(0, 0)},
    {"lr": slice(0, 7, 6), "save": [1, 0]},
]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("slab", [1, 1 << 25])
def test_parts_are_those_of_the_whole(key, slab, stored, truth, monkeypatch):
    monkeypatch.setattr(swept, "SLAB", slab)
    xr.testing.assert_identical(sc.load(stored).isel(key).load(), truth.isel(key))


def test_other_readers(stored, truth):
    import icechunk

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(stored)))
    found = xr.open_zarr(repository.readonly_session("main").store, consolidated=False, chunks=None)
    assert set(found.coords) == set(truth.coords)
    for name in (*truth.coords, *truth.data_vars):
        assert found[name].dims == truth[name].dims
        np.testing.assert_array_equal(found[name].values.astype(truth[name].dtype), truth[name].values)


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_exports(ending, stored, truth, tmp_path):
    export(stored, out := tmp_path / f"plain.{ending}")
    found = xr.open_zarr(out, chunks=None) if ending == "zarr" else xr.open_dataset(out)
    for name in (*truth.coords, *truth.data_vars):
        values = found[name].values
        if name == "digest" and ending == "nc":
            values = np.vectorize(lambda text: int(text, 16), otypes=[np.uint64])(values)
        np.testing.assert_array_equal(values.astype(truth[name].dtype), truth[name].values)
    assert found.attrs["toml"] == truth.attrs["toml"]
    with pytest.raises(FileExistsError, match="exists; give another path"):
        export(stored, out)
    assert {entry.name for entry in tmp_path.iterdir()} == {"sweep.zarr", out.name}


def test_integers_that_netcdf_3_cannot_hold(tmp_path):
    one = layout()
    large = dataclasses.replace(one, coords={**one.coords, "seed": (("width",), 2**40 + np.arange(40), {})})
    Store.open(tmp_path / "sweep.zarr", large).close()
    assert sc.load(tmp_path / "sweep.zarr").seed[1] == 2**40 + 1
    try:
        export(tmp_path / "sweep.zarr", tmp_path / "plain.nc")
    except ValueError as error:
        assert "cannot hold this sweep" in str(error) and "let it end with .zarr" in str(error)
        assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.zarr"]
    else:
        assert xr.open_dataset(tmp_path / "plain.nc").seed[1] == 2**40 + 1


def test_a_loaded_sweep_can_be_pickled(stored, truth):
    xr.testing.assert_identical(pickle.loads(pickle.dumps(sc.load(stored))).load(), truth)


def test_another_sweep_is_refused_in_words(stored):
    with pytest.raises(FileExistsError, match=r"another sweep, with 'seed = 1' where this one has 'seed = 2'; give"):
        Store.open(stored, layout(identity="lr = [0.1]\nseed = 2"))
    with pytest.raises(
        FileExistsError, match=r"another sweep, with 'nothing' where this one has '\[reduce.loss\]'; give"
    ):
        Store.open(stored, layout(identity="lr = [0.1]\nseed = 1\n\n[reduce.loss]"))
    with pytest.raises(FileExistsError, match="another sweep"):
        Store.open(stored, layout(curve=6))


def test_attributes_are_no_part_of_the_identity(stored):
    Store.open(stored, layout(attrs={"version": "1"})).close()


def test_overwrite(stored, truth, tmp_path):
    one = layout(identity="another")
    store = Store.open(stored, one, overwrite=True)
    assert store.pending().size == one.size and not store.dataset().status.any()
    filled(store, one, range(one.size), version=1).close()
    assert not sc.load(stored).identical(truth)
    assert [entry.name for entry in tmp_path.iterdir()] == [stored.name]


def test_only_sweeps_are_overwritten(stored, tmp_path):
    (stored / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds a sweep and also 'notes.txt'"):
        Store.open(stored, layout(), overwrite=True)
    (other := tmp_path / "other").mkdir()
    (other / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="exists and is not a sweep"):
            Store.open(other, layout(), overwrite=overwrite)
    assert (other / "notes.txt").read_text() == (stored / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path):
    (path := tmp_path / "empty").mkdir()
    Store.open(path, layout()).close()
    assert sc.load(path).status.size == 280


def test_a_sweep_is_no_run(stored, tmp_path):
    with pytest.raises(ValueError, match="is not a run"):
        sc.read(stored)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        sc.load(tmp_path / "nothing")
    problem = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[1.0]]), sc.init.Balanced(scale=0.5))
    sc.simulate(problem, sc.GD(0.1), sc.Plan(steps=2), out=tmp_path / "run.zarr", progress=False)
    for ending in ("zarr", "nc"):
        with pytest.raises(ValueError, match="is a run, not a sweep; give the store that a sweep wrote"):
            export(tmp_path / "run.zarr", tmp_path / f"plain.{ending}")


def test_two_writers(stored):
    store = Store.open(stored, layout())
    with pytest.raises(BlockingIOError, match="is being written by another process; wait for it"):
        Store.open(stored, layout())
    store.close()
    Store.open(stored, layout()).close()


def test_tidy_keeps_the_sweep_and_little_else(tmp_path, truth):
    one = layout()
    store = filled(Store.open(tmp_path / "sweep.zarr", one), one, range(one.size), every=1)
    (store.place / "chunks" / "LEFTOVER#1").parent.mkdir(exist_ok=True)
    (store.place / "chunks" / "LEFTOVER#1").write_text("of a killed writer")
    before, old = len(list(store.place.rglob("*"))), store.dataset()
    store.tidy()
    assert len(list(store.place.rglob("*"))) < before / 10
    assert not list(store.place.rglob("*#*"))
    xr.testing.assert_identical(store.dataset().load(), truth)
    store.put(result(5, one, version=1))
    store.commit()
    store.tidy()
    with pytest.raises(DamagedStore, match="was changed since it was loaded; load it again"):
        old.load()
    store.close()


def test_wrong_shapes_are_refused(tmp_path):
    store = Store.open(tmp_path / "sweep.zarr", layout())
    with pytest.raises(ValueError, match=r"mode_strength of a run must have the shape \(5,\) of its array, got \(1,\)"):
        store.put(Result(0, 1, "", (np.array(0.0), np.zeros(1)), 0.0))
    assert store.pending().size == 280
    store.close()


def test_a_sweep_of_another_version_has_other_blocks(stored, truth, monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK_RUNS", 50)
    store = Store.open(stored, layout())
    assert store.pending().size == 0
    xr.testing.assert_identical(store.dataset().load(), truth)
    filled(store, store.layout, [3]).close()
    xr.testing.assert_identical(sc.load(stored).load(), truth)


def test_a_copy_of_a_store_is_that_sweep(stored, truth, tmp_path):
    shutil.copytree(stored, tmp_path / "copy.zarr")
    xr.testing.assert_identical(sc.load(tmp_path / "copy.zarr").load(), truth)


def test_nothing_else_is_imported(stored):
    import subprocess
    import sys

    code = (
        "import sys, saddlescope as sc; from pathlib import Path; from saddlescope.runs import swept\n"
        f"assert swept.is_stored(Path({str(stored)!r})) and not swept.is_stored(Path('.'))\n"
        "sys.exit('icechunk' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commits_are_silent(tmp_path, capfd):
    one = layout()
    filled(Store.open(tmp_path / "sweep.zarr", one), one, range(30)).close()
    assert capfd.readouterr() == ("", "")


def test_every_digest_is_that_of_its_values(stored):
    sweep, one = sc.load(stored), layout()
    for index in itertools.chain(range(0, 280, 13), [279]):
        run = sweep.isel(dict(zip(one.dims, np.unravel_index(index, one.shape), strict=True)))
        values = (run.loss.values, run.mode_strength.values)
        assert Result(index, int(run.status), str(run.message.item()), values, 0.0).digest == int(run.digest)


def test_every_bit_pattern_of_nan_is_kept(tmp_path):
    """Chunks full of NaN are not those of pending runs: 0/0 has another sign than ``np.nan``."""
    one = layout()
    store, negative = Store.open(tmp_path / "sweep.zarr", one), np.copysign(np.nan, -1.0)
    for index in range(one.size):
        store.put(Result(index, 2, "", (np.array(negative), np.full(5, negative)), 0.0))
    store.commit()
    found = store.dataset()
    assert np.signbit(found.loss).all() and np.signbit(found.mode_strength).all() and found.loss.isnull().all()
    store.close()
    assert Store.open(store.place, one).pending().size == 0


def test_attributes_are_added_by_a_commit(tmp_path):
    one = layout()
    store = Store.open(tmp_path / "sweep.zarr", one)
    store.annotate({"hosts": ("a", "b"), "number": np.int64(3)})
    assert "hosts" not in store.dataset().attrs
    store.commit()
    expected = {"toml": "lr = 1", "version": "0", "hosts": ["a", "b"], "number": 3}
    assert store.dataset().attrs == expected
    store.close()
    again = Store.open(store.place, layout(attrs={"version": "1"}))
    assert again.attrs == expected, "of the first call, until they are changed"
    again.close()


def test_a_commit_that_was_interrupted_after_it_was_done(tmp_path, monkeypatch, truth):
    """Ctrl-C arrives when Icechunk has made the commit, but before the store knows."""
    one, store = layout(), Store.open(tmp_path / "sweep.zarr", layout())
    filled(store, one, range(30))
    store.put(result(30, one))
    with monkeypatch.context() as patch:

        def interrupted():
            raise KeyboardInterrupt

        tip = store._tip
        patch.setattr(store, "_flush", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.commit()
        store._tip = tip
    filled(store, one, range(31, one.size))
    xr.testing.assert_identical(store.dataset().load(), truth)
    store.close()
