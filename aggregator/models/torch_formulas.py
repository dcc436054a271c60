"""The activations of a torch graph, whichever way they are written."""

from __future__ import annotations

from typing import Any, Final

from aggregator.models.formulas import Formula, find_formulas
from aggregator.models.torch_call import operator_name
from fedsparse.types import Float64Array

ELEMENTWISE: Final = frozenset((
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "leaky_relu", "sigmoid", "tanh",
    "silu", "gelu", "hardsigmoid", "hardswish", "add", "sub", "rsub", "mul", "div", "neg", "pow",
    "sqrt", "exp", "erf", "minimum", "maximum", "softplus",
))  # fmt: skip


def torch_formulas(graph: Any) -> dict[Any, Formula[Any]]:  # noqa: ANN401
    """The activations of an exported graph by the `torch.fx.Node` that yields them."""
    nodes = [
        (node, node.all_input_nodes)
        for node in graph.nodes
        if node.op == "call_function"
        and operator_name(node) in ELEMENTWISE
        and node.all_input_nodes
    ]
    return find_formulas(nodes, _compute)


def _compute(value: Any, root: Any, points: Float64Array) -> Float64Array | None:  # noqa: ANN401
    import torch

    known = {root: torch.from_numpy(points.copy())}

    def at(node: Any) -> Any:  # noqa: ANN401
        if node not in known:
            # Copies, for an operator may work in place.
            arguments = torch.fx.node.map_arg(node.args, lambda source: at(source).clone())
            known[node] = node.target(*arguments, **node.kwargs)
        return known[node]

    result: Float64Array = at(value).numpy()
    return result
