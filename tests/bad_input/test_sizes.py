"""Requests beyond the available memory are refused from their sizes, before anything is allocated."""

import io
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import saddlescope as sc
from saddlescope import _memory
from saddlescope.engines.state import start
from saddlescope.engines.step import decode
from saddlescope.simulation import estimate
from support import METHODS, PROBLEMS, dataset

GB = 10**9
ALLOWED = 20 << 20
"""Bytes that a refusal may take."""


@pytest.fixture(autouse=True)
def a_small_machine(monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 2 * GB)


def refused(act, *words):
    """The call ends in one sentence, with little memory taken."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            act()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert peak < ALLOWED, (peak, message)
    assert "\n" not in message and "available 2 GB" in message, message
    for word in words:
        assert word in message, message


def run(widths=(2, 3, 2), plan=None, method=None, **change):
    data = sc.GaussianData(np.eye(widths[-1], widths[0]))
    problem = sc.Problem(sc.DeepLinear(widths), data, sc.init.Gaussian(scale=0.1))
    plan = sc.Plan(**{"steps": 10, "threads": 2} | (plan or {}))
    return sc.simulate(problem, method or sc.SGD(lr=0.1, batch_size=2), plan, **change)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"widths": (5, 10_000, 4)}, ("6.43 GB", "widths (now at most 10,000)")),
        ({"widths": (5, 10**6, 4)}, ("widths (now at most 1,000,000)",)),
        ({"widths": (2, 10**6, 10**6, 2)}, ("TB",)),
        ({"widths": (2, 2**31 - 1, 2)}, ("widths",)),
        ({"plan": {"trajectories": 10**9}}, ("lower trajectories",)),
        ({"plan": {"trajectories": 2**53 - 1}}, ("lower trajectories",)),
        ({"plan": {"steps": 10**9, "saves": 10**8}}, ("lower saves", "100,000,001")),
        ({"plan": {"steps": 2**53 - 1, "saves": 2**53 - 1}}, ("lower saves",)),
        ({"plan": {"steps": 10**9, "saves": sc.logspaced(10**9)}}, ("lower saves",)),
        ({"plan": {"trajectories": 10**5, "saves": 10**4, "steps": 10**4, "keep": "weights"}}, ("GB", "saves")),
    ],
)
def test_runs(arguments, words, engine):
    if engine == "reference" and "widths" in arguments:
        words = ("available",)
        arguments = arguments | {"plan": {"trajectories": 4}}
    refused(lambda: run(**arguments, engine=engine), "the run needs", *words)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: sc.Accumulate(low=0.0, high=1.0, bins=10**9), ("bins = 1,000,000,000", "40 GB")),
        (lambda: sc.GaussianData.from_spectrum([1.0], 20_000, 2), ("dim_in = 20000", "25.6 GB")),
        (lambda: sc.GaussianData.from_spectrum([1.0], 2, 10**6), ("dim_out = 1000000",)),
        (lambda: sc.GaussianData(np.zeros((1, 20_000))), ("teacher of shape (1, 20000)", "25.6 GB")),
        (lambda: sc.Dataset(np.ones((1, 20_000)), [[1.0]]), ("X (1, 20000)",)),
        (lambda: sc.Plan(steps=10**9, saves=10**8).save_steps, ("100,000,001 saves", "4 GB")),
    ],
)
def test_parts(act, words):
    refused(act, *words)


def packed(path, members, **how):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content, **how)
    return path


def npy(shape, content=b""):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    return buffer.getvalue() + content


def test_an_archive_that_unpacks_to_more_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 90 << 20)
    path = packed(tmp_path / "bomb.npz", {"X": npy((10**7, 1), bytes(80 * 10**6)), "Y": npy((1, 1), bytes(8))})
    assert path.stat().st_size < 10**6
    with pytest.raises(ValueError, match=r"bomb.npz' needs 160 MB of memory, available 94.4 MB"):
        sc.Dataset.load(path)


@pytest.mark.parametrize("shape", [(10**15, 1), (2**62, 2), (3, 10**9), (2,)])
def test_a_header_that_speaks_of_more_than_there_is(shape, tmp_path):
    path = packed(tmp_path / "a.npz", {"X": npy(shape, bytes(8)), "Y": npy((1, 1), bytes(8))})
    with pytest.raises(ValueError, match=r"is not an .npz of numeric arrays"):
        sc.Dataset.load(path)


def test_a_table_of_a_million_columns(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(["x"] * 50_000 + ["y"]) + "\n")
    with pytest.raises(ValueError, match=r"wide.csv' with 50,000 inputs or labels needs 160 GB of memory"):
        sc.Dataset.load(path)


DAMAGED = {
    "empty": b"",
    "text": b"x1,y1\n1,2\n",
    "zeros": bytes(1000),
    "an array": npy((1, 1), bytes(8)),
}


def whole(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", X=np.random.default_rng(0).standard_normal((40, 3)), Y=np.ones((40, 1)))
    return (tmp_path / "a.npz").read_bytes()


@pytest.mark.parametrize("name", DAMAGED)
def test_files_that_are_no_archive(name, tmp_path):
    (tmp_path / "a.npz").write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match=r"is not an .npz of numeric arrays; create it with"):
        sc.Dataset.load(tmp_path / "a.npz")


def test_an_archive_damaged_anywhere_gives_its_data_or_one_sentence(tmp_path):
    content = whole(tmp_path)
    expected = sc.Dataset.load(tmp_path / "a.npz")
    for place in range(0, len(content), 7):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
            (tmp_path / "a.npz").write_bytes(damaged)
            try:
                assert sc.Dataset.load(tmp_path / "a.npz") == expected
            except ValueError as error:
                assert "\n" not in str(error)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    whole(tmp_path)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", denied)
    with pytest.raises(PermissionError, match=r"a.npz' may not be read; change its permissions"):
        sc.Dataset.load(tmp_path / "a.npz")


ACCUMULATE = sc.Accumulate(0.0, 1.0, bins=7, levels=3)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        (sc.SGD(0.1, 2), {"accumulate": ACCUMULATE}),
        (sc.SGD(0.1, 2), {"dtype": "float32"}),
        (sc.Langevin(0.1, 2), {"events": ("noise_peak",)}),
        (sc.GradientFlow(0.1), {}),
    ],
)
@pytest.mark.parametrize("name", ["wide", "regression", "bottleneck"])
def test_a_checkpoint_is_as_large_as_it_was_counted(name, method, change):
    plan = sc.Plan(steps=10, trajectories=6, saves=3, **change)
    state = start(PROBLEMS[name], decode(PROBLEMS[name], method, plan), plan)
    arrays = [*state.weights, *(value for value in vars(state).values() if isinstance(value, np.ndarray))]
    assert estimate.size(PROBLEMS[name], method, plan).checkpoint == sum(array.nbytes for array in arrays)


def test_a_checkpoint_of_a_data_set_with_an_order():
    problem = sc.Problem(sc.DeepLinear((3, 2)), dataset(9, 3, 2), sc.init.Gaussian(scale=0.1))
    plan = sc.Plan(steps=10, trajectories=4)
    state = start(problem, decode(problem, sc.SGD(0.1, 3, "shuffle"), plan), plan)
    arrays = [*state.weights, *(value for value in vars(state).values() if isinstance(value, np.ndarray))]
    assert estimate.size(problem, sc.SGD(0.1, 3, "shuffle"), plan).checkpoint == sum(array.nbytes for array in arrays)


@pytest.mark.parametrize("keep", ["statistics", "trajectories", "weights"])
def test_saves_are_as_large_as_they_were_counted(keep):
    plan = sc.Plan(steps=30, trajectories=5, saves=6, keep=keep)
    made = sc.simulate(PROBLEMS["wide"], METHODS["gd"], plan)
    kept = sum(made[name].nbytes for name in made.data_vars if "time" in made[name].dims)
    assert estimate.size(PROBLEMS["wide"], METHODS["gd"], plan).saves == kept


@pytest.mark.parametrize("saves", [1, 3, 10, 11, 100, 10**15, sc.logspaced(1), sc.logspaced(5), sc.logspaced(10**15)])
def test_saves_are_never_more_than_counted(saves):
    plan = sc.Plan(steps=10, saves=saves)
    assert len(plan.save_steps) <= plan.most_saves
    if saves == 10**15 or saves == sc.logspaced(10**15):
        assert plan.save_steps.tolist() == list(range(11))
    listed = replace(plan, saves=1, save_at=(0, 3))
    assert listed.most_saves == len(listed.save_steps) == 2
