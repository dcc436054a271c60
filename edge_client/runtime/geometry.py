"""How a weight tensor's kernels walk their input, their output and its gradient.

A strided convolution is one of stride 1 over the phases of its input: padding divides the input
into planes, so that what a kernel position reads lies together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedsparse.plan import Conv, Linear, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One spatial axis of a window that slides over a padded input.

    Kernel position `k` reads plane `k * dilation % stride` of the input, `k * dilation // stride`
    positions on.

    The input gradient of a strided convolution is taken phase by phase: phase `p` are the input
    positions `p, p + stride, ...`, which kernel position `k` reaches only if
    `(p + before - k * dilation) % stride == 0`; the output position that it reaches them from is
    `(p + before - k * dilation) / stride` steps on.
    """

    size: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @classmethod
    def of_window(
        cls,
        shape: Shape,
        kernel: Shape,
        stride: Shape,
        pads: tuple[tuple[int, int], ...],
        dilation: Shape | None = None,
    ) -> tuple[Axis, Axis]:
        """The vertical and the horizontal axis of a window; a one-dimensional map has one row."""
        axes = [
            cls(size=size, kernel=length, stride=step, dilation=apart, before=before, after=after)
            for size, length, step, apart, (before, after) in zip(
                shape[1:], kernel, stride, dilation or (1,) * len(kernel), pads, strict=True
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
        return (self.padded - (self.kernel - 1) * self.dilation - 1) // self.stride + 1

    @property
    def planes(self) -> int:
        """Planes of the padded input that are read, from the first on."""
        return max(k * self.dilation % self.stride for k in range(self.kernel)) + 1

    @property
    def plane(self) -> int:
        """Length of a plane."""
        return -(-self.padded // self.stride)

    @property
    def is_plain(self) -> bool:
        """Whether the input can be read as it is."""
        return self.stride == 1 and self.before == self.after == 0

    def phase_size(self, phase: int) -> int:
        """Input positions of a phase."""
        return max(0, -((phase - self.size) // self.stride))

    @property
    def gradient_pads(self) -> tuple[int, int]:
        """Zeros before and after the output's gradient that the walk of the phases needs."""
        before = after = 0
        for k in range(self.kernel):
            reached = k * self.dilation - self.before
            phase = reached % self.stride
            count = self.phase_size(phase)
            if count:
                first = (phase - reached) // self.stride
                before = max(before, -first)
                after = max(after, first + count - self.output)
        return before, after

    @property
    def gradient_padded(self) -> int:
        """Length of the padded gradient."""
        return self.output + sum(self.gradient_pads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The positions of a product: `lines` runs of `run` contiguous ones; steps are in positions.

    Attributes:
        input_line, output_line: steps from run to run.
        output_step: from position to position of a run, in the output; in the input it is 1.
        output_start: where the first run of the output begins.
    """

    lines: int
    run: int
    input_line: int
    output_line: int
    output_step: int = 1
    output_start: int = 0

    @classmethod
    def over(cls, height: int, width: int, input_line: int, output_line: int) -> Walk:
        """Rows as runs; where rows follow each other without a gap, one run of everything."""
        if input_line == output_line == width:
            height, width = 1, height * width
        return cls(lines=height, run=width, input_line=input_line, output_line=output_line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A linear or convolutional node as its kernels see it; one-dimensional maps have one row.

    Attributes:
        rows: output channels.
        group_channels: input channels of a group.
        groups: rows and input channels fall into that many equal parts.
    """

    rows: int
    group_channels: int
    groups: int = 1
    vertical: Axis
    horizontal: Axis

    @classmethod
    def of(cls, operator: Linear | Conv, shape: Shape) -> Geometry:
        """The geometry of an operator that reads an input of `shape`."""
        if isinstance(operator, Linear):
            one = Axis(size=1)
            return cls(
                rows=operator.out_features, group_channels=shape[0], vertical=one, horizontal=one
            )
        vertical, horizontal = Axis.of_window(
            shape, operator.kernel, operator.stride, operator.pads, operator.dilation
        )
        return cls(
            rows=operator.out_channels,
            group_channels=shape[0] // operator.groups,
            groups=operator.groups,
            vertical=vertical,
            horizontal=horizontal,
        )

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.group_channels * self.groups

    @property
    def group_rows(self) -> int:
        """Output channels of a group."""
        return self.rows // self.groups

    @property
    def window(self) -> int:
        """Kernel positions."""
        return self.vertical.kernel * self.horizontal.kernel

    @property
    def row_entries(self) -> int:
        """Weights of a row."""
        return self.group_channels * self.window

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
    def padded(self) -> int:
        """Positions of an input channel once it is padded and divided into planes."""
        v, h = self.vertical, self.horizontal
        return v.planes * h.planes * v.plane * h.plane

    @property
    def gradient_padded(self) -> int:
        """Positions of an output channel's padded gradient."""
        return self.vertical.gradient_padded * self.horizontal.gradient_padded

    @property
    def is_plain(self) -> bool:
        """Whether the input can be read as it is."""
        return self.vertical.is_plain and self.horizontal.is_plain

    @property
    def forward(self) -> Walk:
        """The walk over padded input and output; the weight gradient's too."""
        v, h = self.vertical, self.horizontal
        return Walk.over(v.output, h.output, h.plane, h.output)

    def backward(self) -> Iterator[tuple[int, Walk]]:
        """Each phase that has input positions, with its walk over padded gradient and input."""
        v, h = self.vertical, self.horizontal
        for phase in range(self.phases):
            row, column = divmod(phase, h.stride)
            height, width = v.phase_size(row), h.phase_size(column)
            if not height or not width:
                continue
            if self.phases == 1:
                yield phase, Walk.over(height, width, h.gradient_padded, h.size)
                continue
            yield (
                phase,
                Walk(
                    lines=height,
                    run=width,
                    input_line=h.gradient_padded,
                    output_line=v.stride * h.size,
                    output_step=h.stride,
                    output_start=row * h.size + column,
                ),
            )
