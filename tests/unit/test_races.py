"""Several writers on one store: one wins, the others get an error, and exactly one complete run remains."""

from collections import Counter

import pytest
import xarray as xr

import processes
import saddlescope as sc
import stores

NAME = "statistics"


@pytest.fixture(scope="module")
def truth():
    problem, method, _ = stores.RUNS[NAME]
    return sc.simulate(problem, method, stores.plan(NAME))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return stores.stages(NAME, tmp_path_factory.mktemp("made") / "stages", patch)


def prepared(kind: str, folder, made, writers: int):
    """A folder before a race, the paths of the writers, and whether they overwrite."""
    folder.mkdir()
    path = folder / "run.zarr"
    if kind == "empty folder":
        path.mkdir()
    if kind == "resumed":
        stores.shutil.copytree(made.half, path)
    if kind == "overwritten":
        stores.shutil.copytree(made.other, path)
    if kind == "through links":
        (folder / "link").symlink_to("run.zarr")
        return [path if number % 2 else folder / "link" for number in range(writers)], False
    return [path] * writers, kind == "overwritten"


def judged(kind: str, folder, found: Counter, truth) -> None:
    assert found["won"] == 1 and found["won"] + found["refused"] == found.total(), (kind, found)
    assert {entry.name for entry in folder.iterdir()} == {"run.zarr"} | ({"link"} if kind == "through links" else set())
    run = sc.load(folder / "run.zarr").load()
    assert run.attrs["complete"]
    xr.testing.assert_identical(run.drop_attrs(deep=False), truth.drop_attrs(deep=False))
    assert all(".saddlescope" not in file.name for file in stores.files(folder / "run.zarr"))


KINDS = ["new", "empty folder", "resumed", "overwritten", "through links"]


@pytest.mark.parametrize("writers", [2, 4])
def test_one_process_wins(tmp_path, made, truth, writers):
    for number, kind in enumerate(KINDS[writers // 2 - 1 :: 2]):
        paths, overwrite = prepared(kind, tmp_path / str(number), made, writers)
        judged(kind, tmp_path / str(number), processes.race(NAME, paths, overwrite), truth)


def test_one_thread_wins(tmp_path, made, truth, monkeypatch):
    for number, kind in enumerate(KINDS):
        paths, overwrite = prepared(kind, tmp_path / str(number), made, 2 + number % 2 * 2)
        judged(kind, tmp_path / str(number), processes.race_of_threads(NAME, paths, overwrite, monkeypatch), truth)


@pytest.mark.soak
@pytest.mark.parametrize("writers", [2, 4])
def test_one_wins_in_100(tmp_path, made, truth, monkeypatch, capsys, writers):
    found = {"processes": Counter(), "threads": Counter()}
    for number in range(100):
        kind, folder = KINDS[number % len(KINDS)], tmp_path / str(number)
        paths, overwrite = prepared(kind, folder, made, writers)
        who = "threads" if number % 4 == 3 else "processes"
        if who == "threads":
            got = processes.race_of_threads(NAME, paths, overwrite, monkeypatch)
        else:
            got = processes.race(NAME, paths, overwrite)
        judged(kind, folder, got, truth)
        found[who] += got
    with capsys.disabled():
        print(f"\n100 races of {writers}: {found}")
