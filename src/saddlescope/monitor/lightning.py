"""A watch in a Lightning training: ``Trainer(callbacks=[WatchCallback(schedule="log+50")])``.

The watch samples optimizer steps. It opens at the first batch of a step and closes before the optimizer moves, with
all batches of ``accumulate_grad_batches`` as samples of one step. Between batches, and so in validation, nothing is
attached to the module.

Several optimizers (manual optimization): the watch follows the optimizer that holds the watched parameters, up to its
first step in a batch. For a GAN, use one callback per network, ``WatchCallback(module="generator")``. Passes whose
gradients ``zero_grad`` removed before do not count; other losses are part of the samples unless ``toggle_optimizer``
keeps them from these parameters.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saddlescope import _warnings
from saddlescope.monitor._torch import Tensor, nn, torch
from saddlescope.monitor.compiled import is_compiled
from saddlescope.monitor.discover import trains
from saddlescope.monitor.watch import Watch

NODES = 8
"""Nodes of the graph of the loss that are searched for its reduction."""


def _callback() -> Any:
    """The base class, of the package that is in use, otherwise of the one that is installed."""
    for package in sorted(("lightning.pytorch", "pytorch_lightning"), key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(package).Callback
        except ImportError:
            continue
    raise ImportError("saddlescope.monitor.lightning needs Lightning: pip install lightning")


class WatchCallback(_callback()):  # type: ignore[misc]
    """Noise, balance and rank of a Lightning module while it trains; ``watch`` has the records.

    module: name of the submodule to watch, such as "generator"; all by default.
    loggers: loggers of the watch, or "trainer" for those of the trainer.
    probe: ``probe(module, batch)`` returns the loss of a batch. It is used for compiled modules only, in which hooks do
    not fire; without it only their weights are watched, unless ``stance="eager"`` runs sampled steps uncompiled.
    ``training_step`` is not called for this, because it logs and may step optimizers.
    All other arguments are those of ``Watch``. Raises TypeError for an argument that ``Watch`` does not have.

    Training is bit-identical with and without it. After an exception no hook is left. A condition of ``when`` with the
    action "stop" ends the training after the batch. Checkpoints hold the records, and a resumed training goes on.

    >>> callback = WatchCallback(schedule=10, samples=None)
    >>> callback.state_key
    "WatchCallback{'module': '', 'samples': 'None', 'schedule': '10'}"
    """

    def __init__(
        self,
        *,
        module: str = "",
        loggers: str | Iterable[Any] = (),
        probe: Callable[[Any, Any], Tensor] | None = None,
        **arguments: Any,
    ) -> None:
        inspect.signature(Watch).bind(None, **arguments)
        if isinstance(loggers, str) and loggers != "trainer":
            raise ValueError(f'loggers must be "trainer" or a list of loggers, got {loggers!r}')
        self.watch: Watch | None = None
        self._module, self._loggers, self._probe, self._arguments = module, loggers, probe, arguments
        self._conditions: list[tuple[Any, ...]] = []
        self._state: Mapping[str, Any] | None = None
        self._optimizer: Any = None
        self._sampling = self._backward = self._warned = self._compiled = False

    def when(self, condition: Any, action: Any, name: str | None = None) -> None:
        """Add a condition, as ``Watch.when``; before the training starts too."""
        self._conditions.append((condition, action, name))
        if self.watch is not None:
            self.watch.when(condition, action, name)

    @property
    def state_key(self) -> str:
        """The key of the state in a checkpoint; it depends on the arguments, so that several callbacks differ."""
        given = {"module": self._module} | {name: _stable(value) for name, value in sorted(self._arguments.items())}
        return f"{type(self).__qualname__}{given!r}"

    def state_dict(self) -> dict[str, Any]:
        """The state of the watch."""
        return {} if self.watch is None else self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until training starts."""
        self._state = state_dict or None

    # --- the training

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the watch; it goes on from a checkpoint, or from the last training of the same module."""
        model, last = pl_module.get_submodule(self._module), self.watch
        if self._state is None and last is not None and last.model is model:
            self._state = last.state_dict()
        self._optimizer = _holder(trainer.optimizers, model)
        self.watch = self._made(trainer, pl_module, model)
        for one in self._conditions:
            self.watch.when(*one)
        if self._state is not None:
            self.watch.load_state_dict(self._state)
        self._state, self._sampling = None, False

    def _made(self, trainer: Any, pl_module: Any, model: nn.Module) -> Watch:
        given: dict[str, Any] = {"optimizer": self._optimizer, "loggers": self._loggers}
        if self._loggers == "trainer":
            given["loggers"] = [_TrainerLoggers(trainer)]
        if (scaler := getattr(trainer.precision_plugin, "scaler", None)) is not None:
            given["loss_scale"] = scaler
        if type(trainer.strategy.model).__name__ == "DistributedDataParallel":
            given["group"] = trainer.strategy.model.process_group
        if getattr(pl_module, "_compiler_ctx", None) is not None:  # compiled by its methods, which does not show in it
            model = torch.compile(model)
        self._compiled = is_compiled(model)
        return Watch(model, **(given | self._arguments))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Open the watch for this batch."""
        assert self.watch is not None
        if self._probe is not None and self._compiled:
            if not self._sampling:
                self.watch.probe(self._probe, batch)
        else:
            self.watch.begin(batch)
        self._sampling, self._backward = True, self._backward and self._sampling

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Compare the reduction of the loss with the declared one."""
        self._backward = True
        declared = self._arguments.get("reduction", "mean")
        if not self._warned and reduction(loss) not in (None, declared):
            self._warned = True
            _warnings.warn(
                f"monitor: the loss looks like a {reduction(loss)} over samples, but it is taken as their {declared}; "
                f'write WatchCallback(reduction="{reduction(loss)}") if it is one'
            )

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the record, if it is the step of the watched parameters."""
        if self._sampling and getattr(optimizer, "_optimizer", optimizer) is self._optimizer:
            self._close(complete=True)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Leave nothing attached until the next batch."""
        assert self.watch is not None
        if self._sampling:
            self._close(complete=False)
        if self.watch.should_stop:
            trainer.should_stop = True

    def _close(self, complete: bool) -> None:
        assert self.watch is not None
        if complete and not self._backward:  # training_step returned None
            self.watch.abort()
        self.watch.end(complete)
        if complete:
            self._sampling = self._backward = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Drop an unfinished step and finish the loggers."""
        self._finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._finish()

    def _finish(self) -> None:
        self._sampling = self._backward = False
        if self.watch is not None:
            self.watch.close()


class _TrainerLoggers:
    """The loggers of a trainer as one logger of a watch."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for logger in self._trainer.loggers:
            logger.log_metrics(dict(numbers), step=step)

    def close(self) -> None:
        """The trainer closes its loggers."""


def reduction(loss: Tensor) -> str | None:
    """ "mean" or "sum" as the graph of the loss says, None where it does not say.

    A sum that is divided or multiplied again, beyond the division by the number of accumulated batches that Lightning
    adds, may be a mean.

    >>> import torch
    >>> x = torch.ones(4, requires_grad=True)
    >>> reduction(x.square().mean() / 1), reduction(x.square().sum() / 1), reduction(x.square().sum() / 4 / 1)
    ('mean', 'sum', None)
    """
    node, factors = loss.grad_fn, 0
    for _ in range(NODES):
        name = type(node).__name__
        found = {1: "mean", 2: "sum"}.get(getattr(node, "_saved_reduction", 0)) or (
            "mean" if name.startswith("MeanBackward") else "sum" if name.startswith("SumBackward") else None
        )
        if found is not None:
            return found if found == "mean" or factors <= 1 else None
        if node is None or not node.next_functions:
            return None
        factors += name.startswith(("DivBackward", "MulBackward"))
        node = node.next_functions[0][0]
    return None


def _holder(optimizers: Iterable[Any], model: nn.Module) -> Any:
    """The first optimizer that holds a parameter of the model."""
    own = {id(parameter) for parameter in model.parameters()}
    return next((optimizer for optimizer in optimizers if trains(optimizer, own)), None)


def _stable(value: Any) -> str:
    """A text that is the same in another process."""
    return getattr(value, "__qualname__", None) or repr(value)
