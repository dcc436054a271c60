"""Plans, masks and batches that the engine's tests share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from torch_oracle import TorchOracle

from edge_client.runtime.native.library import Library
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Node,
    Operator,
    Plan,
    Relu,
    Role,
    Shape,
)
from fedsparse.types import BoolArray, Float32Array, Weights

Labels = npt.NDArray[np.int64]


def node(name: str, operator: Operator, *inputs: str) -> Node:
    return Node(name=name, operator=operator, inputs=inputs)


def conv(
    channels: int,
    kernel: Shape,
    stride: Shape | None = None,
    pads: tuple[tuple[int, int], ...] | None = None,
    *,
    dilation: Shape = (),
    groups: int = 1,
    bias: bool = True,
    prunable: bool = True,
) -> Conv:
    return Conv(
        out_channels=channels,
        kernel=kernel,
        stride=stride or (1,) * len(kernel),
        pads=pads or ((0, 0),) * len(kernel),
        dilation=dilation,
        groups=groups,
        bias=bias,
        prunable=prunable,
    )


def between(operator: Operator, shape: Shape) -> Plan:
    """`operator` with trained layers on both sides, so that its input gradient is seen too."""
    if len(shape) == 1:
        first: Operator = Linear(out_features=shape[0])
    else:
        first = conv(shape[0], (1,) * (len(shape) - 1))
    nodes = [node("first", first, INPUT), node("middle", operator, "first")]
    last = "middle"
    if not isinstance(operator, Linear | GlobalAvgPool) and len(shape) > 1:
        nodes.append(node("flat", Flatten(), last))
        last = "flat"
    nodes.append(node("last", Linear(out_features=3), last))
    return Plan(name="between", input_shape=shape, nodes=tuple(nodes))


def residual_plan() -> Plan:
    """Every operator, a stride, odd sizes, a value read three times, a layer that stays dense."""
    same = ((1, 1), (1, 1))
    return Plan(
        name="residual",
        input_shape=(3, 9, 7),
        nodes=(
            node("stem", conv(5, (3, 3), pads=same), INPUT),
            node("stem_norm", BatchNorm(), "stem"),
            node("stem_relu", Relu(), "stem_norm"),
            node("a", conv(6, (3, 2), (2, 3), ((1, 1), (2, 1)), bias=False), "stem_relu"),
            node("a_norm", BatchNorm(eps=1e-3, momentum=0.3), "a"),
            node("a_relu", Relu(), "a_norm"),
            node("b", conv(6, (3, 3), pads=same), "a_relu"),
            node("b_norm", BatchNorm(), "b"),
            node("skip", conv(6, (1, 1), (2, 3)), "stem_relu"),
            node("sum", Add(), "b_norm", "skip"),
            node("sum_relu", Relu(), "sum"),
            node("twice", Add(), "sum_relu", "sum_relu"),
            node("thrice", Add(), "sum_relu", "twice"),
            node("max", MaxPool(kernel=(2, 2), stride=(1, 1), pads=((1, 0), (0, 1))), "thrice"),
            node("mean", AvgPool(kernel=(2, 3), stride=(2, 1), pads=((1, 0), (1, 1))), "max"),
            node("flat", Flatten(), "mean"),
            node("dense", Linear(out_features=11, prunable=False), "flat"),
            node("dense_relu", Relu(), "dense"),
            node("logits", Linear(out_features=4), "dense_relu"),
        ),
    )


def random_mask(plan: Plan, kind: str, rng: np.random.Generator) -> BoolArray:
    """`one`: a single kept weight; `rows`: empty rows; `all`: everything; else a density."""
    mask = np.zeros(plan.num_prunable, np.bool_)
    if kind == "one":
        mask[rng.integers(mask.size)] = True
        return mask
    if kind == "rows":
        parts = [
            np.broadcast_to(rng.random((t.shape[0], 1)) < 0.5, (t.shape[0], t.size // t.shape[0]))
            & (rng.random((t.shape[0], t.size // t.shape[0])) < 0.7)
            for t in plan.prunable
        ]
        return np.concatenate([part.ravel() for part in parts])
    return rng.random(mask.size) < (1.0 if kind == "all" else float(kind))


def random_weights(plan: Plan, mask: BoolArray, rng: np.random.Generator) -> Weights:
    dense = [
        rng.uniform(0.5, 1.5, tensor.size)
        if tensor.role in (Role.SCALE, Role.RUNNING_VAR)
        else rng.normal(0, 0.3, tensor.size)
        for tensor in plan.dense
    ]
    return Weights(
        prunable=rng.normal(0, 0.4, int(mask.sum())).astype(np.float32),
        dense=np.concatenate([np.zeros(0), *dense]).astype(np.float32),
    )


def random_batch(plan: Plan, batch: int, rng: np.random.Generator) -> tuple[Float32Array, Labels]:
    samples = rng.standard_normal((batch, *plan.input_shape), dtype=np.float32)
    return samples, rng.integers(0, plan.classes, batch)


def assert_same_weights(actual: Weights, expected: Weights, tolerance: float) -> None:
    np.testing.assert_allclose(actual.prunable, expected.prunable, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(actual.dense, expected.dense, rtol=tolerance, atol=tolerance)


def weight_names(plan: Plan) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in plan.tensors if tensor.role is Role.WEIGHT)


def assert_gradients_agree(
    plan: Plan,
    kind: str,
    batch: int,
    *,
    seed: int,
    library: Library | None = None,
    dense: bool = False,
    micro_batch: int | None = None,
) -> None:
    """One step of size 1 without momentum moves every weight by its gradient: torch's.

    With `dense`, every weighted layer is run by the dense kernels.
    """
    rng = np.random.default_rng(seed)
    mask = random_mask(plan, kind, rng)
    weights = random_weights(plan, mask, rng)
    samples, labels = random_batch(plan, batch, rng)
    setup = EngineSetup(
        micro_batch=micro_batch or batch, dense_layers=weight_names(plan) if dense else ()
    )
    engine = SparseEngine(plan, mask, weights, batch_size=batch, setup=setup, library=library)
    oracle = TorchOracle(plan, mask, weights)
    np.testing.assert_allclose(engine.logits(samples), oracle.logits(samples), 1e-5, 1e-5)
    loss = engine.train_step(samples, labels, learning_rate=1.0)
    expected = oracle.train_step(samples, labels, learning_rate=1.0)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert_same_weights(engine.weights(), oracle.weights(), 2e-5)
