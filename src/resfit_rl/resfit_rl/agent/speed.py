"""What makes an update fast without changing what it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Speed:
    """Speed-ups that can be switched off one by one.

    Attributes:
        autocast: networks compute in bfloat16 (weights, losses and optimisers stay float32).
        compile: networks go through torch.compile, which fuses what lies between products.
        cuda_graph: a block of updates is recorded once and replayed, without a launch per kernel.
    """

    autocast: bool
    compile: bool
    cuda_graph: bool

    @staticmethod
    def of(device: torch.device) -> Speed:
        """All on a GPU; none on a CPU, where each was measured to lose or to gain little."""
        gpu = device.type == "cuda"
        return Speed(autocast=gpu, compile=gpu, cuda_graph=gpu)


# Allocations and libraries settle in these calls, which are real ones, before one is recorded.
_EAGER_CALLS = 3


class GraphedBlock:
    """A function of tensors, recorded as a CUDA graph after a few ordinary calls.

    Args:
        function: from a list of tensors to one tensor; without a value read by the CPU. What else
            it touches (weights, optimisers, frames) must stay where it is.
    """

    def __init__(self, function: Callable[[list[torch.Tensor]], torch.Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._graph: Any = None
        self._inputs: list[torch.Tensor] = []
        self._output: torch.Tensor | None = None

    def __call__(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """The function's value; `inputs` keep their shapes from call to call."""
        self._calls += 1
        if self._calls <= _EAGER_CALLS:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                output = self._function(inputs)
            torch.cuda.current_stream().wait_stream(side)
            return output
        if self._graph is None:
            self._inputs = [tensor.clone() for tensor in inputs]
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output = self._function(self._inputs)
        for place, tensor in zip(self._inputs, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        self._graph.replay()
        assert self._output is not None
        return self._output.clone()
