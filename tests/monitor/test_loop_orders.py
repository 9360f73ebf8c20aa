"""Orders of a training loop: where gradients are cleared, and what other losses leave in them."""

import pytest

torch = pytest.importorskip("torch")

from saddlescope.monitor import Watch  # noqa: E402


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()


def batches():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 8, 3, generator=generator, dtype=torch.float64)


def run(clear, none=True, other_loss=False):
    """The records of a loop that clears gradients "after" the step, "before" its forward or its "backward" pass."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, schedule=1, strict=True)
    for x in batches():
        with watch.step():
            if other_loss:
                model(x + 1).exp().mean().backward()
            if clear == "before":
                optimizer.zero_grad(set_to_none=none)
            loss = model(x).square().mean()
            if clear == "backward":
                optimizer.zero_grad(set_to_none=none)
            loss.backward()
        optimizer.step()
        if clear == "after":
            optimizer.zero_grad(set_to_none=none)
    return watch.records


def agree(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.batch_size == b.batch_size
        for variable, by_key in a.values.items():
            for key, tensor in by_key.items():
                if variable != "check":
                    torch.testing.assert_close(tensor, b.values[variable][key], rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("none", [True, False])
@pytest.mark.parametrize("clear", ["before", "backward"])
def test_gradients_may_be_cleared_anywhere_in_the_step(clear, none):
    agree(run(clear, none), run("after"))


def test_a_pass_that_was_cleared_does_not_count():
    agree(run("before", other_loss=True), run("after"))
    with pytest.raises(AssertionError):
        agree(run("after", other_loss=True), run("after"))


def test_micro_batches_are_the_samples_of_one_step():
    def split(parts):
        model, (x, *_) = network(), batches()
        watch = Watch(model, schedule=1, samples=None, strict=True)
        for i, part in enumerate(x.chunk(parts)):
            with watch.step(complete=i == parts - 1):
                (model(part).square().mean() / parts).backward()
            assert not watch._measure.capture.open_hooks
        return watch.records

    agree(split(2), split(1))
    agree(split(4), split(1))
