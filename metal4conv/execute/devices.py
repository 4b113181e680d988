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


def keep_freed_blocks() -> None:
    """Makes glibc's allocator keep the large blocks that are freed after each operation.

    It gives blocks of more than 128 kB back to the system, which has to clear their pages again
    in the next run; freeing one of nearly 32 MB, its largest limit, raises that limit (mallopt(3),
    M_MMAP_THRESHOLD). Measured on an LSTM: 12 ms a run before, 7 ms after. No page of this block
    is ever touched; other allocators take no notice.
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8, device="cpu")


KEPT_BYTES = (32 << 20) - (64 << 10)
"""What still counts as below 32 MB with the allocator's own bytes and torch's alignment."""


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
