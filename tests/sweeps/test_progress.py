"""Reports of a sweep: a line a minute without a terminal, the rate of this call alone, the dashboard."""

import itertools

import pytest

from saddlescope.sweeps import progress as module
from saddlescope.sweeps.progress import progress


@pytest.fixture
def at(monkeypatch):
    """A clock that ticks half a minute at every look, and no terminal."""
    monkeypatch.setattr(module, "perhaps_terminal", lambda: False)
    return itertools.count(0.0, 30.0).__next__


def test_a_line_a_minute(at, capsys):
    with progress(1000, 200, True, "http://localhost:8787/status", at) as show:
        for done in (300, 400, 500, 600):
            show(done, 7)
    assert capsys.readouterr().err.splitlines() == [
        "dashboard: http://localhost:8787/status",
        "400 of 1,000 runs, 7 raised; 3.33 a second, about 3 min left",
        "600 of 1,000 runs, 7 raised; 3.33 a second, about 2 min left",
    ]


def test_nothing_where_it_is_not_wanted(at, capsys):
    with progress(1000, 0, False, "http://localhost:8787/status", at) as show:
        show(999, 1)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(module, "perhaps_terminal", lambda: True)
    with progress(10, 2, True) as show:
        show(6, 0)
    assert "6 of 10 runs" in capsys.readouterr().err
