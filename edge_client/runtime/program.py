"""A training step as data: kernel calls in order, and the buffers that they share.

Nothing here computes: the engine binds a program to memory and kernels, `cost` prices it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from edge_client.runtime.geometry import Geometry, Walk

FLOAT_BYTES: Final = 4


@dataclass(slots=True, kw_only=True, eq=False)
class Buffer:
    """A piece of the arena, alive from the first instruction that touches it to the last.

    Attributes:
        sample_bytes: bytes for every sample of the batch.
        fixed_bytes: bytes whatever the batch.
        first, last: numbers of those instructions.
        pending: forward readers still to come, while a program is being built.
        saved: a backward instruction reads it: no forward instruction may overwrite it.
        persistent: it lives for the whole step, through all its micro-batches.
    """

    sample_bytes: int = 0
    fixed_bytes: int = 0
    first: int = -1
    last: int = -1
    pending: int = 0
    saved: bool = False
    persistent: bool = False

    def size_bytes(self, batch: int) -> int:
        """Bytes at this batch size."""
        return self.sample_bytes * batch + self.fixed_bytes


class Store(Enum):
    """What an instruction may point at outside of the arena."""

    SAMPLES = "samples"
    TARGETS = "targets"
    LOSS = "loss"
    TOTAL = "total"
    LEARNING_RATE = "learning_rate"
    SEED = "seed"
    SAMPLE = "sample"
    VALUE = "value"
    VELOCITY = "velocity"
    ROW_START = "row_start"
    OFFSET = "offset"
    BACK_START = "back_start"
    BACK_OFFSET = "back_offset"
    BACK_ORDER = "back_order"
    POSITION = "position"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A pointer into a store; `shift` counts elements of four bytes."""

    store: Store
    tensor: str = ""
    shift: int = 0


Field: TypeAlias = int | float | Walk | Buffer | Ref | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a kernel call has to do.

    Attributes:
        multiply_adds: of sparse products, for each sample.
        touches: other work for each sample, in floats read or written; one takes about as long
            as a multiply-add (measured on x86-64, AVX2 and AVX-512, batch 16 and 32).
        fixed_touches: the same, whatever the batch.
    """

    multiply_adds: int = 0
    touches: int = 0
    fixed_touches: int = 0

    def amount(self, batch: int) -> int:
        """All of it, in multiply-adds."""
        return (self.multiply_adds + self.touches) * batch + self.fixed_touches


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One call of a kernel.

    Attributes:
        kernel: its name in the library, without prefix and variant.
        fields: its arguments, by the names of `native/operations.h`; what is missing is NULL.
        node: the node of the plan that it works for.
        units: independent parts of it, which threads may share (`native/operations.h`).
        work: what all of it takes.
    """

    kernel: str
    fields: Mapping[str, Field]
    node: str
    units: int
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightTensor:
    """A weight tensor: its index's geometry, how much of it is kept, who reads the index.

    A `dense` one has the index of a single row, which all rows share, and the positions of its kept
    values, unless all are kept.
    """

    name: str
    geometry: Geometry
    kept: int
    prunable: bool
    input_gradient: bool
    dense: bool = False

    @property
    def size(self) -> int:
        """Weights, kept or not."""
        return self.geometry.rows * self.geometry.row_entries

    @property
    def is_full(self) -> bool:
        """Whether every weight is kept."""
        return self.kept == self.size

    @property
    def index_sizes(self) -> dict[Store, int]:
        """Elements (int32) of each array of the index."""
        geometry = self.geometry
        rows, channels, entries, back_entries = (
            geometry.rows,
            geometry.channels,
            self.kept,
            self.kept,
        )
        if self.dense:
            rows, channels, entries = 1, 1, geometry.row_entries
            back_entries = geometry.group_rows * geometry.window
        sizes = {Store.ROW_START: rows + 1, Store.OFFSET: entries}
        if self.input_gradient:
            sizes[Store.BACK_START] = channels * geometry.phases + 1
            sizes[Store.BACK_OFFSET] = sizes[Store.BACK_ORDER] = back_entries
        if self.dense and not self.is_full:
            sizes[Store.POSITION] = self.kept
        return sizes

    @property
    def index_bytes(self) -> int:
        """Bytes of the index."""
        return FLOAT_BYTES * sum(self.index_sizes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One training step of a plan; `load` and `forward` alone predict.

    Where the gradients of several micro-batches are added up, `start` clears them and `update`
    applies them; otherwise every tensor is updated on the way back, as soon as its gradient is
    there, and both are empty.

    Attributes:
        start: once a step, before the first micro-batch.
        load: brings the samples into the batch-innermost layout.
        forward, loss, backward: for each micro-batch.
        update: once a step, after the last.
        buffers: all that the instructions touch.
        logits: where `forward` leaves them, `[class][batch]`, at the buffer's start.
        outputs: how many there are for each sample.
        weights: the weight tensors in plan order.
        lone_norms: batch-norm nodes that see one value of a channel for each sample: a batch of
            one has no variance there.
    """

    start: tuple[Instruction, ...]
    load: Instruction
    forward: tuple[Instruction, ...]
    loss: Instruction
    backward: tuple[Instruction, ...]
    update: tuple[Instruction, ...]
    buffers: tuple[Buffer, ...]
    logits: Buffer
    outputs: int
    weights: tuple[WeightTensor, ...]
    lone_norms: tuple[str, ...]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All of them, in order."""
        return (
            *self.start, self.load, *self.forward, self.loss, *self.backward, *self.update,
        )  # fmt: skip
