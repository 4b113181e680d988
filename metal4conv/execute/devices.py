"""Where tensors live while a program runs, and the precision that they are computed in there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def running_on(device: torch.device) -> Iterator[None]:
    """Within it, what is made without a tensor to follow is made on `device`.

    A GPU computes with all bits of float32 there: TensorFloat-32, which torch allows convolutions
    by default, keeps ten of the 23 bits of a mantissa.
    """
    if device.type == "cpu":
        yield
        return
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with device, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def current_device() -> torch.device:
    """Where tensors are made now.

    >>> current_device()
    device(type='cpu')
    """
    return torch.empty(0).device


def moved(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor made on the CPU, where tensors are made now."""
    device = current_device()
    return tensor if device.type == "cpu" else tensor.to(device)
