"""PyTorch by hand: batched products into preallocated buffers, the ensemble in chunks that fit the cache."""

from collections.abc import Callable

import numpy as np
import torch

from workload import BATCH_SIZE, LABEL_NOISE, LR, TEACHER, WEIGHTS, WIDTH, excess_loss

PAIRS = WIDTH * (WIDTH + 1) // 2


def bmm(trajectories: int, seed: int, chunk: int, threads: int = 1) -> Callable[[int], np.ndarray]:
    """Every chunk runs all its steps before the next begins; no step allocates.

    Each choice was the faster of two: 155 normals and a gather, not 200 and a symmetrisation; a product and a
    subtraction, not ``baddbmm_``.
    """
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.tensor(TEACHER, dtype=torch.float32)
    shape = (chunk, WIDTH, WIDTH)
    below, error, batch, back, product = (torch.empty(shape) for _ in range(5))
    symmetric = torch.empty(chunk, WIDTH * WIDTH)
    normals = torch.empty(chunk, PAIRS + WIDTH * WIDTH)
    diagonal, label = normals[:, :WIDTH], normals[:, PAIRS:].unflatten(1, (WIDTH, WIDTH))
    entries = _entries()

    def advance_chunk(steps: int) -> list[torch.Tensor]:
        layers = [torch.tensor(w, dtype=torch.float32).expand(shape).clone() for w in WEIGHTS]
        first, second, third = layers
        first_t, second_t, third_t, below_t = (a.transpose(1, 2) for a in (first, second, third, below))
        for _ in range(steps):
            torch.bmm(second, first, out=below)
            torch.bmm(third, below, out=error).sub_(teacher)
            normals.normal_(0, BATCH_SIZE**-0.5, generator=generator)
            diagonal.mul_(2**0.5)
            torch.index_select(normals, 1, entries, out=symmetric)
            torch.bmm(error, symmetric.view(shape), out=batch)
            batch.add_(error).sub_(label, alpha=LABEL_NOISE)
            torch.bmm(third_t, batch, out=back)
            third.sub_(torch.bmm(batch, below_t, out=product), alpha=LR)
            torch.bmm(second_t, back, out=product)
            second.sub_(torch.bmm(back, first_t, out=batch), alpha=LR)
            first.sub_(product, alpha=LR)
        return layers

    def advance(steps: int) -> np.ndarray:
        chunks = [advance_chunk(steps) for _ in range(trajectories // chunk)]
        return np.concatenate([excess_loss([w.numpy() for w in layers]) for layers in chunks])

    return advance


def _entries() -> torch.Tensor:
    """Where entry (i, j) of the symmetric H lies among the normals: first the diagonal, then the pairs."""
    index = torch.diag(torch.arange(WIDTH))
    rows, columns = torch.tril_indices(WIDTH, WIDTH, offset=-1)
    index[rows, columns] = index[columns, rows] = torch.arange(WIDTH, PAIRS)
    return index.flatten()
