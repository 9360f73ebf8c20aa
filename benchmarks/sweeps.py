"""What a sweep costs beside its runs: ``python benchmarks/sweeps.py [works …]``.

Times are processor time of this process and its workers. A run is minimal: 4 trajectories, 100 steps, one save.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import saddlescope as sc
from saddlescope.sweeps.layout import Array, Layout, Result
from saddlescope.sweeps.store import Store

PROBLEM = sc.Problem(sc.DeepLinear((4, 4, 4)), sc.GaussianData(np.eye(4)), sc.init.Gaussian(scale=0.1))
RUN = PROBLEM, sc.SGD(lr=0.05, batch_size=8), sc.Plan(steps=100, trajectories=4, saves=1)
KEPT = {"loss": sc.Pick("loss", sel={"statistic": "mean"}, isel={"time": -1})}


def cpu() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def peak() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def taken(call: Callable[[], Any]) -> tuple[float, float]:
    """Processor time and time of a call."""
    began, used = time.perf_counter(), cpu()
    call()
    return cpu() - used, time.perf_counter() - began


def swept(runs: int, client: Any) -> None:
    """A sweep of minimal runs."""
    sc.sweep(RUN, {"plan.seed": range(runs)}, reduce=KEPT, client=client, progress=False)


def fixed() -> None:
    """Fixed cost of a run, alone and in a sweep."""
    from saddlescope.simulation.measured import measured

    for name, call in (
        ("simulate", lambda: sc.simulate(*RUN, progress=False)),
        ("measured", lambda: measured(*RUN)),
    ):
        call()
        times = [taken(call)[0] for _ in range(200)]
        print(f"| a minimal run, {name} | {1e3 * statistics.median(times):.2f} ms |", flush=True)
    swept(50, None)
    used, _ = taken(lambda: swept(2000, None))
    print(f"| a minimal run in a sweep, in this process | {used / 2:.2f} ms |", flush=True)


def executors(runs: int = 4000) -> None:
    """Processor time a run on each executor; the start of workers is taken off by a short sweep."""
    import distributed

    for name in ("this process", "2 processes"):
        client = None if name == "this process" else 2
        short, _ = taken(lambda client=client: swept(100, client))
        long, wall = taken(lambda client=client: swept(runs, client))
        each = 1e3 * (long - short) / (runs - 100)
        print(f"| {name} | {each:.2f} ms a run, {wall:.1f} s |", flush=True)
    before = peak()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        swept(100, client)
        used = client.run(time.process_time)
        own, wall = taken(lambda: swept(runs, client))
        workers = sum(later - used[key] for key, later in client.run(time.process_time).items())
        print(f"| Dask, workers | {1e3 * workers / runs:.2f} ms a run, {wall:.1f} s |")
        print(f"| Dask, client and scheduler | {1e3 * own / runs:.3f} ms a run |", flush=True)
    print(f"| the client grows by | {peak() - before:.0f} MB |", flush=True)


def stores(runs: int = 100_000) -> None:
    """Time of a store beside the runs: 29 numbers a run, as one array and as 29 arrays."""
    for what, arrays in (
        ("one array", {"v": Array(("k",), (29,))}),
        ("29 arrays", {f"v{k}": Array() for k in range(29)}),
    ):
        store(what, runs, arrays)


def store(what: str, runs: int, arrays: dict[str, Array]) -> None:
    """Write, open and read."""
    folder = Path(tempfile.mkdtemp())
    place = folder / "sweep"
    kept = Store.open(place, Layout(("a", "b"), (runs // 1000, 1000), {}, arrays, "benchmark"))
    values = np.random.default_rng(0).normal(size=(runs, 29))

    def write() -> None:
        for index in range(runs):
            row = values[index]
            kept.put(Result(index, 1, "", (row,) if len(arrays) == 1 else tuple(row), 0.1))
            if index % 1000 == 999:
                kept.commit()

    used, wall = taken(write)
    kept.tidy()
    kept.close()
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    print(
        f"| {what}: {runs:,} runs | {1e3 * used / runs:.3f} ms, {1e3 * wall / runs:.3f} ms wall, {size / 1e6:.0f} MB |"
    )
    sc.load(place)
    opened = statistics.median(taken(lambda: sc.load(place))[1] for _ in range(5))
    read = statistics.median(taken(lambda: sc.load(place).load())[1] for _ in range(3))
    print(f"| {what}: opened, read and verified | {1e3 * opened:.0f} ms, {read:.2f} s |", flush=True)
    shutil.rmtree(folder)


WORKS = {"fixed": fixed, "executors": executors, "stores": stores}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sweeps.")
    parser.add_argument("works", nargs="*", default=list(WORKS), help=", ".join(WORKS))
    works = parser.parse_args().works
    if len(works) == 1:
        os.environ |= {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
        return WORKS[works[0]]()
    print("| what | measured |\n|---|---|", flush=True)
    for work in works:
        subprocess.run([sys.executable, __file__, work], check=True)
    return None


if __name__ == "__main__":
    main()
