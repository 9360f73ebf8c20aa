"""Runs of every kind in stores of many small chunks, and what can happen to a store."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope import _zarr, cli
from saddlescope.runs.run import record
from saddlescope.runs.variables import EVENTS
from support import PROBLEMS, dataset, on_save

SMALL_CHUNKS = 200
"""Bytes of a chunk, so that every array has several."""


def _on(data, network, init=None) -> sc.Problem:
    return sc.Problem(network, data, init or sc.init.Gaussian(scale=0.3))


_TWO, _FEW, _MANY, _CHAIN = sc.DeepLinear((3, 4, 2)), dataset(24, 3, 2), dataset(500, 3, 2, seed=5), dataset(30, 1, 1)
_WIDE = sc.DeepLinear((40, 30, 3)), sc.GaussianData.from_spectrum([2.0], 40, 3)
_GIVEN = sc.init.Given([np.full((30, 40), 0.1), np.full((3, 30), 0.1)])
_MOMENTS = sc.Moments(2, 2, 3, 1, 1)

RUNS = {
    "statistics": (PROBLEMS["wide"], sc.SGD(0.05, 2), {"events": ("learning_time", "noise_peak")}),
    "trajectories": (PROBLEMS["coloured"], sc.Langevin(0.05, 4), {"keep": "trajectories"}),
    "weights": (PROBLEMS["deep"], sc.GD(0.05), {"keep": "weights"}),
    "float32": (PROBLEMS["wide"], sc.SGD(0.05, 1), {"dtype": "float32", "keep": "weights"}),
    "flow": (PROBLEMS["wide"], sc.GradientFlow(0.05), {"keep": "trajectories"}),
    "accumulate": (PROBLEMS["thin"], sc.SGD(0.05, 2), {"accumulate": sc.Accumulate(-1.0, 3.0)}),
    "data set": (_on(_FEW, _TWO), sc.SGD(0.02, 4, sampling="without"), {"keep": "trajectories"}),
    "large data set": (_on(_MANY, _TWO), sc.SGD(0.02, 8, sampling="shuffle"), {}),
    "large weights": (_on(_WIDE[1], _WIDE[0], _GIVEN), sc.SGD(0.01, 2), {}),
    "diagonal": (_on(_CHAIN, sc.Diagonal(2, 3)), sc.SGD(0.02, 2), {"keep": "weights"}),
    "diagonal, Langevin": (_on(_MOMENTS, sc.Diagonal(3, 2)), sc.Langevin(0.02, 4), {"keep": "trajectories"}),
}
"""Problem, method, and what is special in the plan."""

_PLAN = {"trajectories": 4, "threads": 1}


def plan(name: str, steps: int = 60, saves: int = 12) -> sc.Plan:
    """Its plan; the saves of flow are listed."""
    chosen = {"save_at": tuple(range(0, steps, max(1, steps // saves)))} if name == "flow" else {"saves": saves}
    return sc.Plan(steps=steps, **_PLAN, **chosen, **RUNS[name][2])


# --- a finished run, the same run when it was half done, and the same run of another seed


@dataclass(frozen=True)
class Stages:
    """Three stores, and what the first two hold."""

    finished: Path
    half: Path
    other: Path
    truths: tuple[xr.Dataset, xr.Dataset]


def stages(name: str, folder: Path, monkeypatch) -> Stages:
    """Make them."""
    problem, method, _ = RUNS[name]
    folder.mkdir()
    finished, half, other = (folder / f"{stage}.zarr" for stage in ("run", "half", "other"))
    with monkeypatch.context() as patch:
        patch.setattr(_zarr, "CHUNK_BYTES", SMALL_CHUNKS)
        seen = []

        def recording(*args):
            seen.append(None)
            if len(seen) == 5:
                signal.raise_signal(signal.SIGINT)
            return record(*args)

        with patch.context() as inner:
            on_save(recording, inner.setattr)
            try:
                sc.simulate(problem, method, plan(name), out=finished)
            except KeyboardInterrupt:
                shutil.copytree(finished, half)
        sc.simulate(problem, method, plan(name), out=finished)
        sc.simulate(problem, method, sc.Plan(**{**_fields(plan(name)), "seed": 9}), out=other)
    return Stages(finished, half, other, (sc.load(finished).load(), sc.load(half).load()))


def _fields(plan: sc.Plan) -> dict:
    return {name: getattr(plan, name) for name in type(plan).__dataclass_fields__}


# --- damage


def files(store: Path) -> list[Path]:
    return sorted(entry for entry in store.rglob("*") if entry.is_file())


def used(store: Path) -> list[Path]:
    """Files that hold what is used: events are stored for other readers only."""
    return [file for file in files(store) if file.relative_to(store).parts[0] not in EVENTS]


def chunks(store: Path) -> list[Path]:
    return [file for file in used(store) if file.name != _zarr.METADATA]


def _flip(rng, store, stages):
    file = rng.choice(used(store))
    data = bytearray(file.read_bytes())
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    file.write_bytes(data)


def _zeros(rng, store, stages):
    file = rng.choice(used(store))
    data = bytearray(file.read_bytes())
    start = int(rng.integers(len(data)))
    data[start : start + 16] = bytes(len(data[start : start + 16]))
    file.write_bytes(data)


def _truncate(rng, store, stages):
    file = rng.choice(used(store))
    data = file.read_bytes()
    file.write_bytes(data[: rng.integers(len(data))])


def _append(rng, store, stages):
    file = rng.choice(used(store))
    file.write_bytes(file.read_bytes() + rng.bytes(3))


def _delete(rng, store, stages):
    rng.choice(used(store)).unlink()


def _delete_folder(rng, store, stages):
    shutil.rmtree(rng.choice(sorted({file.parent for file in used(store)} - {store})))


def _edit(rng, store, stages):
    """Another number somewhere in the metadata, valid JSON."""
    file = rng.choice([file for file in used(store) if file.name == _zarr.METADATA])
    text = file.read_text()
    digits = [place for place, letter in enumerate(text) if letter.isdigit()]
    place = int(rng.choice(digits))
    file.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


def _edit_toml(rng, store, stages):
    file = store / _zarr.METADATA
    metadata = json.loads(file.read_text())
    metadata["attributes"]["toml"] = metadata["attributes"]["toml"].replace("seed = 0", "seed = 1")
    file.write_text(json.dumps(metadata, indent=2))


def _exchange(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _swap(rng, store, stages):
    _exchange(*rng.choice(chunks(store), 2, replace=False))


def _swap_within(rng, store, stages):
    groups: dict[str, list[Path]] = {}
    for file in chunks(store):
        groups.setdefault(file.relative_to(store).parts[0], []).append(file)
    several = [group for group in groups.values() if len(group) > 1]
    _exchange(*rng.choice(several[rng.integers(len(several))], 2, replace=False))


def _older(rng, store, stages):
    """A chunk, or the checkpoint, from when the run was half done, where that is another one."""
    shared = [file.relative_to(stages.half) for file in chunks(stages.half)]
    file = rng.choice([file for file in shared if (store / file).read_bytes() != (stages.half / file).read_bytes()])
    shutil.copy(stages.half / file, store / file)


def _newer(rng, store, stages):
    file = rng.choice([file.relative_to(stages.finished) for file in chunks(stages.finished)])
    (store / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(stages.finished / file, store / file)


def _foreign(rng, store, stages):
    file = rng.choice([file.relative_to(store) for file in used(store)])
    shutil.copy(stages.other / file, store / file)


def _folder(rng, store, stages):
    file = rng.choice(used(store))
    file.unlink()
    file.mkdir()


DAMAGES = {
    name.strip("_").replace("_", " "): act
    for name, act in list(globals().items())
    if name
    in (
        *("_flip", "_zeros", "_truncate", "_append", "_delete", "_delete_folder", "_edit", "_edit_toml"),
        *("_swap", "_swap_within", "_older", "_newer", "_foreign", "_folder"),
    )
}


# --- what comes of it


def outcome(use, truths) -> str:
    """ "refused" in one sentence, "right" where nothing that was used is lost, else what is wrong."""
    try:
        run = use()
    except (ValueError, OSError) as error:
        sentence = str(error)
        return "refused" if ".zarr'" in sentence and "\n" not in sentence else f"unclear: {error!r}"
    except Exception as error:
        return f"raw: {error!r}"
    for truth in truths:
        try:
            xr.testing.assert_identical(run.drop_attrs(deep=False), truth.drop_attrs(deep=False))
        except AssertionError:
            continue
        if all(run.attrs[name] == truth.attrs[name] for name in truth.attrs if name not in ("toml", "created_at")):
            return "right"
    return "silently wrong"


def damaged(name: str, kind: str, seed: int, stages: Stages, folder: Path) -> Counter[str]:
    """One damage: what comes of loading it, of reading it when it was open, of ``info``, and of writing it again."""
    rng, found = np.random.default_rng(seed), Counter[str]()
    half = kind != "older" and (kind == "newer" or rng.integers(2) == 0)
    store, truths = folder / "run.zarr", stages.truths
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(stages.half if half else stages.finished, store)
    before = sc.load(store)
    DAMAGES[kind](rng, store, stages)
    loaded = outcome(lambda: sc.load(store).load(), truths)
    found.update([loaded, outcome(before.load, truths)])
    answer = CliRunner().invoke(cli.app, ["info", str(store)])
    told = answer.exit_code == 2 and answer.stderr.startswith("error: ") and answer.stderr.count("\n") == 1
    found["refused" if told else loaded if answer.exit_code == 0 else f"raw: {answer.exception!r}"] += 1
    if loaded == "refused" and not told:
        found["info does not tell"] += 1
    problem, method, _ = RUNS[name]
    again = half or kind != "older"
    if half:
        found[outcome(lambda: sc.simulate(problem, method, plan(name), out=store).load(), truths[:1])] += 1
    if again and rng.integers(4) == 0:
        found[outcome(lambda: sc.simulate(problem, method, plan(name), out=store, overwrite=True).load(), truths)] += 1
    return found
