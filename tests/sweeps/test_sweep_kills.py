"""Committers that are killed, disks that are full, workers that write: nothing lost, nothing torn, one sentence."""

import errno
import multiprocessing
import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import xarray as xr
from made_sweeps import filled, layout, result

import saddlescope as sc
from saddlescope.sweeps import chunks
from saddlescope.sweeps import layout as layouts
from saddlescope.sweeps.chunks import write_block
from saddlescope.sweeps.layout import Array, Layout, Result
from saddlescope.sweeps.memory import Memory
from saddlescope.sweeps.store import Store

pytest.importorskip("icechunk")

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["saddlescope.sweeps.store", "saddlescope.simulation.simulate", "zarr", "xarray"])


def sweep():
    return layout(curve=30)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK_RUNS", 20)


@pytest.fixture(scope="module")
def truth():
    one = sweep()
    return filled(Memory(one), one, range(one.size)).dataset()


# --- kills


def commit_until_killed(path, overwrite, acknowledged):
    """Execute what is pending, three runs a commit, and say so after each."""
    layouts.BLOCK_RUNS = 20
    one = sweep()
    acknowledged.send(-1)
    store = Store.open(path, one, overwrite)
    acknowledged.send(one.size - len(store.pending()))
    for count, index in enumerate(store.pending().tolist(), 1):
        store.put(result(index, one))
        if count % 3 == 0:
            store.commit()
            acknowledged.send(one.size - len(store.pending()))
    store.commit()
    store.tidy()
    acknowledged.send(one.size)
    time.sleep(60)


def killed(path, overwrite, seconds):
    """Kill a committer so long after its start; what it acknowledged last, -1 before it had opened the store."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=commit_until_killed, args=(path, overwrite, theirs))
    process.start()
    theirs.close()
    last = ours.recv()
    time.sleep(seconds)
    process.kill()
    process.join()
    try:
        while True:
            last = ours.recv()
    except EOFError:
        return last


def kills(number, path, truth, seed):
    """Kill a committer this many times, and read the store after each; a finished sweep is begun anew."""
    rng, reached, found = np.random.default_rng(seed), 0, Counter()
    expected = truth.stack(run=("lr", "width"), create_index=False)
    for _ in range(number):
        overwrite = reached == truth.status.size
        last = killed(path, overwrite, float(rng.uniform(0.0, 0.5)))
        if not path.exists():
            assert reached == 0 and last == -1
            found["nothing yet"] += 1
            continue
        now = sc.load(path).load().stack(run=("lr", "width"), create_index=False)
        done = np.flatnonzero(now.status)
        if overwrite and last == -1 and done.size == reached:
            found["not yet overwritten"] += 1
        else:
            assert done.size >= max(last, 0 if overwrite else reached), "an acknowledged commit was lost"
            found["all" if done.size == truth.status.size else "a part"] += 1
        reached = done.size
        xr.testing.assert_identical(now.isel(run=done), expected.isel(run=done))
        rest = now.isel(run=np.flatnonzero(now.status == 0))
        assert rest.loss.isnull().all() and rest.mode_strength.isnull().all() and not rest.digest.any()
    one = sweep()
    store = Store.open(path, one)
    filled(store, one, store.pending().tolist(), every=1000)
    store.tidy()
    store.close()
    assert sc.load(path).load().identical(truth)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "a file was left over"
    return found


def test_killed_committers_lose_nothing(tmp_path, truth):
    found = kills(10, tmp_path / "sweep.zarr", truth, seed=0)
    assert found["a part"] >= 3


@pytest.mark.soak
def test_300_killed_committers(tmp_path, truth, capsys):
    found = kills(300, tmp_path / "sweep.zarr", truth, seed=1)
    with capsys.disabled():
        print(f"\n300 kills: {dict(found)}; 0 lost, 0 torn")


# --- full disks


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 800 kB; skipped where none can be mounted, as by other users than root."""
    (path := tmp_path / "disk").mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=800k", "none", path], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here; the limit of file sizes is tested")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk(small_disk, tmp_path, truth):
    one, kept = sweep(), 0
    store = Store.open(small_disk / "sweep.zarr", one)
    with pytest.raises(
        OSError, match=r"^the store '.*' could not be used \(No space left on device\); free some space and run again; "
    ) as e:
        for index in range(one.size):
            store.put(result(index, one))
            store.commit()
            kept = index + 1
    assert kept > 10 and e.value.errno == errno.ENOSPC and f"it resumes with the {kept:,} runs" in str(e.value)
    store.close()
    found = sc.load(store.place).load()
    assert np.count_nonzero(found.status) == kept
    shutil.copytree(store.place, tmp_path / "elsewhere.zarr")
    again = Store.open(tmp_path / "elsewhere.zarr", one)
    filled(again, one, again.pending().tolist()).close()
    assert sc.load(again.place).load().identical(truth)


def test_a_full_disk_at_the_start(small_disk):
    (small_disk / "other").write_bytes(b"0" * 800 * 1024)
    with pytest.raises(OSError, match=r"No space left on device\); .*nothing had been computed yet"):
        Store.open(small_disk / "sweep.zarr", sweep())
    assert [entry.name for entry in small_disk.iterdir()] == ["other"]


def test_a_limit_of_file_sizes(tmp_path, truth):
    """Some file of the commit is too large: what is in memory is committed once there is room."""
    one = sweep()
    store = filled(Store.open(tmp_path / "sweep.zarr", one), one, range(100))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"free some space and run again; it resumes with the 100 runs"):
            filled(store, one, range(100, 280), every=1000)
        assert np.count_nonzero(store.dataset().status) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    store.commit()
    assert store.dataset().load().identical(truth)
    store.close()


# --- workers with large results


def large(shape=(5, 3), curve=1 << 16):
    return Layout(("lr", "seed"), shape, {}, {"loss": Array(), "path": Array(("save",), (curve,))}, "large")


def work(session, one, indices):
    """Execute runs of whole blocks and write them."""
    written = [write_block(session, one, [result(index, one)]) for index in indices]
    return session, written, os.getpid()


def test_workers_write_their_blocks(tmp_path):
    one = large()
    assert len(one.blocks) == one.size, "a block is one run"
    truth = filled(Memory(one), one, range(one.size)).dataset()
    store = filled(Store.open(tmp_path / "sweep.zarr", one), one, [4, 9])
    pending = store.pending().tolist()
    with ProcessPoolExecutor(2, mp_context=CONTEXT) as pool:
        jobs = [pool.submit(work, store.fork(), one, pending[start::4]) for start in range(4)]
        store.put(result(4, one))
        store.commit()  # the committer need not wait for its workers
        pids = set()
        for job in jobs:
            session, written, pid = job.result()
            store.merge(session, written)
            pids.add(pid)
    assert os.getpid() not in pids
    assert np.count_nonzero(store.dataset().status) == 2, "what workers wrote is visible after the commit"
    store.commit()
    assert store.dataset().load().identical(truth) and store.pending().size == 0
    store.tidy()
    assert store.dataset().load().identical(truth)
    store.close()


def test_what_workers_return_is_small():
    import pickle

    found = chunks.Written(0, {0: 1, 1: 2}, ((0, chunks.record(result(0, large()))),))
    assert len(pickle.dumps(found)) < 500


def test_workers_write_whole_blocks_alone(tmp_path):
    one = sweep()
    store = Store.open(tmp_path / "sweep.zarr", one)
    session = store.fork()
    with pytest.raises(ValueError, match="results must be the runs 20 to 39, which are one block, in order"):
        write_block(session, one, [result(index, one) for index in range(20, 39)])
    with pytest.raises(ValueError, match="loss of a run must have the shape"):
        write_block(session, one, [Result(index, 1, "", (np.zeros(2), np.zeros(30)), 0.0) for index in range(20, 40)])
    written = write_block(session, one, [result(index, one) for index in range(20, 40)])
    store.merge(session, [written])
    filled(store, one, [*range(20), *range(40, 280)]).close()
    assert store.dataset().load().identical(filled(Memory(one), one, range(one.size)).dataset())
