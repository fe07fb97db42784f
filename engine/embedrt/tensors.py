"""Torch's tensors, for callers who have imported torch. Nothing here imports it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def torch_if_imported() -> Any | None:
    """The module, if the caller's program has it already."""
    return sys.modules.get("torch")


def is_tensor(value: object) -> bool:
    """Whether this is one of torch's."""
    torch = torch_if_imported()
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any) -> Any:
    """A tensor as an array of the same numbers; bfloat16 and float16 ones as float32. Other things as they are."""
    if not is_tensor(value):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def as_tensor(array: NDArray[Any]) -> Any:
    """An array as a tensor over the same memory; torch must have been imported."""
    torch = torch_if_imported()
    assert torch is not None
    return torch.from_numpy(np.ascontiguousarray(array))
