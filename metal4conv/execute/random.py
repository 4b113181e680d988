"""Random tensors: right in distribution, never equal to Core ML's.

A seed that is not negative makes the same values at each call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.devices import current_device, moved
from metal4conv.execute.table import MIL_OPS, Ints


@MIL_OPS("random_bernoulli")
def random_bernoulli(shape: Ints, prob: float = 0.5, seed: int = -1) -> Tensor:
    """Ones with probability `prob`, else zeros."""
    return (uniform(shape, seed) < prob).to(torch.float32)


@MIL_OPS("random_categorical")
def random_categorical(x: Tensor, mode: str = "logits", size: int = 1, seed: int = -1) -> Tensor:
    """`size` indices a row, drawn with replacement by the row's `logits` or `probs`.

    The largest logit after adding Gumbel noise has the distribution, and needs no division.
    """
    if mode not in ("logits", "probs"):
        raise UnsupportedModel(f'random_categorical has no mode "{mode}"')
    logits = x.log() if mode == "probs" else x
    shape = (*x.shape[:-1], size, x.shape[-1])
    numbers = uniform(shape, seed).clamp(min=1e-30)
    return (logits.unsqueeze(-2) - (-numbers.log()).log()).argmax(dim=-1).to(torch.float32)


@MIL_OPS("random_normal")
def random_normal(shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> Tensor:
    """Values of a normal distribution."""
    made_on = "cpu" if seed >= 0 else current_device()
    numbers = torch.randn(shape, generator=generator(seed), device=made_on)
    return moved(numbers) * stddev + mean


@MIL_OPS("random_uniform")
def random_uniform(shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Tensor:
    """Values of a uniform distribution, `high` excluded also where rounding gives it."""
    values = uniform(shape, seed) * (high - low) + low
    return torch.where(values < high, values, low) if high > low else values


def uniform(shape: Ints, seed: int) -> Tensor:
    """Numbers from 0 to 1; those of a seed come from the CPU, to be equal on each device."""
    made_on = "cpu" if seed >= 0 else current_device()
    return moved(torch.rand(shape, generator=generator(seed), device=made_on))


def generator(seed: int) -> torch.Generator | None:
    """A generator that starts at `seed`; None, torch's own, when it is negative."""
    return torch.Generator().manual_seed(seed) if seed >= 0 else None
