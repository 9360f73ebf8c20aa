"""Run by two processes under torchrun: the frameworks named on the command line, with and without a watch.

Parameters must be equal bit for bit, the record of step 0 must be that of one process with the samples of both, and
both processes must hold the same records.
"""

import sys
import tempfile
import warnings

import torch

from saddlescope.monitor import Watch

functional = torch.nn.functional
torch.set_num_threads(1)
warnings.filterwarnings("error", "monitor:")

SAMPLES, EACH = 32, 4
ARGUMENTS = {"schedule": 1, "samples": None, "strict": True}


def dataset():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, 5, generator=generator)
    return [{"x": row, "labels": row[:1].sin()} for row in x]


class Net(torch.nn.Module):
    """A network that returns its loss beside the outputs, as Hugging Face's do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(5, 6), torch.nn.Linear(6, 1)
        self.batches = []

    def forward(self, x, labels):
        self.batches.append(torch.cat([x, labels], 1))
        y = self.second(self.first(x).tanh())
        return {"loss": functional.mse_loss(y, labels), "logits": y}


def with_lightning(watched):
    import lightning.pytorch as pl

    from saddlescope.monitor.lightning import WatchCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def training_step(self, batch, batch_idx):
            return self.net(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback, module = WatchCallback(module="net", **ARGUMENTS), Module()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        accumulate_grad_batches=2,
        gradient_clip_val=0.01,
        callbacks=[callback] if watched else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(dataset(), EACH, shuffle=False))
    return module.net, callback.watch


def with_huggingface(watched):
    import transformers

    from saddlescope.monitor.huggingface import WatchCallback

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *args, **kwargs):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    callback, net = WatchCallback(**ARGUMENTS), Net()
    arguments = transformers.TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=EACH,
        gradient_accumulation_steps=2,
        max_grad_norm=0.01,
        num_train_epochs=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo",
        logging_strategy="no",
        remove_unused_columns=False,
    )
    InOrder(net, arguments, train_dataset=dataset(), callbacks=[callback] if watched else []).train()
    return net, callback.watch


def with_accelerate(watched):
    import accelerate

    accelerator = accelerate.Accelerator(gradient_accumulation_steps=2, cpu=True)
    net = Net()
    loader = torch.utils.data.DataLoader(dataset(), EACH)
    model, optimizer, loader = accelerator.prepare(net, torch.optim.SGD(net.parameters(), 0.1), loader)
    watch = Watch(model, **ARGUMENTS) if watched else None
    for batch in loader:
        with accelerator.accumulate(model):
            with watch.step(complete=accelerator.sync_gradients) if watch else torch.enable_grad():
                accelerator.backward(model(**batch)["loss"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()
    return net, watch


def alone(batches):
    """The record of the first step of one process with the samples of both."""
    mine = torch.cat(batches[:2])
    both = [torch.empty_like(mine) for _ in range(2)]
    torch.distributed.all_gather(both, mine)
    x, labels = torch.cat(both).split([5, 1], 1)
    net = Net()
    watch = Watch(net, **ARGUMENTS)
    with watch.step():
        net(x, labels)["loss"].backward()
    return watch.records[0]


def main(framework):
    train = globals()[f"with_{framework}"]
    plain, _ = train(False)
    net, watch = train(True)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), net.parameters(), strict=True))
    assert [(record.step, record.batch_size) for record in watch.records] == [(0, 16), (1, 16)], watch.records
    mine = [
        (variable, key, value) for variable, by_key in watch.records[0].values.items() for key, value in by_key.items()
    ]
    reference = {
        (variable, key): value
        for variable, by_key in alone(net.batches).values.items()
        for key, value in by_key.items()
    }
    assert len(mine) == len(reference)
    for variable, key, value in mine:
        if variable == "check":  # of each process by itself
            assert float(value) < 1e-5, (key, float(value))
            continue
        expected = reference[variable, key]
        torch.testing.assert_close(value, expected, rtol=2e-5, atol=1e-6, equal_nan=True, msg=f"{variable} {key}")
        both = [torch.empty_like(value) for _ in range(2)]
        torch.distributed.all_gather(both, value)
        assert torch.equal(both[0].nan_to_num(), both[1].nan_to_num()), (variable, key, both)
    print(f"two processes agree in {framework}", flush=True)


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    for name in sys.argv[1:]:
        main(name)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
