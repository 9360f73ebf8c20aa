"""Sweeps in an object store, as moto emulates one on this machine: not a test of a real one."""

import multiprocessing
import threading
import time
from collections import Counter

import numpy as np
import pytest
import xarray as xr
from made_sweeps import filled, layout, result

import saddlescope as sc
from saddlescope.sweeps import layout as layouts
from saddlescope.sweeps import lease
from saddlescope.sweeps.memory import Memory
from saddlescope.sweeps.store import Store

pytest.importorskip("icechunk")
pytest.importorskip("moto.server", reason="moto emulates the object store: pip install 'moto[server]'")

CONTEXT = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def endpoint():
    import boto3
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="sweeps")
    yield address
    running.stop()


@pytest.fixture(autouse=True)
def emulated(endpoint, monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK_RUNS", 20)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def address(request):
    return f"s3://sweeps/{request.node.name}"


@pytest.fixture
def truth():
    one = layout()
    return filled(Memory(one), one, range(one.size)).dataset()


def test_a_sweep_comes_back_from_an_object_store(address, truth):
    one = layout()
    store = filled(Store.open(address, one), one, range(100))
    store.close()
    assert np.count_nonzero(sc.load(address).status) == 100
    again = Store.open(address, one)
    filled(again, one, again.pending().tolist()).tidy()
    again.close()
    xr.testing.assert_identical(sc.load(address).load(), truth)
    other = Store.open(address, layout(identity="another"), overwrite=True)
    assert other.pending().size == one.size
    other.close()


@pytest.mark.parametrize("reduce", ["loss", lambda run: {"loss": run.loss[:, -1]}], ids=["pick", "function"])
def test_runs_are_swept_to_an_object_store_and_resumed(address, reduce, monkeypatch):
    problem = sc.Problem(sc.DeepLinear((2, 2)), sc.GaussianData(np.eye(2)), sc.init.Gaussian(scale=0.3))
    asked = ((problem, sc.GD(0.05), sc.Plan(steps=60, saves=1)), {"plan.seed": range(4)})
    here, there = (sc.sweep(*asked, reduce=reduce, out=out, progress=False) for out in (None, address))
    assert (here.status == 1).all()
    monkeypatch.setattr("saddlescope.sweeps.loop.batch", None)
    monkeypatch.setattr("saddlescope.sweeps.sweep.first", None)
    again = sc.sweep(*asked, reduce=reduce, out=address, progress=False)
    for one in (there, again, sc.load(address)):
        xr.testing.assert_equal(one.drop_vars("seconds").load(), here.drop_vars("seconds"))
    with pytest.raises(FileExistsError, match="holds another sweep"):
        sc.sweep(asked[0], {"plan.seed": [1]}, reduce=reduce, out=address, progress=False)


def test_addresses_in_words(address, monkeypatch):
    with pytest.raises(FileNotFoundError, match="does not exist; give the store that a sweep wrote"):
        sc.load(address)
    with pytest.raises(ValueError, match="must be s3://bucket/prefix"):
        sc.load("s3://sweeps")
    with pytest.raises(
        OSError, match=r"store 's3://nothing/sweep' could not be used \(.*check the disk or the network"
    ):
        Store.open("s3://nothing/sweep", layout())


def test_a_lease_keeps_others_out(address):
    store = Store.open(address, layout())
    with pytest.raises(BlockingIOError, match=r"is being written by process \d+ on .* its lease ends in [56]\d s"):
        Store.open(address, layout())
    store.close()
    Store.open(address, layout()).close()


def test_one_of_many_gets_the_lease(address):
    """Committers that begin at the same time, on a repository that does not exist yet."""
    found, start, stores = Counter(), threading.Barrier(6), []

    def begin():
        start.wait()
        try:
            stores.append(Store.open(address, layout()))
            found["got it"] += 1
        except BlockingIOError as error:
            found["refused" if "is being written by" in str(error) else str(error)] += 1
        except Exception as error:
            found[repr(error)] += 1

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"got it": 1, "refused": 5}
    stores[0].close()


def test_a_lease_is_renewed(address, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 3.0)
    store = Store.open(address, layout())
    time.sleep(4.0)
    with pytest.raises(BlockingIOError, match="is being written by"):
        Store.open(address, layout())
    store.close()


def test_a_lease_ends_and_whoever_held_it_cannot_commit(address, truth, monkeypatch):
    """The process that held it was suspended: its lease was not renewed, another has resumed the sweep."""
    one = layout()
    monkeypatch.setattr(lease, "SECONDS", 0.5)
    monkeypatch.setattr(lease.Lease, "keep", lambda self: None)
    suspended = filled(Store.open(address, one), one, range(40))
    time.sleep(0.6)
    heir = filled(Store.open(address, one), one, range(40, 60))
    suspended.put(result(40, one, version=1))
    with pytest.raises(BlockingIOError, match="was changed by another process meanwhile; run again to resume it"):
        suspended.commit()
    suspended.close()
    filled(heir, one, heir.pending().tolist()).close()
    xr.testing.assert_identical(sc.load(address).load(), truth)


def test_commits_compare_and_swap(address, monkeypatch):
    """Another process commits between the session and the commit of this one."""
    one = layout()
    store = filled(Store.open(address, one), one, range(20))
    session = store._session()
    store.put(result(30, one))
    store.commit()
    import zarr

    zarr.open_group(session.store, mode="r+").attrs["toml"] = "another"
    monkeypatch.setattr(store, "_session", lambda: session)
    store.put(result(31, one))
    with pytest.raises(BlockingIOError, match="was changed by another process meanwhile"):
        store.commit()
    store.close()
    assert np.count_nonzero(sc.load(address).status) == 21


def commit_some(address, acknowledged):
    layouts.BLOCK_RUNS = 20
    one = layout()
    store = Store.open(address, one)
    for count, index in enumerate(store.pending().tolist(), 1):
        store.put(result(index, one))
        if count % 20 == 0:
            store.commit()
            acknowledged.send(one.size - len(store.pending()))


def test_a_killed_committer_leaves_a_lease_that_ends(address, truth, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 2.0)
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=commit_some, args=(address, theirs))
    process.start()
    theirs.close()
    last = [ours.recv(), ours.recv()][-1]
    process.kill()
    process.join()
    one = layout()
    with pytest.raises(BlockingIOError, match="if it was killed, its lease ends in"):
        Store.open(address, one)
    later = time.time() + lease.SECONDS + 60.0
    monkeypatch.setattr(lease.time, "time", lambda: later)
    store = Store.open(address, one)
    assert one.size - len(store.pending()) >= last
    filled(store, one, store.pending().tolist()).close()
    xr.testing.assert_identical(sc.load(address).load(), truth)
