"""A watch that goes on from a saved state, and states that it refuses."""

from __future__ import annotations

import copy
import io
import re

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from saddlescope.monitor import Watch, below  # noqa: E402


def model(hidden=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def trained(watch, optimizer=None, steps=4, start=0):
    for step in range(start, start + steps):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        watch.model.zero_grad()
        with watch.step():
            watch.model(x).square().mean().backward()
        if optimizer is not None:
            optimizer.step()
    return watch


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_resumed_watch_continues_records_and_alerts():
    """Another schedule, number of samples and optimizer are allowed."""
    fired = []
    watch = Watch(model(), 1)
    watch.when(below("effective_rank_high", 1e6), fired.append)
    trained(watch)
    resumed = Watch(model(), 2, samples=None)
    resumed.when(below("effective_rank_high", 1e6), fired.append)
    resumed.load_state_dict(through_a_file(watch.state_dict()))
    assert resumed.alerts == watch.alerts == fired
    assert len(fired) == 1
    trained(resumed, start=4)
    assert [record.step for record in resumed.records] == [0, 1, 2, 3, 4, 6]
    assert len(fired) == 1, "what was true before does not become true"


def test_alerts_of_a_saved_state_are_not_those_of_the_training():
    watch = Watch(model(), 1)
    watch.when(below("effective_rank_high", 1e6), print)
    trained(watch, steps=1)
    state = watch.state_dict()
    kept = copy.deepcopy(state["alerts"])
    watch.when(below("trace", 1e6), print)
    trained(watch, steps=2)
    assert state["alerts"] == kept
    again = Watch(model(), 1)
    again.load_state_dict(state)
    assert again.state_dict()["alerts"] == kept, "conditions that were not added again are not forgotten"


WRONG = {
    "shape": (lambda: Watch(model(7), 1), r"same model.*0.weight is \(6, 5\) in it and \(7, 5\) here"),
    "names": (lambda: Watch(nn.Sequential(model()), 1), r"same model.*0.weight, .* are not here; 0.0.weight"),
    "quantities": (lambda: Watch(model(), 1, "weights"), r"quantities=\['rank'\], got \['balance', 'modes'"),
    "modes": (lambda: Watch(model(), 1, modes=2), r"modes=2, got 8; use Watch\(…, modes=8\)$"),
    "reduction": (lambda: Watch(model(), 1, reduction="sum"), r"reduction='sum', got 'mean'"),
}


@pytest.mark.filterwarnings("ignore:monitor")
@pytest.mark.parametrize("what", WRONG)
def test_a_state_of_another_training_is_refused_and_nothing_changes(what):
    make, message = WRONG[what]
    state = trained(Watch(model(), 1)).state_dict()
    watch = trained(make(), steps=1)
    before = watch.records[:]
    with pytest.raises(ValueError, match=f"^state must be of .*{message}"):
        watch.load_state_dict(state)
    assert watch.records == before
    assert watch._step == 1


def test_what_is_no_state_or_from_another_version():
    watch = trained(Watch(model(), 1))
    for wrong in (3, None, [1]):
        message = re.escape(f"state must be a dict from Watch.state_dict, got {wrong}")
        with pytest.raises(TypeError, match=f"^{message}$"):
            watch.load_state_dict(wrong)
    with pytest.raises(ValueError, match=r"^state must be from Watch.state_dict, got a dict with the keys 0.weight, "):
        watch.load_state_dict(watch.model.state_dict())
    state = watch.state_dict()
    for key in set(state) - {"version"}:
        with pytest.raises(ValueError, match=f"written by another version and lacks {key}"):
            watch.load_state_dict({name: one for name, one in state.items() if name != key})
    with pytest.raises(ValueError, match="written by another version"):
        watch.load_state_dict(state | {"version": 1})
    with pytest.raises(ValueError, match="written by another version and lacks fired of alerts"):
        watch.load_state_dict(state | {"alerts": {"start": {}, "true": {}}})


def test_a_record_shows_itself_in_one_line():
    record = trained(Watch(model(), 1), steps=1).records[0]
    assert repr(record).startswith("Record(step=0, batch_size=8, values of ")
    assert len(repr(record)) < 120
