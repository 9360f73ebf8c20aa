"""Compiled kernels. Arrays marked "in place" are changed; all are C-contiguous and of the dtype they show."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

jacobi_modes: int
"""Of more modes than this the kernel leaves singular values and effective rank NaN."""
max_depth: int
"""Most layers of a network."""
panel: int
"""Samples that are drawn at a time."""
correlator_row: int
"""Numbers in a row of the correlator."""
thresholds: tuple[float, float]
"""Fractions of s* at which the kernel notes learning times."""

def instruction_sets() -> list[str]: ...
def normals(words: NDArray[Any], count: int, instruction_set: str = "auto") -> NDArray[Any]: ...
def chi(words: NDArray[Any], degrees: int, instruction_set: str = "auto") -> NDArray[Any]: ...
def below(words: NDArray[Any], bound: int, instruction_set: str = "auto") -> NDArray[Any]: ...
def multiply_add_rate_float32(milliseconds: float, instruction_set: str = "auto") -> float: ...
def multiply_add_rate_float64(milliseconds: float, instruction_set: str = "auto") -> float: ...
def normal_rate_float32(milliseconds: float, instruction_set: str = "auto") -> float: ...
def normal_rate_float64(milliseconds: float, instruction_set: str = "auto") -> float: ...
def mode_ensemble(
    depth: int,
    alpha: float,
    center: float,
    floor: float,
    beta1: float,
    beta2: float,
    temperature: float,
    decay: float,
    tolerance: float,
    start: NDArray[Any],
    times: NDArray[Any],
    levels: NDArray[Any],
    words: NDArray[Any],
    threads: int = 1,
    instruction_set: str = "auto",
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def mode_euler(
    depth: int,
    alpha: float,
    center: float,
    floor: float,
    beta1: float,
    beta2: float,
    temperature: float,
    decay: float,
    dt: float,
    start: NDArray[Any],
    steps: NDArray[Any],
    words: NDArray[Any],
    threads: int = 1,
    instruction_set: str = "auto",
) -> NDArray[Any]: ...

class Kernel:
    def __init__(
        self,
        network: str,
        shapes: Sequence[tuple[int, int]],
        strengths: Sequence[float],
        block: Sequence[int],
        rank: int,
        root: Sequence[float],
        label_noise: float,
        source: str,
        lr: float,
        dt: float,
        batch: float,
        weight_decay: float,
        order: int,
        gradient_noise: tuple[float, float, float] | None = None,
        momentum: float = 0.0,
        instruction_set: str = "auto",
        route: str = "auto",
    ) -> None: ...
    def advance(
        self,
        weights: NDArray[Any],
        words: NDArray[Any],
        status: NDArray[Any],
        learned: NDArray[Any],
        peak: NDArray[Any],
        clock: NDArray[Any],
        correlator: NDArray[Any],
        histogram: NDArray[Any],
        start: int,
        until: int,
        passages: bool,
        peaks: bool,
        threads: int,
        normals: NDArray[Any] | None = None,
        factors: NDArray[Any] | None = None,
        order: NDArray[Any] | None = None,
        velocity: NDArray[Any] | None = None,
    ) -> None: ...
    def accumulate(self, low: float, high: float, start: int, every: int) -> None: ...
    def use_samples(self, rows: NDArray[Any], factor: NDArray[Any], sampling: str, share: float = 1.0) -> None: ...
    def observe(self, weights: NDArray[Any], temperature: float, threads: int = 1) -> NDArray[Any]: ...
    def peek(self, weights: NDArray[Any], clock: NDArray[Any], at: float, threads: int = 1) -> NDArray[Any]: ...
    @property
    def columns(self) -> list[tuple[str, list[int]]]: ...
    @property
    def normals_per_step(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...
