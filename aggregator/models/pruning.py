"""Which layers a mask applies to.

By default every convolution and linear layer, except the last layer where it is linear (the
classifier: every class needs its inputs), depthwise convolutions (a few weights for each channel,
and a channel without weights is lost) and layers of fewer than 1,000 weights (nothing to save).
Source: the FLASH reference prunes all convolutions of its ResNet18, and conv2 and fc1 of MNISTNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Conv, Linear, Node, Plan, Role

MIN_WEIGHTS: Final = 1_000


def choose_prunable(plan: Plan, *, prune: Sequence[str] = (), dense: Sequence[str] = ()) -> Plan:
    """The same plan with other prunable layers.

    Args:
        plan: the model; its own choice is discarded.
        prune: patterns (`conv*`) of node names to prune although the default would not.
        dense: patterns of node names to keep dense; stronger than `prune`.

    Raises:
        ConfigError: a pattern that matches no convolution or linear layer.
        PlanError: nothing is left to prune.
    """
    layers = [node for node in plan.nodes if isinstance(node.operator, Conv | Linear)]
    for option, patterns in (("--prune", prune), ("--dense", dense)):
        for pattern in patterns:
            if not any(fnmatchcase(node.name, pattern) for node in layers):
                names = ", ".join(node.name for node in layers)
                raise ConfigError(f"{option} '{pattern}' matches no layer; layers: {names}")
    default = _default(plan, layers)
    chosen = {
        node.name
        for node in layers
        if (node.name in default or _matches(node, prune)) and not _matches(node, dense)
    }
    if not chosen:
        names = ", ".join(node.name for node in layers) or "none"
        raise PlanError(
            "no layer is left to prune: a last linear layer, depthwise convolutions and layers "
            f"below {MIN_WEIGHTS} weights stay dense unless named with --prune; layers: {names}"
        )
    return replace(
        plan, nodes=tuple(_with_prunable(node, node.name in chosen) for node in plan.nodes)
    )


def _default(plan: Plan, layers: Sequence[Node]) -> set[str]:
    sizes = {tensor.name: tensor.size for tensor in plan.tensors if tensor.role is Role.WEIGHT}
    classifier = [node.name for node in layers[-1:] if isinstance(node.operator, Linear)]
    return {
        node.name
        for node in layers
        if sizes[f"{node.name}.weight"] >= MIN_WEIGHTS
        and node.name not in classifier
        and not _is_depthwise(plan, node)
    }


def _is_depthwise(plan: Plan, node: Node) -> bool:
    operator = node.operator
    return isinstance(operator, Conv) and operator.is_depthwise(plan.shapes[node.inputs[0]][0])


def _matches(node: Node, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(node.name, pattern) for pattern in patterns)


def _with_prunable(node: Node, prunable: bool) -> Node:
    if not isinstance(node.operator, Conv | Linear):
        return node
    return replace(node, operator=replace(node.operator, prunable=prunable))
