"""Damaged stores of sweeps: for any damage no wrong number is used; a sweep that is resumed repeats what is lost."""

import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from made_sweeps import filled, layout

import saddlescope as sc
from saddlescope.runs.checkpoint import DamagedStore
from saddlescope.sweeps import layout as layouts
from saddlescope.sweeps.memory import Memory
from saddlescope.sweeps.store import Store

pytest.importorskip("icechunk")

DONE = 200
KINDS = ("flip", "flip", "flip", "zeros", "truncate", "append", "delete", "exchange")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK_RUNS", 20)


def sweep():
    """Curves so long that chunks are files, not parts of manifests."""
    return layout(curve=30)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The first runs of a sweep in a store, and the datasets of these runs and of all."""
    one = sweep()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "BLOCK_RUNS", 20)
        store = filled(Store.open(tmp_path_factory.mktemp("made") / "sweep.zarr", one), one, range(DONE))
        store.tidy()
        store.close()
    part = filled(Memory(one), one, range(DONE)).dataset()
    return store.place, part, filled(Memory(one), one, range(one.size)).dataset()


@pytest.fixture
def stored(made, tmp_path):
    place, part, whole = made
    return Path(shutil.copytree(place, tmp_path / "original.zarr")), part.copy(deep=True), whole.copy(deep=True)


def damage(kind, store, rng):
    """Damage one file of a store; the folder that it lies in."""
    files = sorted(file for file in store.rglob("*") if file.is_file())
    file = files[rng.integers(len(files))]
    data = bytearray(file.read_bytes())
    at = int(rng.integers(len(data)))
    if kind == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "zeros":
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    elif kind == "truncate":
        del data[at:]
    elif kind == "append":
        data += b"\0" * 7
    elif kind == "exchange":
        others = [other for other in file.parent.iterdir() if other.is_file() and other != file]
        if others:
            other = others[rng.integers(len(others))]
            data = bytearray(other.read_bytes())
            other.write_bytes(file.read_bytes())
    file.write_bytes(data)
    if kind == "delete":
        file.unlink()
    return file.relative_to(store).parts[0]


def outcome(use, truth, lost_seconds=False):
    """Whether a use is right, but for times that may be lost, refused in one sentence, or neither."""
    try:
        found = use()
    except DamagedStore as error:
        text = str(error)
        return "refused" if "\n" not in text and "is damaged: " in text else f"refused badly: {text}"
    if lost_seconds and found.seconds.isnull().any():
        found["seconds"] = found.seconds.fillna(truth.seconds)
    return "right" if found.identical(truth) else "silently wrong"


def resumed(place, one):
    """The sweep in a store, after it was resumed."""
    store = Store.open(place, one)
    try:
        filled(store, one, store.pending().tolist(), every=1000)
        store.tidy()
        return store.dataset().load()
    finally:
        store.close()


def trial(kind, stored, place, rng, found):
    """One damage: what comes of reading the sweep, of a part of it, and of resuming it."""
    original, part, whole = stored
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(original, place)
    where = damage(kind, place, rng)
    if not (place / "saddlescope-sweep").exists():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read = outcome(lambda: sc.load(place).load(), part)
        one = outcome(lambda: sc.load(place).loss.isel(width=0).load(), part.loss.isel(width=0))
        again = outcome(lambda: resumed(place, sweep()), whole, lost_seconds=True)
    for what, how in (("read", read), ("part", one), ("resumed", again)):
        found[(what, how, where)] += 1


def judged(found: Counter) -> Counter[str]:
    total: Counter[str] = Counter()
    for (what, how, _), count in found.items():
        total[f"{what} {how}"] += count
    bad = {key: count for key, count in found.items() if key[1] not in ("right", "refused")}
    assert not bad, bad
    return total


def test_no_damage_to_a_sweep_is_used(stored, tmp_path):
    rng, found = np.random.default_rng(0), Counter()
    for number in range(24):
        trial(KINDS[number % len(KINDS)], stored, tmp_path / "copy.zarr", rng, found)
    total = judged(found)
    assert total["read refused"] > 7 and total["resumed right"] > 7, "the damages do harm, and sweeps are resumed"


@pytest.mark.soak
def test_1000_flips_in_a_sweep(stored, tmp_path, capsys):
    rng, found = np.random.default_rng(1), Counter()
    for _ in range(1000):
        trial("flip", stored, tmp_path / "copy.zarr", rng, found)
    with capsys.disabled():
        print(f"\n1000 flips: {dict(judged(found))}; {dict(found)}")


@pytest.mark.soak
def test_400_damages_of_all_kinds_to_a_sweep(stored, tmp_path, capsys):
    rng, found = np.random.default_rng(2), Counter()
    for number in range(400):
        trial(KINDS[number % len(KINDS)], stored, tmp_path / "copy.zarr", rng, found)
    with capsys.disabled():
        print(f"\n400 damages: {dict(judged(found))}")


def test_a_damaged_chunk_costs_its_runs_alone(stored):
    place, _, whole = stored
    largest = max((place / "chunks").iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    sweep_so_far = sc.load(place)
    sweep_so_far.loss.load()
    with pytest.raises(DamagedStore, match="run the same sweep again, which repeats what is damaged"):
        sweep_so_far.mode_strength.load()
    with pytest.warns(UserWarning, match=r"of the 200 runs in '.*' are damaged and are executed again") as given:
        store = Store.open(place, sweep())
    lost = int(str(given[0].message).split()[0])
    assert 15 < lost <= 20, "all of the block but those that raised, which have no values"
    assert store.pending().size == 80 + lost
    store.close()
    assert resumed(place, sweep()).identical(whole)


def test_without_checksums_the_damage_would_be_silent(stored, monkeypatch):
    """The negative control: an exchanged chunk has the right crc32c, and Icechunk does not notice."""
    from saddlescope.runs import swept

    place, part, _ = stored
    sizes = Counter(file.stat().st_size for file in (place / "chunks").iterdir())
    one, other, *_ = (file for file in (place / "chunks").iterdir() if file.stat().st_size == max(sizes, key=sizes.get))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(DamagedStore):
        sc.load(place).load()
    monkeypatch.setattr(
        swept, "verified", lambda content, name, box: swept.plain(np.asarray(content.arrays[name][box]))
    )
    assert not sc.load(place).load().identical(part)


def test_metadata_are_sealed(stored, tmp_path):
    """Attributes and coordinates cannot be changed, as by another program, without notice."""
    import icechunk
    import zarr

    place, _, _ = stored
    for number, change in enumerate(
        [
            lambda group: group.attrs.update({"toml": "lr = 2"}),
            lambda group: group["lr"].attrs.update({"units": "s"}),
            lambda group: group["lr"].__setitem__(0, 7.0),
            lambda group: group["width"].__setitem__(3, "(9, 9)"),
        ]
    ):
        copy = Path(shutil.copytree(place, tmp_path / f"copy{number}.zarr"))
        session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(copy))).writable_session("main")
        change(zarr.open_group(session.store, mode="r+"))
        session.commit("by another program")
        with pytest.raises(DamagedStore, match="its metadata or coordinates are not what was written"):
            sc.load(copy)
        xr.testing.assert_identical(resumed(copy, sweep()), stored[2])
    xr.testing.assert_identical(sc.load(place).load(), stored[1])
