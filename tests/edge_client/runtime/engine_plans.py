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
    Concat,
    Conv,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    Loss,
    MaxPool,
    Mul,
    Node,
    Operator,
    Plan,
    Relu,
    Relu6,
    Role,
    Shape,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)
from fedsparse.types import BoolArray, Float32Array, Weights

Labels = npt.NDArray[np.int64] | Float32Array

MASKS = ("one", "rows", "0.3", "all")  # kinds of `random_mask`


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


def joined(operator: Operator, *shapes: Shape) -> Plan:
    """`operator` with a trained layer before each of its inputs, and one after it."""
    nodes = [node("stem", conv(3, (1,) * (len(shapes[0]) - 1)), INPUT)] if shapes[0][1:] else []
    stem = nodes[0].name if nodes else INPUT
    for index, shape in enumerate(shapes):
        source = stem
        if stem != INPUT and len(shape) == 1:
            source = f"mean{index}"
            nodes.append(node(source, GlobalAvgPool(), stem))
        made = conv(shape[0], (1,) * (len(shape) - 1)) if shape[1:] else None
        layer = made or Linear(out_features=shape[0])
        nodes.append(node(f"branch{index}", layer, source))
    nodes.append(node("joined", operator, *(f"branch{index}" for index in range(len(shapes)))))
    if shapes[0][1:]:
        nodes.append(node("flat", Flatten(), "joined"))
    nodes.append(node("last", Linear(out_features=3), nodes[-1].name))
    return Plan(name="joined", input_shape=(2, *shapes[0][1:]), nodes=tuple(nodes))


def mobile_plan() -> Plan:
    """Every activation, group and layer norm, a gate, and concatenations that share a buffer."""
    same = ((1, 1), (1, 1))
    return Plan(
        name="mobile",
        input_shape=(3, 6, 5),
        nodes=(
            node("stem", conv(6, (3, 3), pads=same), INPUT),
            node("stem_norm", GroupNorm(groups=3), "stem"),
            node("stem_act", HardSwish(), "stem_norm"),
            node("squeeze", GlobalAvgPool(), "stem_act"),
            node("reduce", Linear(out_features=4), "squeeze"),
            node("reduce_act", Relu6(), "reduce"),
            node("expand", Linear(out_features=6), "reduce_act"),
            node("gate", HardSigmoid(), "expand"),
            node("excite", Mul(), "gate", "stem_act"),
            node("a", conv(4, (1, 1)), "excite"),
            node("a_act", Silu(), "a"),
            node("grown", Concat(), "excite", "a_act"),
            node("b", conv(4, (3, 3), pads=same), "grown"),
            node("b_act", LeakyRelu(slope=0.2), "b"),
            node("grown_more", Concat(), "grown", "b_act", "a_act"),
            node("again", Concat(), "grown", "grown"),
            node("c", conv(5, (2, 2), (2, 2)), "grown_more"),
            node("c_norm", LayerNorm(axes=2, eps=1e-2), "c"),
            node("c_act", Gelu(approximate=True), "c_norm"),
            node("d", conv(5, (2, 2), (2, 2)), "again"),
            node("d_act", Sigmoid(), "d"),
            node("product", Mul(), "c_act", "d_act"),
            node("large", Upsample(scale=(1, 2)), "product"),
            node("flat", Flatten(), "large"),
            node("e", Linear(out_features=9), "flat"),
            node("e_norm", LayerNorm(axes=1, eps=1e-2), "e"),
            node("e_act", Gelu(), "e_norm"),
            node("f", Linear(out_features=6), "e_act"),
            node("f_act", Tanh(), "f"),
            node("square", Mul(), "f_act", "f_act"),
            node("last", Linear(out_features=4), "square"),
        ),
    )


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
    if plan.loss is Loss.CROSS_ENTROPY:
        return samples, rng.integers(0, plan.classes, batch)
    return samples, rng.random((batch, plan.classes), dtype=np.float32)


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
    equal = micro_batch if micro_batch and batch % micro_batch == 0 else None
    expected = oracle.train_step(samples, labels, learning_rate=1.0, micro_batch=equal)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert_same_weights(engine.weights(), oracle.weights(), 2e-5)
