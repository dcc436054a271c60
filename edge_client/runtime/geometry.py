"""How a weight tensor's kernels walk their input, their output and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedsparse.plan import Conv, Linear, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One spatial axis of a convolution.

    The input gradient of a strided convolution is taken phase by phase: phase `p` are the input
    positions `p, p + stride, ...`, which kernel position `k` reaches only if
    `(p + before - k) % stride == 0`; the output position that it reaches them from is
    `(p + before - k) / stride` steps on.
    """

    size: int
    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0

    @classmethod
    def of_window(
        cls, shape: Shape, kernel: Shape, stride: Shape, pads: tuple[tuple[int, int], ...]
    ) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis of a window; a one-dimensional map has one row."""
        axes = [
            cls(size=size, kernel=length, stride=step, before=before, after=after)
            for size, length, step, (before, after) in zip(
                shape[1:], kernel, stride, pads, strict=True
            )
        ]
        return (axes[0] if len(axes) == 2 else cls(size=1)), axes[-1]

    @property
    def padded(self) -> int:
        """Length of the padded input."""
        return self.size + self.before + self.after

    @property
    def output(self) -> int:
        """Length of the output."""
        return (self.padded - self.kernel) // self.stride + 1

    def phase_size(self, phase: int) -> int:
        """Input positions of a phase."""
        return max(0, -((phase - self.size) // self.stride))

    @property
    def gradient_pads(self) -> tuple[int, int]:
        """Zeros before and after the output's gradient that the walk of the phases needs."""
        before = after = 0
        for k in range(self.kernel):
            phase = (k - self.before) % self.stride
            count = self.phase_size(phase)
            if count:
                first = (phase + self.before - k) // self.stride
                before = max(before, -first)
                after = max(after, first + count - self.output)
        return before, after

    @property
    def gradient_padded(self) -> int:
        """Length of the padded gradient."""
        return self.output + sum(self.gradient_pads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Grid of runs of contiguous positions: `rows * columns` runs; steps are in positions.

    Attributes:
        rows, columns, run: runs below each other, beside each other, positions of one run.
        input_row, input_column, output_row, output_column: steps from run to run.
        output_start: where the first run of the output begins.
    """

    rows: int
    columns: int
    run: int
    input_row: int
    input_column: int
    output_row: int
    output_column: int
    output_start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A linear or convolutional node as its kernels see it; one-dimensional maps have one row."""

    rows: int
    channels: int
    vertical: Axis
    horizontal: Axis

    @classmethod
    def of(cls, operator: Linear | Conv, shape: Shape) -> Geometry:
        """The geometry of an operator that reads an input of `shape`."""
        if isinstance(operator, Linear):
            one = Axis(size=1)
            return cls(rows=operator.out_features, channels=shape[0], vertical=one, horizontal=one)
        vertical, horizontal = Axis.of_window(
            shape, operator.kernel, operator.stride, operator.pads
        )
        return cls(
            rows=operator.out_channels,
            channels=shape[0],
            vertical=vertical,
            horizontal=horizontal,
        )

    @property
    def phases(self) -> int:
        """Phases of the input gradient."""
        return self.vertical.stride * self.horizontal.stride

    @property
    def outputs(self) -> int:
        """Positions of an output channel."""
        return self.vertical.output * self.horizontal.output

    @property
    def inputs(self) -> int:
        """Positions of an input channel."""
        return self.vertical.size * self.horizontal.size

    @property
    def forward(self) -> Walk:
        """The walk over padded input and output; the weight gradient's too."""
        v, h = self.vertical, self.horizontal
        if h.stride > 1:
            return Walk(
                rows=v.output, columns=h.output, run=1,
                input_row=v.stride * h.padded, input_column=h.stride,
                output_row=h.output, output_column=1,
            )  # fmt: skip
        return _runs(v.output, h.output, v.stride * h.padded, h.output)

    def backward(self) -> Iterator[tuple[int, Walk]]:
        """Each phase that has input positions, with its walk over padded gradient and input."""
        v, h = self.vertical, self.horizontal
        for phase in range(self.phases):
            row, column = divmod(phase, h.stride)
            height, width = v.phase_size(row), h.phase_size(column)
            if not height or not width:
                continue
            if h.stride == 1 and row == 0:
                yield phase, _runs(height, width, h.gradient_padded, v.stride * h.size)
                continue
            columns, run = (1, width) if h.stride == 1 else (width, 1)
            yield phase, Walk(
                rows=height, columns=columns, run=run,
                input_row=h.gradient_padded, input_column=1,
                output_row=v.stride * h.size, output_column=h.stride,
                output_start=row * h.size + column,
            )  # fmt: skip


def _runs(height: int, width: int, input_row: int, output_row: int) -> Walk:
    """Whole rows as runs; where rows follow each other without a gap, one run of everything."""
    if input_row == output_row == width:
        height, width = 1, height * width
    return Walk(
        rows=height, columns=1, run=width,
        input_row=input_row, input_column=0, output_row=output_row, output_column=0,
    )  # fmt: skip
