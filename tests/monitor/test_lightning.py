"""The Lightning callback: exact samples, bit-identical training, nothing attached outside of a step."""

import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

import lightning.pytorch as pl  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402
from saddlescope.monitor.lightning import WatchCallback, reduction  # noqa: E402
from saddlescope.monitor.loggers import InMemory  # noqa: E402

functional = torch.nn.functional


@pytest.fixture(autouse=True)
def quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        for text in (".*does not have many workers.*", ".*is smaller than the logging interval.*", ".*isinstance.*"):
            warnings.filterwarnings("ignore", text)
        warnings.filterwarnings("error", "monitor:")
        yield
    torch.set_num_threads(threads)


def data(n=48, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    return torch.utils.data.TensorDataset(x, x[:, :1].sin() + 0.1 * torch.randn(n, 1, generator=generator))


class Module(pl.LightningModule):
    """A network with dropout whose loss may be a sum, fail, or be skipped at a batch."""

    def __init__(self, loss="mean", fail_at=None, skip_at=None, optimizer="sgd"):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(6, 1)
        )
        self.loss, self.fail_at, self.skip_at, self.kind = loss, fail_at, skip_at, optimizer
        self.hooks_in_validation, self.losses = [], []

    def training_step(self, batch, batch_idx):
        x, y = batch
        if batch_idx == self.skip_at:
            return None
        loss = functional.mse_loss(self.net(x), y, reduction=self.loss)
        if batch_idx == self.fail_at:
            raise RuntimeError("the loss failed")
        self.log("loss", loss)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        self.hooks_in_validation.append(hooks(self))
        with torch.inference_mode(False), torch.enable_grad():
            self.net(batch[0].clone()).square().mean().backward()  # would be seen if anything were attached

    def configure_optimizers(self):
        if self.kind == "lbfgs":
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def hooks(module):
    """Number of hooks on modules and parameters."""
    on_modules = sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()
    )
    return on_modules + sum(
        len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ()) for p in module.parameters()
    )


def fit(module, *callbacks, batch=8, validate=False, ckpt_path=None, epochs=1, folder=None, seed=3, **arguments):
    torch.manual_seed(seed)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        **{"logger": False, "enable_checkpointing": False, "default_root_dir": folder} | arguments,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(data(), batch)
    trainer.fit(module, loader, torch.utils.data.DataLoader(data(8), 8) if validate else None, ckpt_path=ckpt_path)
    return trainer


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


CASES = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 2},
    "clipping": {"gradient_clip_val": 0.05},
    "bf16": {"precision": "bf16-mixed"},
    "validation": {"validate": True, "val_check_interval": 2, "num_sanity_val_steps": 1},
    "fast": {"fast_dev_run": True},
}


@pytest.mark.parametrize("case", CASES)
def test_training_is_bit_identical_and_every_sample_is_seen(case):
    plain, watched = Module(), Module()
    fit(plain, **CASES[case])
    callback = WatchCallback(schedule=1, samples=None, strict=True)
    fit(watched, callback, **CASES[case])
    assert same(plain, watched) and plain.losses == watched.losses
    assert hooks(watched) == 0 and not any(watched.hooks_in_validation)
    steps = {"accumulation": 3, "fast": 1}.get(case, 6)
    assert [record.step for record in callback.watch.records] == list(range(steps))
    assert {record.batch_size for record in callback.watch.records} == {16 if case == "accumulation" else 8}
    worst = max(float(x) for record in callback.watch.records for x in record.values["check"].values())
    assert worst < (2e-2 if case == "bf16" else 1e-5)


def test_records_are_those_of_a_plain_loop():
    for accumulate in (1, 3):
        callback, module = WatchCallback(schedule=2, samples=None), Module()
        fit(module, callback, accumulate_grad_batches=accumulate)
        plain = Module()
        optimizer, watch = plain.configure_optimizers(), Watch(plain, schedule=2, samples=None)
        torch.manual_seed(3)
        for i, batch in enumerate(torch.utils.data.DataLoader(data(), 8)):
            with watch.step(complete=(i + 1) % accumulate == 0):
                (functional.mse_loss(plain.net(batch[0]), batch[1]) / accumulate).backward()
            if (i + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        assert same(plain, module)
        assert len(watch.records) == len(callback.watch.records) == (3 if accumulate == 1 else 1)
        for one, other in zip(watch.records, callback.watch.records, strict=True):
            assert (one.step, one.batch_size) == (other.step, other.batch_size)
            for variable, by_key in one.values.items():
                for key, value in by_key.items():
                    torch.testing.assert_close(value, other.values[variable][key], equal_nan=True)


def test_an_exception_leaves_no_hook_and_validation_sees_none():
    module, callback = Module(fail_at=3), WatchCallback(schedule=1)
    with pytest.raises(RuntimeError, match="the loss failed"):
        fit(module, callback)
    assert hooks(module) == 0 and len(callback.watch.records) == 3


def test_a_skipped_batch_takes_no_record():
    module, callback = Module(skip_at=2), WatchCallback(schedule=1, strict=True)
    fit(module, callback)
    assert [record.step for record in callback.watch.records] == [0, 1, 3, 4, 5] and hooks(module) == 0


def test_closures_that_run_several_times_are_one_step():
    plain, module, callback = Module(optimizer="lbfgs"), Module(optimizer="lbfgs"), WatchCallback(schedule=1)
    fit(plain)
    fit(module, callback)
    assert same(plain, module) and len(module.losses) > 6
    assert [record.step for record in callback.watch.records] == list(range(6)) and hooks(module) == 0


def test_a_resumed_training_goes_on_with_its_records(tmp_path):
    arguments = {"schedule": 4, "samples": None}
    whole, callback = Module(), WatchCallback(**arguments)
    fit(whole, callback, epochs=2)
    first = WatchCallback(**arguments)
    trainer = fit(Module(), first, epochs=1)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    second, module = WatchCallback(**arguments), Module()
    fit(module, second, epochs=2, ckpt_path=tmp_path / "end.ckpt")
    assert [r.step for r in first.watch.records] == [0, 4]
    assert [r.step for r in second.watch.records] == [r.step for r in callback.watch.records] == [0, 4, 8]
    assert WatchCallback(**arguments).state_key == first.state_key != WatchCallback(schedule=5).state_key
    assert WatchCallback(schedule=len).state_key == "WatchCallback{'module': '', 'schedule': 'len'}"


def test_conditions_stop_the_training_and_loggers_of_the_trainer_get_the_numbers(tmp_path):
    logger, kept = pl.loggers.CSVLogger(tmp_path), InMemory()
    callback = WatchCallback(schedule=1, loggers="trainer")
    callback.when(lambda now: now["total_trace"] > 0, "stop", "noise")
    module = Module()
    fit(module, callback, logger=logger)
    assert len(module.losses) == 1 and [alert.condition for alert in callback.watch.alerts] == ["noise"]
    header, *rows = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    assert "noise/total_trace" in header and "alert/noise" in header and rows
    fit(Module(), WatchCallback(schedule=3, loggers=[kept]))
    assert [step for step, _ in kept.rows] == [0, 3]
    with pytest.raises(ValueError, match=r'^loggers must be "trainer" or a list of loggers'):
        WatchCallback(loggers="tensorboard")
    with pytest.raises(TypeError, match="shedule"):
        WatchCallback(shedule=1)


class Flat(Module):
    """Every entry of a sample goes through the network by itself; the module itself is not called."""

    def training_step(self, batch, batch_idx):
        rows = batch[0].reshape(-1, 1).repeat(1, 5)
        return functional.mse_loss(self.net(rows).reshape(batch[0].shape).sum(1, keepdim=True), batch[1])


def test_rows_are_not_taken_for_samples():
    """The batch tells the number of samples where only submodules are called."""
    callback = WatchCallback(schedule=1)
    with pytest.warns(UserWarning, match="not seen per sample: has the leading dimension 40 for 8 samples"):
        fit(Flat(), callback, limit_train_batches=1)
    assert not callback.watch.records[0].values.get("trace")


class Rectified(Module):
    """A pair of layers that can be rescaled."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))


def test_the_account_of_a_pair_is_exact_although_gradients_arise_within_the_optimizer_step():
    """Lightning computes and clips gradients in a closure that it hands to the optimizer; two trainings go on."""
    module, callback = Rectified(), WatchCallback(schedule=1)
    for _ in range(2):
        fit(module, callback, precision="64-true", accumulate_grad_batches=2, gradient_clip_val=0.05)
    assert [record.step for record in callback.watch.records] == list(range(6))
    measured, account = (
        [float(record.values[variable]["net.0~net.2"]) for record in callback.watch.records]
        for variable in ("imbalance", "imbalance_identity")
    )
    assert measured[0] != pytest.approx(measured[-1], abs=1e-6)
    assert account == pytest.approx(measured, abs=1e-13)  # the second optimizer begins without momentum


class Silent(Module):
    """Without logging, which torch does not compile."""

    def training_step(self, batch, batch_idx):
        return functional.mse_loss(self.net(batch[0]), batch[1])


@pytest.mark.parametrize("how", ["module", "network"])
def test_compiled_modules(how):
    """Hooks do not fire there: weights alone are watched, or samples are seen by a probe or in uncompiled steps."""

    def compiled():
        module = Silent()
        if how == "module":
            return torch.compile(module, backend="eager")
        module.net = torch.compile(module.net, backend="eager")
        return module

    def loss(module, batch):
        return functional.mse_loss(module.net(batch[0]), batch[1])

    plain = compiled()
    fit(plain)
    for arguments in ({}, {"probe": loss}, {"stance": "eager"}):
        module, callback = compiled(), WatchCallback(schedule=2, samples=None, **arguments)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            fit(module, callback)
        assert same(plain, module) and hooks(module) == 0
        told = [str(one.message) for one in found if "monitor: the model is compiled" in str(one.message)]
        assert len(told) == (not arguments), (arguments, told)
        assert [(r.step, "trace" in r.values) for r in callback.watch.records] == [
            (s, bool(arguments)) for s in (0, 2, 4)
        ]


class Adversarial(pl.LightningModule):
    """Two networks and two optimizers, stepped by hand."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.generator, self.critic = torch.nn.Linear(2, 5), torch.nn.Linear(5, 1)

    def configure_optimizers(self):
        return [torch.optim.SGD(m.parameters(), lr=0.1) for m in (self.generator, self.critic)]

    def training_step(self, batch, batch_idx):
        x, _ = batch
        first, second = self.optimizers()
        loss = -self.critic(self.generator(x[:, :2])).mean()
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        loss = self.critic(self.generator(x[:, :2]).detach()).mean() - self.critic(x).mean()
        second.zero_grad()
        self.manual_backward(loss)
        second.step()


def test_one_callback_for_each_of_several_optimizers():
    callbacks = [WatchCallback(module=name, schedule=1, samples=None) for name in ("generator", "critic")]
    plain, module = Adversarial(), Adversarial()
    fit(plain)
    fit(module, *callbacks)
    assert same(plain, module) and hooks(module) == 0
    for callback in callbacks:
        assert [(r.step, r.batch_size) for r in callback.watch.records] == [(step, 8) for step in range(6)]
        assert max(float(x) for r in callback.watch.records for x in r.values["check"].values()) < 1e-5


def test_reductions_are_read_from_the_graph_and_only_warned_of():
    x = torch.ones(4, 3, requires_grad=True)
    target = torch.zeros(4, dtype=torch.long)
    assert reduction(functional.cross_entropy(x, target)) == "mean"
    assert reduction(functional.cross_entropy(x, target, reduction="sum")) == "sum"
    assert reduction(functional.mse_loss(x, x.detach(), reduction="sum") / 1) == "sum"
    assert reduction(x.square().sum() / 4 / 1) is None
    assert reduction(x.square().sum().detach()) is None
    with pytest.warns(
        UserWarning, match="^monitor: the loss looks like a sum over samples, but .* their mean"
    ) as found:
        fit(Module(loss="sum"), WatchCallback(schedule=1))
    assert len([w for w in found if "looks like" in str(w.message)]) == 1
    fit(Module(loss="sum"), WatchCallback(schedule=1, reduction="sum", strict=True))
