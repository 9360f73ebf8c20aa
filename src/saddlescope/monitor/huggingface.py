"""A watch in a Hugging Face training: ``Trainer(..., callbacks=[WatchCallback(schedule="log+50")])``.

The watch opens when a step begins and closes before the optimizer moves, with all batches of
``gradient_accumulation_steps`` as samples of one step. Gradients are read as they arrive, before they are clipped,
though the Trainer clips before it tells callbacks. The Trainer divides the loss of sequences by all tokens of the step:
a sample then weighs as many tokens as it has, and sample gradients ``G_i`` hold this weight.

A Trainer does not tell its callbacks about exceptions. Use the callback as a context to leave no hook behind:

    with WatchCallback() as callback:
        Trainer(model, args, train_dataset=data, callbacks=[callback]).train()

With ``torch_compile=True`` hooks do not fire, and a callback cannot reach the loss to probe it: only weights are
watched, unless ``WatchCallback(stance="eager")`` runs sampled steps uncompiled.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saddlescope import _warnings
from saddlescope.monitor._torch import torch
from saddlescope.monitor.watch import Watch

try:
    from transformers import TrainerCallback
except ImportError:
    raise ImportError("saddlescope.monitor.huggingface needs transformers: pip install transformers") from None

STATE = "saddlescope.pt"
"""The file with the state of the watch in the folder of every checkpoint."""


class WatchCallback(TrainerCallback):
    """Noise, balance and rank of a model while a Trainer trains it; ``watch`` has the records.

    All arguments are those of ``Watch``. Raises TypeError for an argument that ``Watch`` does not have.

    Training is bit-identical with and without it. A condition of ``when`` with the action "stop" ends the training
    after the step. Checkpoints hold the records in a file, and a training that resumes from the same folder goes on.

    >>> callback = WatchCallback(schedule=10, samples=None)
    >>> callback.watch is None
    True
    """

    def __init__(self, *, loggers: Iterable[Any] = (), **arguments: Any) -> None:
        inspect.signature(Watch).bind(None, **arguments)
        self.watch: Watch | None = None
        self._arguments = {"loggers": loggers} | arguments
        self._conditions: list[tuple[Any, ...]] = []

    def __enter__(self) -> WatchCallback:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()

    def when(self, condition: Any, action: Any, name: str | None = None) -> None:
        """Add a condition, as ``Watch.when``; before the training starts too."""
        self._conditions.append((condition, action, name))
        if self.watch is not None:
            self.watch.when(condition, action, name)

    def finish(self) -> None:
        """Remove all hooks and finish the loggers."""
        if self.watch is not None:
            self.watch.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the watch; of a training that is resumed, with its records."""
        self.finish()
        optimizer = kwargs.get("optimizer")
        given: dict[str, Any] = {"optimizer": getattr(optimizer, "optimizer", optimizer)}  # inside that of Accelerate
        if (scaler := getattr(optimizer, "scaler", None)) is not None:
            given["loss_scale"] = scaler
        if args.parallel_mode.value == "distributed" and not (args.fsdp or args.deepspeed):
            given["group"] = torch.distributed.group.WORLD
        model = kwargs["model"]
        if args.torch_compile:  # the compiled model is not given
            model = torch.compile(model)
        self.watch = Watch(model, **(given | self._arguments))
        for one in self._conditions:
            self.watch.when(*one)
        if state.global_step:
            self._resume(_folder(args, state) / STATE)

    def _resume(self, file: Path) -> None:
        assert self.watch is not None
        if file.exists():
            self.watch.load_state_dict(torch.load(file, weights_only=True))
        else:
            _warnings.warn(f"monitor: no records from before in {file}; they start again with this training")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the watch for this step."""
        assert self.watch is not None
        self.watch.begin()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the record."""
        assert self.watch is not None
        self.watch.end()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop if a condition says so."""
        assert self.watch is not None
        if self.watch.should_stop:
            control.should_training_stop = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save the records beside the checkpoint."""
        if self.watch is not None and state.is_world_process_zero:
            folder = _folder(args, state)
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self.watch.state_dict(), folder / STATE)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove all hooks and finish the loggers."""
        self.finish()


def _folder(args: Any, state: Any) -> Path:
    """The folder of the checkpoint at this step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
