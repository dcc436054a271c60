"""How a window slides over the spatial axes of a feature map: convolution and pooling."""

from __future__ import annotations

from fedsparse.errors import PlanError
from fedsparse.plan.operator import Shape

Pads = tuple[tuple[int, int], ...]  # (before, after) of each spatial axis


def slide(shape: Shape, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape = ()) -> Shape:
    """The spatial sizes of the output; floor division, as torch without `ceil_mode`.

    Args:
        shape: `(channels, *spatial)`, one or two spatial axes.
        kernel, stride, pads: of each spatial axis.
        dilation: the step from one kernel position to the next; empty = 1 everywhere.

    Raises:
        PlanError: not one value for each axis, or a window larger than the padded input.
    """
    spatial, dilation = shape[1:], dilation or (1,) * len(kernel)
    lengths = {len(each) for each in (spatial, kernel, stride, pads, dilation)}
    if len(lengths) != 1 or len(spatial) not in (1, 2):
        raise PlanError(
            f"input {shape} needs one kernel size, stride and padding for each of its one or two "
            f"spatial axes, got kernel {kernel}, stride {stride}, pads {pads}, dilation {dilation}"
        )
    sizes = []
    for length, size, step, (before, after), apart in zip(
        spatial, kernel, stride, pads, dilation, strict=True
    ):
        padded, reach = length + before + after, (size - 1) * apart + 1
        if reach > padded:
            spread = f" with dilation {dilation}" if max(dilation) > 1 else ""
            raise PlanError(
                f"a window of {kernel}{spread} does not fit the input {shape} with pads {pads}"
            )
        sizes.append((padded - reach) // step + 1)
    return tuple(sizes)
