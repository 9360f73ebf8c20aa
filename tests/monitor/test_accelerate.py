"""Accelerate: the same context inside ``accelerator.accumulate``."""

import pytest

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")

from saddlescope.monitor import Watch  # noqa: E402

functional = torch.nn.functional


@pytest.fixture(autouse=True)
def forget():
    """Accelerate keeps its state in the process."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def train(parts, watched, precision="no", schedule=1):
    """A loop over 24 samples in batches of 8, each in this many parts; the model and the watch."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(gradient_accumulation_steps=parts, mixed_precision=precision, cpu=True)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(6, 1))
    x = torch.randn(24, 5)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), 8 // parts)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 0.01), loader)
    watch = Watch(model, schedule=schedule, samples=None, strict=True) if watched else None
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            with watch.step(complete=accelerator.sync_gradients) if watch else torch.enable_grad():
                loss = functional.mse_loss(model(inputs), targets)
                accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    return model, watch


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_is_bit_identical_and_all_parts_are_samples_of_a_step(parts, precision):
    plain, _ = train(parts, watched=False, precision=precision)
    model, watch = train(parts, watched=True, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert [(record.step, record.batch_size) for record in watch.records] == [(0, 8), (1, 8), (2, 8)]
    worst = max(float(x) for record in watch.records for x in record.values["check"].values())
    assert worst < (2e-2 if precision == "bf16" else 1e-5)
    assert not any(module._forward_hooks for module in model.modules())


def test_only_sampled_steps_have_hooks():
    _, watch = train(2, watched=True, schedule=2)
    assert [record.step for record in watch.records] == [0, 2]
