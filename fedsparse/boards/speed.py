"""How fast a board trains where nobody has measured it: from its clock, its vectors, its memory.

A sparse product loads once for every multiply-add, so that a core does as many in a cycle as the
narrower of its vector multiply-adds and its vector loads has lanes, of which it reaches a share.
What surrounds the products moves data: memory bounds the rate, as if no cache held anything.

    rate = min(clock x min(multiply-add lanes, load lanes) x efficiency,
               2 x memcpy / bytes a multiply-add)

The figures are a board's, the shares are ours and below: one place to change for all boards. The
result is an estimate and is labelled as one wherever it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fedsparse.boards.figure import ESTIMATED, Figure

IN_ORDER: Final = "in-order"
OUT_OF_ORDER: Final = "out-of-order"

# The share of its lanes that a core is taken to reach. HPL reaches 0.37 to 0.50 of the same kind
# of peak on the Pi 4 and the Pi 5, and the 128-bit variant of the sparse kernels about half of its
# lanes on one shared x86-64 core. A core that cannot run ahead of a load that misses is taken to
# reach less.
EFFICIENCY: Final[Mapping[str, float]] = MappingProxyType({OUT_OF_ORDER: 0.4, IN_ORDER: 0.25})

# Buffers that a training step reads or writes for each multiply-add of its work: the most of any
# model of the zoo at density 0.05, batches of 32. At 0.2, half of the models take a third of it.
BYTES_A_MULTIPLY_ADD: Final = 1.4

COPY_DIRECTIONS: Final = 2  # what is copied is both read and written
GIGA: Final = 1e9


def estimate_speed(
    clock_hz: Figure,
    fma_lanes_per_cycle: Figure,
    load_lanes_per_cycle: Figure,
    pipeline: str,
    memcpy_bytes_per_s: Figure | None,
) -> Figure:
    """Multiply-adds per second of one thread that trains on the sparse kernels.

    Args:
        clock_hz, fma_lanes_per_cycle, load_lanes_per_cycle: of one core; lanes are of 32 bits.
        pipeline: `in-order` or `out-of-order`.
        memcpy_bytes_per_s: None, unknown, does not bound the rate.
    """
    lanes = min(fma_lanes_per_cycle.value, load_lanes_per_cycle.value)
    rate = clock_hz.value * lanes * EFFICIENCY[pipeline]
    source = (
        f"clock x lanes x efficiency = {clock_hz.value / GIGA:g} GHz x "
        f"min({fma_lanes_per_cycle.value:g}, {load_lanes_per_cycle.value:g}) x "
        f"{EFFICIENCY[pipeline]:g} ({pipeline})"
    )
    used = [clock_hz, fma_lanes_per_cycle, load_lanes_per_cycle]
    if memcpy_bytes_per_s is not None:
        bound = COPY_DIRECTIONS * memcpy_bytes_per_s.value / BYTES_A_MULTIPLY_ADD
        if bound < rate:
            rate, used = bound, [memcpy_bytes_per_s]
            source = (
                f"bounded by memory: {COPY_DIRECTIONS} x memcpy / bytes a multiply-add = "
                f"{COPY_DIRECTIONS} x {memcpy_bytes_per_s.value / GIGA:g} GB/s / "
                f"{BYTES_A_MULTIPLY_ADD:g}, less than {source}"
            )
    return Figure(
        value=rate, basis=ESTIMATED, source=source, date=max(figure.date for figure in used)
    )
