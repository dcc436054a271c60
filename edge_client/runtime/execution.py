"""A program bound to memory and kernels: each instruction becomes one native call."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import numpy as np

from edge_client.runtime.arena import ALIGNMENT, lay_out
from edge_client.runtime.geometry import Walk
from edge_client.runtime.native import structures
from edge_client.runtime.native.library import Library
from edge_client.runtime.native.structures import ARGUMENTS, Call
from edge_client.runtime.parameters import Parameters
from edge_client.runtime.program import FLOAT_BYTES, Buffer, Field, Instruction, Program, Ref, Store
from edge_client.runtime.targets import Targets
from fedsparse.types import Float32Array

# What runs in place of a kernel where the model predicts; None: nothing.
INFERENCE: Final[dict[str, str | None]] = {
    "batch_norm": "batch_norm_inference",
    "batch_norm_statistics": "batch_norm_statistics_inference",
    "dropout": "dropout_inference",
}

# Kernels whose vectors lie along the batch, however much there is of it.
BATCHWISE: Final = frozenset({
    "max_pool", "max_pool_backward", "avg_pool", "avg_pool_backward",
    "global_avg_pool", "global_avg_pool_backward", "upsample_backward",
    "group_norm", "group_norm_backward", "group_norm_parameters",
    "gate", "gate_gradient", "dropout", "mse", "bce",
})  # fmt: skip

# Small enough that nobody waits long for the last one.
CHUNKS_PER_THREAD: Final = 4


class Execution:
    """Runs a program's parts on an arena of its own.

    Args:
        program: what to run.
        parameters: the tensors that it reads and updates.
        batch_size: the most samples that go through at once.
        library: the kernels.
        threads: that share the larger calls.
        shared_work: multiply-adds that make a call large.
    """

    def __init__(
        self,
        program: Program,
        parameters: Parameters,
        batch_size: int,
        library: Library,
        *,
        threads: int = 1,
        shared_work: int = 0,
    ) -> None:
        self._program = program
        self._parameters = parameters
        self._library = library
        self._batch_size = batch_size
        self._threads = threads
        self._shared_work = shared_work
        self._team = library.team(threads)
        self._seed = ctypes.c_uint64()
        self._sample = ctypes.c_int64()
        self._loss = ctypes.c_double()
        self._total = ctypes.c_double()
        self._learning_rate = ctypes.c_double()
        arena = lay_out(program.buffers, batch_size)
        # A vector's room after the last buffer: kernels read past the end of a run (tails.h).
        block = np.empty(arena.size_bytes + 2 * ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        self._arena = block[start : start + arena.size_bytes]
        self._offsets = dict(zip(map(id, program.buffers), arena.offsets, strict=True))
        self._arguments: list[ctypes.Structure] = []  # referred to by address only
        load = self._bind(program.load)
        self._load_arguments = self._arguments[-1]
        forward = [self._bind(instruction) for instruction in program.forward]
        self._start = self._calls(program.start)
        self._train = _packed([load, *forward])
        self._infer = _packed(
            [load, *(self._inference(*pair) for pair in zip(program.forward, forward, strict=True))]
        )
        self._loss_call = self._calls([program.loss])
        self._loss_arguments = self._arguments[-1]
        self._backward = self._calls(program.backward)
        self._update = self._calls(program.update)

    def take_pages(self) -> None:
        """Take all memory from the system at once; nothing may be in it yet."""
        self._arena.fill(0)

    def begin(self, total: int, *, seed: int) -> None:
        """Start a step over `total` samples, in one micro-batch or several.

        Args:
            total: samples of all of them.
            seed: of the step's random numbers; its lowest 64 bits count.
        """
        self._total.value = total
        self._seed.value = seed
        self._sample.value = 0
        self._loss.value = 0.0
        self._run(self._start, 1)

    def forward(self, samples: Float32Array, *, training: bool) -> Float32Array:
        """Logits `(classes, batch)` of contiguous samples: a view, overwritten by what follows."""
        batch = len(samples)
        self._load_arguments.input = samples.ctypes.data
        self._run(self._train if training else self._infer, batch)
        start = self._offsets[id(self._program.logits)]  # of a buffer that may have grown
        size = FLOAT_BYTES * self._program.outputs * batch
        return self._arena[start : start + size].view(np.float32).reshape(-1, batch)

    def loss(self, targets: Targets) -> float:
        """The loss of the step's samples so far, over all of them; also prepares the way back."""
        self._loss_arguments.targets = targets.ctypes.data
        self._run(self._loss_call, len(targets))
        return self._loss.value

    def backward(self, batch: int, learning_rate: float) -> None:
        """The way back of the micro-batch that went forward last."""
        self._learning_rate.value = learning_rate
        self._run(self._backward, batch)
        self._sample.value += batch

    def finish(self) -> None:
        """Apply what is left to be applied of a step."""
        self._run(self._update, 1)

    def _run(self, calls: ctypes.Array[Call], batch: int) -> None:
        if len(calls):
            team = self._team.address if self._team else None
            self._library.run(ctypes.addressof(calls), len(calls), batch, team)

    def _calls(self, instructions: Sequence[Instruction]) -> ctypes.Array[Call]:
        return _packed([self._bind(instruction) for instruction in instructions])

    def _bind(self, instruction: Instruction) -> Call:
        values = {name: self._resolved(value) for name, value in instruction.fields.items()}
        arguments = ARGUMENTS[instruction.kernel](**values)
        self._arguments.append(arguments)
        return Call(
            function=self._library.kernel(instruction.kernel, self._run_length(instruction)),
            arguments=ctypes.addressof(arguments),
            units=instruction.units,
            chunk=self._chunk(instruction),
        )

    def _inference(self, instruction: Instruction, call: Call) -> Call:
        """The call that predicts; without units where there is nothing to do."""
        kernel = INFERENCE.get(instruction.kernel, instruction.kernel)
        if kernel is None:
            return Call(function=call.function, arguments=call.arguments, units=0, chunk=0)
        function = self._library.kernel(kernel, self._run_length(instruction))
        return Call(function=function, arguments=call.arguments, units=call.units, chunk=call.chunk)

    def _chunk(self, instruction: Instruction) -> int:
        """Units that a thread takes at a time; all of them where sharing does not pay."""
        work = instruction.work.amount(self._batch_size)
        if self._threads == 1 or work < self._shared_work:
            return instruction.units
        return math.ceil(instruction.units / (CHUNKS_PER_THREAD * self._threads))

    def _run_length(self, instruction: Instruction) -> int | None:
        """Contiguous floats that the kernel's vectors must fit; None where it is all there is."""
        walk = instruction.fields.get("walk")
        if isinstance(walk, Walk):
            whole = walk.output_step == 1  # else a vector should lie within one position
            return walk.run * self._batch_size if whole else self._batch_size
        return self._batch_size if instruction.kernel in BATCHWISE else None

    def _resolved(self, value: Field) -> int | float | ctypes.Structure | None:
        """The number, walk or address that an argument stands for."""
        if isinstance(value, Walk):
            return structures.Walk(**asdict(value))
        if isinstance(value, Buffer):
            return int(self._arena.ctypes.data) + self._offsets[id(value)]
        if not isinstance(value, Ref):
            return value
        own = {
            Store.SAMPLES: 0,  # set anew for every batch
            Store.TARGETS: 0,  # likewise
            Store.SEED: ctypes.addressof(self._seed),
            Store.SAMPLE: ctypes.addressof(self._sample),
            Store.LOSS: ctypes.addressof(self._loss),
            Store.TOTAL: ctypes.addressof(self._total),
            Store.LEARNING_RATE: ctypes.addressof(self._learning_rate),
        }
        return own[value.store] if value.store in own else self._parameters.address(value)


def _packed(calls: Sequence[Call]) -> ctypes.Array[Call]:
    return (Call * len(calls))(*calls)
