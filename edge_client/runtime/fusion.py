"""Which batch-norms do more than normalise, so that their output need not be gone over again.

Memory traffic, not arithmetic, is what normalisation costs. A batch-norm whose one reader is a
ReLU clamps as it writes. If then the one reader is a layer that pads its input, it writes nothing:
the layer normalises and clamps as it pads, on the way back once more, and what is kept from the one
to the other is the batch-norm's input alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge_client.runtime.geometry import Geometry
from fedsparse.plan import BatchNorm, Conv, Node, Plan, Relu, Relu6


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """What becomes of one batch-norm.

    Attributes:
        norm: its node.
        clamp: the ReLU that it does, too; None if there is none.
        deferred: whether its reader does all of it.
    """

    norm: str
    clamp: Node | None
    deferred: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """What the output is clamped to."""
        if self.clamp is None:
            return -math.inf, math.inf
        return 0.0, 6.0 if isinstance(self.clamp.operator, Relu6) else math.inf


def find_fusions(plan: Plan) -> Mapping[str, Fusion]:
    """Name of every batch-norm and of every ReLU that one does -> the fusion."""
    readers: dict[str, list[Node]] = {}
    for node in plan.nodes:
        for source in node.inputs:
            readers.setdefault(source, []).append(node)
    found: dict[str, Fusion] = {}
    for node in plan.nodes:
        if not isinstance(node.operator, BatchNorm):
            continue
        clamp = _only(readers, node.name)
        if clamp is None or not isinstance(clamp.operator, Relu | Relu6):
            clamp = None
        reader = _only(readers, clamp.name if clamp else node.name)
        fusion = Fusion(norm=node.name, clamp=clamp, deferred=_pads(plan, reader))
        found[node.name] = fusion
        if clamp:
            found[clamp.name] = fusion
    return found


def _only(readers: Mapping[str, list[Node]], name: str) -> Node | None:
    found = readers.get(name, [])
    return found[0] if len(found) == 1 else None


def _pads(plan: Plan, reader: Node | None) -> bool:
    if reader is None or not isinstance(reader.operator, Conv):
        return False
    return not Geometry.of(reader.operator, plan.shapes[reader.inputs[0]]).is_plain
