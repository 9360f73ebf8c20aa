"""Claims judged by other processes: the same report, resumed, with one sentence where workers are lost."""

import json
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from saddlescope.claims import reproduce as module
from saddlescope.claims.reproduce import KEPT, reproduce


def without_times(folder):
    record = json.loads((folder / "report.json").read_text())
    for claim in record["claims"]:
        del claim["seconds"]
    return record


def names():
    return list(module.select())[:2]


def test_processes_write_the_report_of_this_process(tmp_path):
    chosen = names()
    assert reproduce(chosen, quick=True, out=tmp_path / "here", progress=False) == 0
    assert reproduce(chosen, quick=True, out=tmp_path / "there", progress=False, client=2) == 0
    assert without_times(tmp_path / "here") == without_times(tmp_path / "there")
    figures = sorted(path.name for path in (tmp_path / "here" / "figures").iterdir())
    assert figures == sorted(path.name for path in (tmp_path / "there" / "figures").iterdir()) and figures


class Dying:
    """A pool that breaks after its first answer."""

    def __init__(self):
        self.pool, self.count = ThreadPoolExecutor(1), 0

    def submit(self, function, *arguments):
        self.count += 1
        if self.count == 1:
            return self.pool.submit(function, *arguments)
        broken = Future()
        broken.set_exception(RuntimeError("a process died"))
        return broken


def test_what_is_judged_is_kept_when_workers_are_lost(tmp_path):
    chosen = names()
    with pytest.raises(
        RuntimeError, match=r"was not judged: RuntimeError: a process died; run the same again to resume"
    ):
        reproduce(chosen, quick=True, out=tmp_path, progress=False, client=Dying())
    assert len(list((tmp_path / KEPT).glob("*.json"))) <= 1
    assert reproduce(chosen, quick=True, out=tmp_path, progress=False) == 0
