"""A program bound to memory and kernels: each instruction becomes one call."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np

from edge_client.runtime.arena import ALIGNMENT, lay_out
from edge_client.runtime.native.library import Kernel, Library
from edge_client.runtime.native.structures import ARGUMENTS
from edge_client.runtime.parameters import Int32Array, Parameters
from edge_client.runtime.program import Buffer, Field, Instruction, Program, Ref, Store
from fedsparse.types import Float32Array


class Execution:
    """Runs a program's parts on an arena of its own.

    Args:
        program: what to run.
        parameters: the tensors that it reads and updates.
        batch_size: the largest batch.
        library: the kernels.
    """

    def __init__(
        self, program: Program, parameters: Parameters, batch_size: int, library: Library
    ) -> None:
        self._program = program
        self._parameters = parameters
        self._library = library
        self._batch_size = batch_size
        self._labels: Int32Array = np.zeros(batch_size, np.int32)
        self._loss = ctypes.c_double()
        self._learning_rate = ctypes.c_double()
        arena = lay_out(program.buffers, batch_size)
        block = np.empty(arena.size_bytes + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        self._arena = block[start : start + arena.size_bytes]
        self._offsets = dict(zip(map(id, program.buffers), arena.offsets, strict=True))
        self._arguments: list[ctypes.Structure] = []  # referred to by address only
        self._load = self._bind(program.load)
        self._load_arguments = self._arguments[-1]
        self._train = [self._bind(instruction) for instruction in program.forward]
        self._infer = [
            (library.kernel("batch_norm_inference"), arguments)
            if instruction.kernel == "batch_norm"
            else (kernel, arguments)
            for instruction, (kernel, arguments) in zip(program.forward, self._train, strict=True)
        ]
        self._backward = [self._bind(instruction) for instruction in program.backward]

    def forward(self, samples: Float32Array, *, training: bool) -> Float32Array:
        """Logits `(classes, batch)` of contiguous samples: a view, overwritten by what follows."""
        batch = len(samples)
        self._load_arguments.input = samples.ctypes.data
        _run((self._load, *(self._train if training else self._infer)), batch)
        logits = self._program.logits
        start = self._offsets[id(logits)]
        view = self._arena[start : start + logits.size_bytes(batch)].view(np.float32)
        return view.reshape(-1, batch)

    def loss(self, labels: Int32Array) -> float:
        """The mean loss of the batch that went forward; also prepares the way back."""
        self._labels[: len(labels)] = labels
        _run(self._backward[:1], len(labels))
        return self._loss.value

    def update(self, batch: int, learning_rate: float) -> None:
        """The way back, every tensor updated as soon as its gradient is there."""
        self._learning_rate.value = learning_rate
        _run(self._backward[1:], batch)

    def _bind(self, instruction: Instruction) -> tuple[Kernel, int]:
        values = {name: self._resolved(value) for name, value in instruction.fields.items()}
        arguments = ARGUMENTS[instruction.kernel](**values)
        self._arguments.append(arguments)
        kernel = self._library.kernel(instruction.kernel, self._run_length(instruction))
        return kernel, ctypes.addressof(arguments)

    def _run_length(self, instruction: Instruction) -> int | None:
        """Contiguous floats that the kernel's vectors must fit; None where it is all there is."""
        run = instruction.fields.get("run")
        if isinstance(run, int):
            return run * self._batch_size
        return self._batch_size if "pool" in instruction.kernel else None

    def _resolved(self, value: Field) -> int | float | None:
        """The number or the address that an argument stands for."""
        if isinstance(value, Buffer):
            return int(self._arena.ctypes.data) + self._offsets[id(value)]
        if not isinstance(value, Ref):
            return value
        own = {
            Store.SAMPLES: 0,  # set anew for every batch
            Store.LABELS: self._labels.ctypes.data,
            Store.LOSS: ctypes.addressof(self._loss),
            Store.LEARNING_RATE: ctypes.addressof(self._learning_rate),
        }
        return own[value.store] if value.store in own else self._parameters.address(value)


def _run(calls: Iterable[tuple[Kernel, int]], batch: int) -> None:
    for kernel, arguments in calls:
        kernel(arguments, batch)
