"""Alerts: when they fire, what they say, and that no condition stops training unless it is told to."""

import math

import pytest

torch = pytest.importorskip("torch")

from saddlescope.monitor.alerts import Alert, Alerts, above, below, falls_below, flagged, rises_above  # noqa: E402
from saddlescope.monitor.record import Record  # noqa: E402


def watched(*conditions, action=None, strict=False):
    """Alerts with an action that keeps what it was given."""
    events, got = [], []
    alerts = Alerts(lambda step, numbers: events.append((step, numbers)), strict)
    for condition in conditions:
        alerts.when(condition, action or got.append)
    return alerts, got, events


def go(alerts, *rows, start=0):
    """Check records with these values in turn; the steps at which something fired."""
    fired = []
    for step, row in enumerate(rows, start):
        values = {name: {k: torch.tensor(x) for k, x in by_key.items()} for name, by_key in row.items()}
        fired += [alert.step for alert in alerts.check(Record(step, 8, None, values))]
    return fired


def ranks(*numbers, key="fc"):
    return [{"effective_rank_high": {key: x}} for x in numbers]


def test_fires_once_per_crossing_and_again_after_it_was_false():
    for condition in (
        falls_below("effective_rank_high", 0.5),
        lambda now, start: now["effective_rank_high"]["fc"] < 0.5 * start["effective_rank_high"]["fc"],
    ):
        alerts, got, _ = watched(condition)
        assert go(alerts, *ranks(8.0, 5.0, 3.9, 3.0, 4.5, 3.9)) == [2, 5]
        assert [alert.step for alert in got] == [2, 5] == [alert.step for alert in alerts.fired]
        assert got[0].numbers == {"rank/effective_rank_high/fc": pytest.approx(3.9)}
        assert got[0].start == {"rank/effective_rank_high/fc": 8.0}
        assert got[0].message.endswith(": rank/effective_rank_high/fc = 3.9 (start 8)")
    assert got[0].message.startswith("step 2: test_alerts.py:")


def test_every_further_number_fires_by_itself():
    alerts, got, _ = watched(below("effective_rank_high", 2.0))
    rows = [{"effective_rank_high": {"a": a, "b": b}} for a, b in [(3.0, 3.0), (1.0, 3.0), (1.0, 1.0), (1.0, 3.0)]]
    assert go(alerts, *rows) == [1, 2]
    assert [list(alert.numbers) for alert in got] == [["rank/effective_rank_high/a"], ["rank/effective_rank_high/b"]]
    alerts, got, _ = watched(below("effective_rank_high", 2.0, "b*"))
    assert go(alerts, *rows) == [2]


def test_ready_conditions():
    scale = [{"noise_scale": {"": x}} for x in (math.nan, 2.0, 30.0, math.nan, -1.0)]
    assert go(watched(above("noise_scale", 20))[0], *scale) == [2]
    assert go(watched(rises_above("noise_scale", 10))[0], *scale) == [2], "the start is the first finite number"
    assert go(watched(below("noise_scale", 0))[0], *scale) == [4]
    assert go(watched(falls_below("noise_scale", 0.5))[0], *[{"noise_scale": {"": -x}} for x in (1.0, 2.0)]) == []
    assert go(watched(flagged())[0], {"status": {"fc": 0}}, {"status": {"fc": 9}}) == [1]
    variances = [{"mode_variance": {"fc": [2.0, x]}} for x in (1.0, 9.0)]
    alerts, got, _ = watched(above("mode_variance", 5.0))
    assert go(alerts, *variances) == [1] and got[0].numbers == {"modes/mode_variance/fc/1": 9.0}
    assert go(watched(lambda now: now["mode_variance"]["fc"][1] > 5)[0], *variances) == [1]
    assert str(falls_below("trace", 0.5, "fc.*")) == "trace of fc.* falls below 0.5 of its start"


def test_words_log_and_stop(caplog):
    alerts, _, events = watched(above("noise_scale", 1), action="log")
    go(alerts, {"noise_scale": {"": 2.0}})
    assert events == [(0, {"alert/noise_scale above 1": 1.0})] and not alerts.should_stop
    assert caplog.messages == ["step 0: noise_scale above 1: noise/noise_scale = 2 (start 2)"]
    alerts, _, events = watched(above("noise_scale", 1), action="stop")
    go(alerts, {"noise_scale": {"": 0.5}})
    assert not alerts.should_stop
    go(alerts, {"noise_scale": {"": 2.0}})
    assert alerts.should_stop and len(events) == 1
    assert isinstance(alerts.fired[0], Alert)


def test_a_raising_condition_or_action_is_left_out_and_the_others_go_on():
    for condition, action, text in (
        (
            lambda now: now["effective_rank_hihg"]["fc"] < 1,
            print,
            r"raised KeyError: no variable 'effective_rank_hihg' \(did you mean 'effective_rank_high'\?\)",
        ),
        (
            lambda now: now["effective_rank_high"] < 3,
            print,
            r'raised TypeError: effective_rank_high has a number for every weight: write now\["effective_rank_high"\]'
            r'\["fc"\], or a ready condition such as below\("effective_rank_high", limit\)',
        ),
        (lambda now, start: 10 * start["effective_rank_high"] > 1, print, "raised TypeError: effective_rank_high has"),
        (lambda now: now.lr > 1, print, r'reads numbers as now\["noise_scale"\] or .*, got now.lr'),
        (lambda now: now["effective_rank_high"]["fv"] < 1, print, "raised KeyError: effective_rank_high has no 'fv'"),
        (lambda now: 1 / 0, print, "the condition of 'test_alerts.*' raised ZeroDivisionError"),
        (lambda now: True, lambda alert: 1 / 0, "the action of 'test_alerts.*' raised ZeroDivisionError: division"),
    ):
        alerts, got, _ = watched(below("effective_rank_high", 2.0))
        alerts.when(condition, action)
        with pytest.warns(UserWarning, match=text) as warned:
            assert go(alerts, *ranks(3.0, 1.0))[-1] == 1
        assert len(warned) == 1 and len(got) == 1
        strict, _, _ = watched(strict=True)
        strict.when(condition, action)
        with pytest.raises((KeyError, ZeroDivisionError, TypeError, AttributeError)):
            go(strict, *ranks(3.0))


def test_a_record_without_the_number_is_not_judged():
    alerts, _, _ = watched(below("effective_rank_high", 2.0), lambda now: not now["noise_scale"] > 5)
    rows = [{}, *ranks(1.0), {}, *ranks(1.0), {"noise_scale": {"": 9.0}}, {}, {"noise_scale": {"": 1.0}}]
    assert go(alerts, *rows) == [1, 6], "a gap neither fires nor re-arms"
    with pytest.warns(UserWarning, match="was not judged in 10 records, which do not hold noise_scale"):
        go(watched(above("noise_scale", 1))[0], *ranks(*[1.0] * 30))


def test_state_goes_on_with_the_start_and_what_was_true():
    alerts, _, _ = watched(falls_below("effective_rank_high", 0.5))
    go(alerts, *ranks(8.0, 3.0))
    for before in (True, False):
        resumed, got, _ = watched(*([falls_below("effective_rank_high", 0.5)] if before else []))
        resumed.load_state_dict(alerts.state_dict())
        if not before:
            resumed.when(falls_below("effective_rank_high", 0.5), got.append)
        assert go(resumed, *ranks(3.0, 4.5, 3.9), start=2) == [4]
        assert got[0].start == {"rank/effective_rank_high/fc": 8.0}


def test_wrong_arguments():
    alerts, _, _ = watched()
    with pytest.raises(TypeError, match=r"^condition must be a function of the record, got 0.5"):
        alerts.when(0.5, "log")
    with pytest.raises(ValueError, match=r'^action must be "log", "stop" or a function of the alert, got \'halt\'$'):
        alerts.when(flagged(), "halt")
    with pytest.raises(TypeError, match=r"^action must be"):
        alerts.when(flagged(), None)
    with pytest.raises(ValueError, match=r"^variable must be a name in watch.to_xarray\(\), got 'xyz'; watch"):
        below("xyz", 2)
    hint = r"got 'effective_rank' \(did you mean 'effective_rank_low' or 'effective_rank_high'\?\)$"
    with pytest.raises(ValueError, match=hint):
        falls_below("effective_rank", 0.5)
    with pytest.raises(TypeError, match=r"^condition must be a ready condition .*, got flagged; write flagged\(\)$"):
        alerts.when(flagged, "log")
    with pytest.raises(TypeError, match=r'got below; write below\("effective_rank_high", 0.5\)$'):
        alerts.when(below, "log")
    with pytest.raises(TypeError, match=r"^limit must be a number"):
        below("trace", "2")


def test_a_lambda_shows_its_line():
    alerts, got, _ = watched(lambda now: now["noise_scale"] > 3)
    go(alerts, {"noise_scale": {"": 9.0}})
    assert got[0].source == 'alerts, got, _ = watched(lambda now: now["noise_scale"] > 3)'
    assert got[0].source in got[0].message
    assert Alert(**vars(got[0])) == got[0]


def test_number_reads_as_that_of_a_record():
    row = {"noise_scale": {"": 9.0}, "trace": {"fc": 2.0}}
    condition = lambda now: now.number("noise_scale") > 3 and now.number("trace", "fc") > 1  # noqa: E731
    alerts, got, _ = watched(condition)
    assert go(alerts, row) == [0]
    assert got[0].numbers == {"noise/noise_scale": 9.0, "noise/trace/fc": 2.0}
