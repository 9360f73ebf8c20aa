"""Peak rates of this machine and the memory of the engine, for comparison with all other numbers."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import saddlescope._kernel as _kernel
from saddlescope.bench.arms import CORES, OURS, PEERS, Arm, Runner
from saddlescope.bench.settings import network

Rates = dict[str, dict[str, float]]

RATES = {
    "float32": (_kernel.multiply_add_rate_float32, _kernel.normal_rate_float32),
    "float64": (_kernel.multiply_add_rate_float64, _kernel.normal_rate_float64),
}


def machine() -> dict[str, Any]:
    """The machine and the versions of the contestants."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": CORES,
        "instruction_set": _kernel.instruction_sets()[0],
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (OURS, *sorted(PEERS))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def rates(milliseconds: float = 30.0) -> Rates:
    """Current rates: multiply-adds in GFLOP/s of one thread and of all cores, normals per second of one thread.

    >>> rates(milliseconds=1.0)["float32"]["normals_per_second"] > 0
    True
    """
    return {
        dtype: {
            "gflops_one_thread": 2 * multiply_adds(milliseconds),
            "gflops": 2 * _together(multiply_adds, milliseconds),
            "normals_per_second": 1e9 * normals(milliseconds),
        }
        for dtype, (multiply_adds, normals) in RATES.items()
    }


def summary(rounds: Sequence[Rates]) -> dict[str, dict[str, list[float]]]:
    """Median, lowest and highest of all rounds, for each rate.

    >>> summary([{"float32": {"gflops": rate}} for rate in (3.0, 1.0, 2.0)])
    {'float32': {'gflops': [2.0, 1.0, 3.0]}}
    """
    found: dict[str, dict[str, list[float]]] = {}
    for dtype, table in rounds[0].items() if rounds else ():
        each = {name: [one[dtype][name] for one in rounds] for name in table}
        found[dtype] = {name: [statistics.median(v), min(v), max(v)] for name, v in each.items()}
    return found


def _together(rate: Any, milliseconds: float) -> float:
    with ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(rate, [milliseconds] * CORES))


def memory() -> list[dict[str, int]]:
    """Bytes that W1 allocates: as a baseline, for ten times the steps, and for twice the trajectories."""
    base = Arm(OURS, OURS, "langevin", 16_384, block=10)
    return [_memory(arm) for arm in (base, replace(base, block=100), replace(base, trajectories=32_768))]


def _memory(arm: Arm) -> dict[str, int]:
    runner = Runner(arm, network(10, 1))
    try:
        runner.start()
        runner.check()
        runner.run(arm.block)
    finally:
        runner.close()
    return {"trajectories": arm.trajectories, "steps": arm.block, "bytes": runner.work_memory}
