"""Damaged stores: for any damage to a file no lost number is used, and one sentence names the store and the part."""

import itertools
import shutil
from collections import Counter

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
import stores
from saddlescope import _zarr
from saddlescope.runs import store
from saddlescope.runs.checkpoint import DamagedStore

GOOD = {"refused", "right"}


def counts(found: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(found.items()))


@pytest.mark.parametrize("name", ["statistics", "large data set", "diagonal"])
def test_no_damage_is_used(name, tmp_path, monkeypatch):
    """Some of all kinds on every run."""
    stages, turn = stores.stages(name, tmp_path / "stages", monkeypatch), sorted(stores.RUNS).index(name)
    for seed, kind in enumerate(list(stores.DAMAGES)[turn % 3 :: 3]):
        found = stores.damaged(name, kind, seed, stages, tmp_path)
        assert found.keys() <= GOOD, (kind, found)


@pytest.mark.soak
def test_no_damage_is_used_in_300(tmp_path, monkeypatch, capsys):
    found, refused = Counter(), Counter()
    pairs = list(itertools.product(stores.RUNS, stores.DAMAGES))
    stages = {name: stores.stages(name, tmp_path / name, monkeypatch) for name in stores.RUNS}
    for seed, (name, kind) in enumerate(itertools.islice(itertools.cycle(pairs), 308)):
        got = stores.damaged(name, kind, seed, stages[name], tmp_path)
        assert got.keys() <= GOOD, (name, kind, seed, got)
        found += got
        refused[kind] += "refused" in got
    with capsys.disabled():
        print(f"\n308 damages, {sum(found.values())} uses: {counts(found)}; refused of 22 each: {counts(refused)}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return stores.stages("trajectories", tmp_path_factory.mktemp("made") / "stages", patch)


@pytest.fixture
def finished(made, tmp_path):
    return shutil.copytree(made.finished, tmp_path / "run.zarr")


@pytest.fixture
def half(made, tmp_path):
    return shutil.copytree(made.half, tmp_path / "half.zarr")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("loss/c/0/2", r"the chunk loss/c/0/2 is missing"),
        ("checkpoint/c/0", r"its checkpoint is missing"),
        ("zarr.json", r"the file zarr\.json is missing"),
        ("loss/zarr.json", r"the file loss/zarr\.json is missing"),
        ("target/c/0", r"the file target/c/0 is missing"),
    ],
)
def test_what_is_missing_is_named_at_once(finished, what, message):
    (finished / what).unlink()
    with pytest.raises(DamagedStore, match=rf"^the store '.*run\.zarr' is damaged: {message}; restore it"):
        sc.load(finished)


def test_what_is_damaged_is_named_when_it_is_used(finished, tmp_path):
    run = sc.load(finished)
    file = finished / "mode_strength" / "c" / "0" / "1" / "0"
    data = bytearray(file.read_bytes())
    data[5] ^= 4
    file.write_bytes(data)
    message = r"^the store '.*' is damaged: the chunk mode_strength/c/0/1/0 has a wrong checksum; restore"
    run["loss"].load()
    for use in (
        lambda: run.mode_strength.values,
        lambda: run.copy().load(),
        lambda: run.mode_strength.isel(time=3, mode=[0, 1]).mean().item(),
        lambda: run.to_netcdf(tmp_path / "run.nc"),
        lambda: sc.compare(run, run, step=int(run.step[3])),
        lambda: sc.simulate(run, plan=stores.plan("trajectories", steps=80)),
        lambda: store.check(finished),
    ):
        with pytest.raises(DamagedStore, match=message):
            use()


def test_a_store_that_was_replaced_is_not_called_damaged(finished):
    run = sc.load(finished)
    problem, method, _ = stores.RUNS["trajectories"]
    sc.simulate(problem, method, stores.plan("trajectories", steps=6, saves=2), out=finished, overwrite=True)
    with pytest.raises(DamagedStore, match=r"is no longer the one that was opened; load it again$"):
        run.load()
    shutil.rmtree(finished)
    with pytest.raises(DamagedStore, match=r"is no longer the one that was opened; load it again$"):
        run.load()


def test_plain_zarr_fails_on_damaged_chunks_too(finished):
    file = finished / "loss" / "c" / "0" / "1"
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        xr.open_zarr(finished).loss.values  # noqa: B018


def test_parts_of_a_lazy_run_are_the_parts(finished):
    whole, lazy = sc.load(finished).load(), sc.load(finished)
    for name, part in itertools.product(
        ("loss", "mode_strength", "layer_noise"),
        ({"time": 3}, {"time": slice(9, 2, -3)}, {"trajectory": [2, 0], "time": [7, 7, 1]}, {"trajectory": -1}),
    ):
        xr.testing.assert_identical(lazy[name].isel(part), whole[name].isel(part))
    points = {"time": xr.DataArray([1, 8, 3], dims="point"), "trajectory": xr.DataArray([0, 3, 1], dims="point")}
    xr.testing.assert_identical(lazy.mode_strength.isel(points), whole.mode_strength.isel(points))
    assert np.isfinite(lazy.copy(deep=True).loss.values).all()


def test_later_saves_in_a_chunk_do_no_harm(made, half):
    """A commit that was killed before its checkpoint."""
    for file in stores.chunks(half):
        newer = made.finished / file.relative_to(half)
        if "checkpoint" not in file.parts and newer.exists():
            file.write_bytes(newer.read_bytes())
    xr.testing.assert_identical(sc.load(half).load().drop_attrs(deep=False), made.truths[1].drop_attrs(deep=False))


def test_a_damaged_open_frees_the_lock(finished):
    problem, method, _ = stores.RUNS["trajectories"]
    (finished / "loss" / "zarr.json").unlink()
    for _ in range(2):
        with pytest.raises(DamagedStore):
            sc.simulate(problem, method, stores.plan("trajectories"), out=finished)
    assert sc.simulate(problem, method, stores.plan("trajectories"), out=finished, overwrite=True).attrs["complete"]


def test_damage_is_found_before_a_run_is_resumed(half):
    problem, method, _ = stores.RUNS["trajectories"]
    (half / "loss" / "c" / "0" / "0").write_bytes(b"")
    with pytest.raises(DamagedStore, match="chunk loss/c/0/0 has a wrong checksum"):
        sc.simulate(problem, method, stores.plan("trajectories"), out=half)


def test_every_chunk_ends_with_a_checksum(finished):
    for file in finished.rglob("c/**/*"):
        if file.is_file():
            assert _zarr.read_bytes(file)
