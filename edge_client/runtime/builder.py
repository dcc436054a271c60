"""A program under construction: the instructions so far, and what lives in which buffer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping

from edge_client.runtime.fusion import find_fusions
from edge_client.runtime.geometry import Geometry
from edge_client.runtime.program import (
    FLOAT_BYTES,
    Buffer,
    Field,
    Instruction,
    Ref,
    Store,
    WeightTensor,
    Work,
)
from fedsparse.plan import INPUT, Plan


class Builder:
    """Collects the instructions of one step; the lowering of each operator calls it.

    Args:
        plan: the model.
        kept: name of each weight tensor -> kept weights.
        momentum, weight_decay: of SGD.
        accumulate: whether gradients of micro-batches are added up before an update.
        dense_layers: weight tensors that dense kernels are to be taken for.
    """

    def __init__(
        self,
        plan: Plan,
        kept: Mapping[str, int],
        *,
        momentum: float,
        weight_decay: float,
        accumulate: bool = False,
        dense_layers: Collection[str] = (),
    ) -> None:
        self.plan = plan
        self.kept = kept
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.accumulate = accumulate
        self.dense_layers = frozenset(dense_layers)
        self.node = INPUT  # the one that is being lowered
        self.sizes = {tensor.name: tensor.size for tensor in plan.tensors}
        self.instructions: list[Instruction] = []
        self.start: list[Instruction] = []
        self.updates: list[Instruction] = []
        self.buffers: list[Buffer] = []
        self.values: dict[str, Buffer] = {}
        self.gradients: dict[str, Buffer] = {}
        self.extras: dict[tuple[str, str], Buffer] = {}
        self.weights: list[WeightTensor] = []
        self.lone_norms: list[str] = []
        self.fusions = find_fusions(plan)
        self.deferred: dict[str, dict[str, Field]] = {}  # value -> how its reader makes it
        self._readers = Counter(source for node in plan.nodes for source in node.inputs)
        self.differentiable = {INPUT: False}
        for node in plan.nodes:
            owns = bool(node.operator.tensors(node.name, self.input_shapes(node.inputs)))
            self.differentiable[node.name] = owns or any(
                self.differentiable[source] for source in node.inputs
            )

    def input_shapes(self, inputs: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the values called `inputs`."""
        return tuple(self.plan.shapes[name] for name in inputs)

    def floats(self, name: str) -> int:
        """Floats of the value called `name`, for one sample."""
        return math.prod(self.plan.shapes[name])

    def channels(self, name: str) -> tuple[int, int]:
        """Channels of the value called `name`, and positions of each."""
        channels, *spatial = self.plan.shapes[name]
        return channels, math.prod(spatial)

    def buffer(self, *, floats: int = 0, fixed_floats: int = 0, sample_bytes: int = 0) -> Buffer:
        """A new buffer: `floats` and `sample_bytes` for each sample, `fixed_floats` for all."""
        made = Buffer(
            sample_bytes=sample_bytes + FLOAT_BYTES * floats, fixed_bytes=FLOAT_BYTES * fixed_floats
        )
        self.buffers.append(made)
        return made

    def emit(self, kernel: str, units: int, work: Work, /, **fields: Field) -> None:
        """Append a kernel call; the buffers among its fields live at least until it is done."""
        now = len(self.instructions)
        for buffer in fields.values():
            if isinstance(buffer, Buffer):
                buffer.first = now if buffer.first < 0 else buffer.first
                buffer.last = now
        self.instructions.append(self._call(kernel, units, work, fields))

    def _call(
        self, kernel: str, units: int, work: Work, fields: Mapping[str, Field]
    ) -> Instruction:
        return Instruction(kernel=kernel, fields=fields, node=self.node, units=units, work=work)

    def read(self, name: str, *, saved: bool = False) -> Buffer:
        """The value called `name`, for one forward reader; `saved` if backward reads it again."""
        buffer = self.values[name]
        buffer.pending -= 1
        buffer.saved |= saved
        return buffer

    def may_overwrite(self, buffer: Buffer) -> bool:
        """Whether nobody will read the buffer's present contents any more."""
        return buffer.pending == 0 and not buffer.saved

    def define(self, name: str, buffer: Buffer) -> None:
        """Call what `buffer` holds `name`."""
        buffer.pending += self._readers[name]
        self.values[name] = buffer

    def deliver(self, name: str, gradient: Buffer, *, owned: bool = True) -> None:
        """Add a reader's share to the gradient of `name`; an `owned` buffer may become it."""
        if not self.differentiable[name]:
            return
        count = self.floats(name)
        if name in self.gradients:
            total = self.gradients[name]
            self.emit(
                "add",
                count,
                Work(touches=3 * count),
                count=count,
                input=total,
                other=gradient,
                output=total,
            )
        elif owned:
            self.gradients[name] = gradient
        else:
            copied = self.gradients[name] = self.buffer(floats=count)
            self.emit(
                "copy", count, Work(touches=2 * count), count=count, input=gradient, output=copied
            )

    def padded(self, geometry: Geometry, name: str) -> Buffer:
        """The value called `name`, padded and divided into planes where its layer needs that."""
        if geometry.is_plain:
            return self.values[name]
        v, h = geometry.vertical, geometry.horizontal
        return self._pad(
            self.values[name],
            geometry.channels,
            geometry.padded,
            **self.deferred.get(name, {}),
            height=v.size,
            width=h.size,
            top=v.before,
            left=h.before,
            stride_height=v.stride,
            stride_width=h.stride,
            planes_down=v.planes,
            planes_across=h.planes,
            plane_height=v.plane,
            plane_width=h.plane,
        )

    def padded_gradient(self, geometry: Geometry, gradient: Buffer) -> Buffer:
        """The gradient of a layer's output, padded for the walk over the input's phases."""
        v, h = geometry.vertical, geometry.horizontal
        if not any((*v.gradient_pads, *h.gradient_pads)):
            return gradient
        return self._pad(
            gradient,
            geometry.rows,
            geometry.gradient_padded,
            height=v.output,
            width=h.output,
            top=v.gradient_pads[0],
            left=h.gradient_pads[0],
            stride_height=1,
            stride_width=1,
            planes_down=1,
            planes_across=1,
            plane_height=v.gradient_padded,
            plane_width=h.gradient_padded,
        )

    def _pad(self, source: Buffer, channels: int, positions: int, **fields: Field) -> Buffer:
        made = self.buffer(floats=channels * positions)
        self.emit(
            "normalise_pad" if "mean" in fields else "pad",
            channels,
            Work(touches=2 * channels * positions),
            channels=channels,
            input=source,
            output=made,
            **fields,
        )
        return made

    def parameter_gradient(self, tensor: str) -> Buffer:
        """Where the gradient of a tensor goes; with `accumulate` the kernel must add to it."""
        count = self.count(tensor)
        made = self.buffer(fixed_floats=count)
        if self.accumulate:
            made.persistent = True
            clear: dict[str, Field] = {"count": count, "output": made}
            self.start.append(self._call("clear", count, Work(fixed_touches=count), clear))
        return made

    def count(self, tensor: str) -> int:
        """Values of a tensor that exist."""
        return self.kept.get(tensor, self.sizes[tensor])

    def update(self, tensor: str, gradient: Buffer) -> None:
        """One step of SGD on a tensor: at once, or after the last micro-batch."""
        count = self.count(tensor)
        velocity = Ref(store=Store.VELOCITY, tensor=tensor) if self.momentum > 0 else None
        work = Work(fixed_touches=(5 if velocity else 3) * count)
        fields: dict[str, Field] = {
            "count": count,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "learning_rate": Ref(store=Store.LEARNING_RATE),
            "gradient": gradient,
            "velocity": velocity,
            "value": Ref(store=Store.VALUE, tensor=tensor),
        }
        if self.accumulate:
            self.updates.append(self._call("sgd", count, work, fields))
        else:
            self.emit("sgd", count, work, **fields)
