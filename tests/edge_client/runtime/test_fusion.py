"""Batch-norms that clamp, and those that their reader does: the same numbers, fewer passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_plans import assert_gradients_agree, conv, node, random_batch, random_weights

from edge_client.runtime.fusion import find_fusions
from edge_client.runtime.lowering import lower
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import (
    INPUT,
    Add,
    BatchNorm,
    Flatten,
    Linear,
    Node,
    Operator,
    Plan,
    Relu,
    Relu6,
    Sigmoid,
)

SAME = ((1, 1), (1, 1))
PADDED = conv(4, (3, 3), pads=SAME)
STRIDED = conv(3, (3, 2), (2, 3), ((1, 1), (0, 2)))
PLAIN = conv(4, (1, 1))


def chain(*operators: Operator, extra: tuple[Node, ...] = ()) -> Plan:
    """conv, batch-norm, then `operators`, then a classifier of what came last."""
    nodes = [
        node("first", conv(4, (3, 3)), INPUT),
        node("norm", BatchNorm(momentum=0.3), "first"),
    ]
    for i, operator in enumerate(operators):
        nodes.append(node(f"n{i}", operator, nodes[-1].name))
    nodes += extra
    nodes += [node("flat", Flatten(), nodes[-1].name)]
    nodes += [node("last", Linear(out_features=3), "flat")]
    return Plan(name="chain", input_shape=(2, 8, 9), nodes=tuple(nodes))


@pytest.mark.parametrize("batch", [1, 5, 16, 33])
@pytest.mark.parametrize(
    ("operators", "kernel"),
    [
        ((Relu(), PADDED), "normalise_pad"),
        ((Relu6(), STRIDED), "normalise_pad"),
        ((PADDED,), "normalise_pad"),
        ((STRIDED,), "normalise_pad"),
        ((Relu6(), PLAIN), "batch_norm"),
        ((Relu(),), "batch_norm"),
        ((PLAIN,), "batch_norm"),
        ((Sigmoid(), PADDED), "batch_norm"),
        ((Relu(), BatchNorm(), Relu6(), PADDED), "normalise_pad"),
    ],
)
def test_a_fused_batch_norm_gives_torchs_gradients(
    operators: tuple[Operator, ...], kernel: str, batch: int
) -> None:
    plan = chain(*operators)
    kernels = {i.kernel for i in lower(plan, [t.size for t in plan.prunable]).forward}
    assert kernel in kernels
    assert not kernels & {"relu", "relu6"}
    assert_gradients_agree(plan, "0.6", batch, seed=batch)
    if batch == 16:
        assert_gradients_agree(plan, "0.6", batch, seed=batch, micro_batch=8)


def test_a_value_with_two_readers_is_written_down() -> None:
    plan = chain(
        Relu(),
        extra=(node("left", PADDED, "n0"), node("sum", Add(), "left", "n0")),
    )
    assert not find_fusions(plan)["norm"].deferred
    assert find_fusions(plan)["n0"].bounds == (0.0, float("inf"))
    assert_gradients_agree(plan, "0.6", 7, seed=1)


def test_a_relu_of_a_norm_that_is_read_elsewhere_stays_an_operator_of_its_own() -> None:
    plan = chain(Relu6(), extra=(node("sum", Add(), "n0", "norm"),))
    assert "n0" not in find_fusions(plan)
    assert_gradients_agree(plan, "0.6", 7, seed=1)


def test_a_channel_that_is_constant_has_its_value_as_mean_and_no_variance() -> None:
    """As one has that keeps no weights but its bias."""
    plan = chain(Relu())
    plan = replace(plan, nodes=(plan.nodes[0], node("norm", BatchNorm(momentum=1.0), "first"),
                                *plan.nodes[2:]))  # fmt: skip
    rng = np.random.default_rng(0)
    mask = np.ones(plan.num_prunable, np.bool_)
    mask[: plan.prunable[0].size] = False
    weights = random_weights(plan, mask, rng)
    names = [tensor.name for tensor in plan.dense]
    starts = np.cumsum([0, *(tensor.size for tensor in plan.dense)])
    at = {name: slice(start, start + 4) for name, start in zip(names, starts, strict=False)}
    weights.dense[at["first.bias"]] = [0.1, 3.3, 30.3, -7.7]
    engine = SparseEngine(plan, mask, weights, batch_size=32)
    engine.train_step(*random_batch(plan, 32, rng), learning_rate=0.0)
    dense = engine.weights().dense
    biases = weights.dense[at["first.bias"]]
    np.testing.assert_allclose(dense[at["norm.running_mean"]], biases, rtol=1e-6)
    np.testing.assert_array_equal(dense[at["norm.running_var"]], 0.0)
