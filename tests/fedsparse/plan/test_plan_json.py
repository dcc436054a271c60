"""Plans as text: the round trip, the digest that all parties share, and bad input."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsparse.errors import PlanError
from fedsparse.plan import (
    INPUT,
    OPERATORS,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
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
    Plan,
    Relu,
    Relu6,
    Role,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)
from fedsparse.plan.builder import PlanBuilder

# Of the plans below. They must never change: devices name their masks and plans by them.
GOLDEN_DIGEST = "75cb086b0c12578a330675fdfa23598e94bf3e3e816b22ba5fd33f4f82142984"

OTHER_GOLDEN_DIGEST = "d32e135f74eabd9e0e93f3e18d21a018b3712b0c0ef67b6c33260d4f014eadac"


def every_operator() -> Plan:
    """A small residual network that uses each operator once or more."""
    builder = PlanBuilder("golden", (2, 12))
    builder.conv("stem", 4, 3, pad=1)
    start = builder.batch_norm("norm")
    builder.relu("act")
    branch = builder.conv("branch", 4, 3, pad=1, bias=False)
    builder.add(Add(), start, branch, name="sum")
    builder.add(AvgPool(kernel=(2,), stride=(2,), pads=((0, 0),)), name="mean")
    builder.max_pool(2, name="max")
    pooled = builder.last
    builder.add(GlobalAvgPool(), pooled, name="global")
    builder.add(Flatten(), pooled, name="flat")
    builder.linear("hidden", 4)
    hidden = builder.last
    builder.add(Add(), hidden, "global", name="merge")
    builder.linear("last", 3, prunable=False)
    return builder.build()


def every_other_operator() -> Plan:
    """A depthwise block with a squeeze-and-excite gate, and every activation; for two answers."""
    builder = PlanBuilder("other", (3, 8, 6))
    builder.conv("stem", 4, (3, 2), stride=(2, 1), dilation=(1, 2), pad=1)
    builder.add(GroupNorm(groups=2), name="groups")
    block = builder.add(HardSwish(), name="block")
    builder.global_avg_pool("squeeze")
    builder.linear("excite", 4)
    gate = builder.add(HardSigmoid(), name="gate")
    builder.add(Mul(), block, gate, name="gated")
    builder.depthwise("depth", 3, pad=1)
    builder.add(LayerNorm(axes=2), name="layer")
    builder.add(Upsample(scale=(2, 1)), name="up")
    for operator in (Relu6(), LeakyRelu(slope=0.2), Sigmoid(), Tanh(), Silu(), Gelu(), Dropout()):
        builder.add(operator)
    builder.flatten("left")
    builder.add(Flatten(), "up", name="right")
    builder.add(Concat(), "left", "right", "left", name="joined")
    builder.linear("last", 2)
    return builder.build(loss=Loss.BCE)


def document(plan: Plan | None = None) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((plan or every_operator()).to_json())
    return parsed


def node(parsed: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in parsed["nodes"] if one["name"] == name)
    return found


def test_the_examples_use_every_operator() -> None:
    nodes = (*every_operator().nodes, *every_other_operator().nodes)
    assert {one.operator.kind for one in nodes} == set(OPERATORS)


@pytest.mark.parametrize("make", [every_operator, every_other_operator])
def test_a_plan_survives_its_text(make: Callable[[], Plan]) -> None:
    plan = make()
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.digest == plan.digest
    assert again.to_json() == plan.to_json()
    assert (again.tensors, again.shapes) == (plan.tensors, plan.shapes)


def test_the_digest_of_a_plan_never_changes() -> None:
    assert every_operator().digest == GOLDEN_DIGEST
    assert every_other_operator().digest == OTHER_GOLDEN_DIGEST


def test_the_digest_does_not_depend_on_how_the_text_was_written() -> None:
    plan = every_operator()
    parsed = document(plan)
    loose = json.dumps(parsed, indent=2, sort_keys=False)
    assert Plan.from_json(loose).digest == plan.digest
    assert Plan.from_json(loose.encode()).digest == plan.digest


def test_whatever_changes_the_model_changes_the_digest() -> None:
    digests = {every_operator().digest}
    for change in (
        lambda d: d.update(name="other"),
        lambda d: d.update(input=[2, 16]),
        lambda d: d.update(loss="mse"),
        lambda d: node(d, "stem").update(dilation=[2], pads=[[2, 2]]),
        lambda d: node(d, "branch").update(groups=2),
        lambda d: node(d, "stem").update(prunable=False),
        lambda d: node(d, "norm").update(eps=1e-3),
        lambda d: node(d, "branch").update(bias=True),
        lambda d: node(d, "last").update(out_features=4),
    ):
        parsed = document()
        change(parsed)
        digests.add(Plan.from_json(json.dumps(parsed)).digest)
    assert len(digests) == 10


def test_an_attribute_that_has_a_default_may_be_left_out() -> None:
    parsed = document()
    for key in ("eps", "momentum"):
        del node(parsed, "norm")[key]
    for key in ("bias", "dilation", "groups"):
        del node(parsed, "stem")[key]
    del parsed["loss"]
    assert Plan.from_json(json.dumps(parsed)).digest == every_operator().digest


def test_shapes_tensors_and_counts_follow_from_the_operators() -> None:
    plan = every_operator()
    assert plan.shapes["stem"] == (4, 12)
    assert plan.shapes["mean"] == (4, 6)
    assert plan.shapes["max"] == (4, 3)
    assert plan.shapes["flat"] == (12,)
    assert plan.classes == 3
    assert [tensor.name for tensor in plan.prunable] == [
        "stem.weight",
        "branch.weight",
        "hidden.weight",
    ]
    assert plan.num_prunable == 4 * 2 * 3 + 4 * 4 * 3 + 4 * 12
    assert plan.num_dense == 4 + 4 * 4 + 4 + (3 * 4 + 3)
    assert [tensor.fan_in for tensor in plan.prunable] == [6, 12, 12]
    assert {tensor.role for tensor in plan.tensors} == set(Role)


@pytest.mark.parametrize(
    ("density", "kept"), [(1.0, 120), (0.5, 60), (0.1, 12), (0.01, 3), (1e-9, 3)]
)
def test_every_prunable_tensor_keeps_at_least_one_weight(density: float, kept: int) -> None:
    assert every_operator().kept(density) == kept


# Order


def test_nodes_in_any_order_make_a_plan_that_runs() -> None:
    parsed = document()
    last = parsed["nodes"][-1]
    for seed in range(5):
        rest = parsed["nodes"][:-1]
        random.Random(seed).shuffle(rest)
        plan = Plan.from_json(json.dumps({**parsed, "nodes": [*rest, last]}))
        seen = {INPUT}
        for one in plan.nodes:
            assert seen.issuperset(one.inputs)
            seen.add(one.name)
        assert plan.nodes[-1].name == "last"
        assert plan.shapes == every_operator().shapes


def test_the_order_of_a_plan_that_runs_is_kept() -> None:
    names = [one["name"] for one in document()["nodes"]]
    assert [one.name for one in Plan.from_json(every_operator().to_json()).nodes] == names


def linear(name: str, *inputs: str, out: int = 4) -> dict[str, Any]:
    return {"name": name, "op": "linear", "inputs": list(inputs), "out_features": out}


def plan_of(*nodes: dict[str, Any], shape: Any = (4,)) -> str:  # noqa: ANN401
    return json.dumps(
        {"format": "fedsparse.plan", "version": 2, "name": "x", "input": shape, "nodes": nodes}
    )


@pytest.mark.parametrize(
    "nodes",
    [
        [linear("a", "b"), linear("b", "a")],
        [linear("a", "a")],
        [linear("x", "input"), linear("a", "c"), linear("b", "a"), linear("c", "b")],
    ],
)
def test_a_cycle_is_refused(nodes: list[dict[str, Any]]) -> None:
    with pytest.raises(PlanError, match="cycle"):
        Plan.from_json(plan_of(*nodes))


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ([], "1 to 2000 nodes"),
        ([linear("a", "input"), linear("a", "input")], "two nodes are called 'a'"),
        ([linear("input", "input")], "two nodes are called 'input'|form a cycle"),
        ([linear("a", "nowhere")], "node 'a' reads 'nowhere'"),
        ([linear("a", "input", "input")], "linear reads 1 inputs, it is given 2"),
        ([linear("a")], "linear reads 1 inputs, it is given 0"),
        ([linear("a", "input", out=1)], 'two or more logits.* is for the loss "bce"'),
        ([{"name": "c", "op": "concat", "inputs": ["input"]}], "concat reads 2 or more inputs, it"),
        ([{"name": "r", "op": "relu", "inputs": ["input"]}], "no prunable tensor"),
        ([{**linear("a", "input"), "prunable": False}], "no prunable tensor"),
        ([{**linear("a", "input"), "op": "attention"}], "'attention' is not supported; supported"),
        ([{**linear("a", "input"), "colour": 1}], "node 'a': linear has no attribute 'colour'"),
        (
            [{"name": "a", "op": "linear", "inputs": ["input"]}],
            "needs the attribute 'out_features'",
        ),
        (["a"], "node 0 is not an object"),
        ([{"op": "relu", "inputs": []}], 'node 0 needs the strings "name" and "op"'),
        ([{"name": "", "op": "relu", "inputs": []}], "node 0 needs"),
        ([{"name": "a", "op": 7, "inputs": []}], "node 0 needs"),
        ([{"name": "a", "op": "relu", "inputs": "input"}], "node 'a' needs \"inputs\""),
        ([{"name": "a", "op": "relu", "inputs": [1]}], "node 'a' needs \"inputs\""),
    ],
)
def test_a_plan_that_cannot_run_is_refused_and_the_node_named(
    nodes: list[Any], complaint: str
) -> None:
    with pytest.raises(PlanError, match=complaint):
        Plan.from_json(plan_of(*nodes))


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("branch", {"out_channels": 5}, "node 'sum': add needs two inputs of one shape"),
        ("stem", {"groups": 3}, "node 'stem': 2 input and 4 output channels must both divide by"),
        ("stem", {"dilation": [7]}, r"node 'stem': .* with dilation \(7,\) does not fit"),
        ("stem", {"dilation": [1, 1]}, "node 'stem': .* got .* dilation"),
        ("stem", {"kernel": [99]}, "node 'stem': a window of"),
        ("stem", {"kernel": [3, 3]}, "node 'stem'.*one kernel size, stride and padding"),
        ("hidden", {"inputs": ["max"]}, "node 'hidden': linear needs a flat input"),
        ("mean", {"kernel": [13]}, "node 'mean'"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_and_the_node_named(
    name: str, change: dict[str, Any], complaint: str
) -> None:
    parsed = document()
    node(parsed, name).update(change)
    with pytest.raises(PlanError, match=complaint):
        Plan.from_json(json.dumps(parsed))


ABSURD: list[Any] = [
    -1, 0, 2**31, 10**400, 1.5, float("nan"), float("inf"), True, None, "3", [], {}, [[1]], [-1],
    [0], [2**40], [1.5], ["x"], [None], [True],
]  # fmt: skip
SIZES = [
    ("last", "out_features"), ("stem", "out_channels"), ("stem", "kernel"), ("stem", "stride"),
    ("mean", "kernel"), ("max", "stride"), ("stem", "dilation"), ("stem", "groups"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key"), SIZES)
@pytest.mark.parametrize("value", ABSURD, ids=lambda value: repr(value)[:12])
def test_absurd_sizes_are_refused_before_anything_is_made_of_them(
    name: str,
    key: str,
    value: Any,  # noqa: ANN401
) -> None:
    parsed = document()
    node(parsed, name)[key] = value
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps(parsed))


@pytest.mark.parametrize(
    ("name", "key"), [("up", "scale"), ("groups", "groups"), ("layer", "axes")]
)
@pytest.mark.parametrize("value", ABSURD, ids=lambda value: repr(value)[:12])
def test_absurd_sizes_of_the_other_operators_are_refused(
    name: str,
    key: str,
    value: Any,  # noqa: ANN401
) -> None:
    parsed = document(every_other_operator())
    node(parsed, name)[key] = value
    with pytest.raises(PlanError, match=name):
        Plan.from_json(json.dumps(parsed))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("dropout", "p", 1.0), ("dropout", "p", -0.1), ("dropout", "p", [0.5]),
        ("leaky_relu", "slope", -0.1), ("gelu", "approximate", 1), ("gelu", "approximate", "tanh"),
        ("layer", "eps", -1.0), ("groups", "eps", True),
    ],
)  # fmt: skip
def test_absurd_attributes_of_the_other_operators_are_refused(
    name: str,
    key: str,
    value: Any,  # noqa: ANN401
) -> None:
    parsed = document(every_other_operator())
    node(parsed, name)[key] = value
    with pytest.raises(PlanError, match=f"node '{name}'.*{key}"):
        Plan.from_json(json.dumps(parsed))


@pytest.mark.parametrize("loss", ["hinge", "", None, 1, [], {}, ["mse"], True])
def test_a_loss_that_is_not_known_is_refused(loss: Any) -> None:  # noqa: ANN401
    with pytest.raises(PlanError, match='"loss" must be one of cross_entropy, mse, bce, got'):
        Plan.from_json(json.dumps({**document(), "loss": loss}))


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_a_single_output_is_enough_where_the_loss_has_no_classes(loss: str) -> None:
    plan = json.loads(plan_of(linear("a", "input", out=1)))
    again = Plan.from_json(json.dumps({**plan, "loss": loss}))
    assert (again.loss, again.shapes["a"]) == (Loss(loss), (1,))
    conv = {"name": "c", "op": "conv", "inputs": ["input"], "out_channels": 1, "kernel": [1],
            "stride": [1], "pads": [[0, 0]]}  # fmt: skip
    with pytest.raises(PlanError, match=r"must yield a vector, \(outputs,\), it yields \(1, 5\)"):
        Plan.from_json(json.dumps({**plan, "input": [2, 5], "nodes": [conv], "loss": loss}))


@pytest.mark.parametrize("pads", [1, [1], [1, 1], [[1]], [[1, 1, 1]], [[-1, 0]], [[1.0, 1]], None])
def test_absurd_paddings_are_refused(pads: Any) -> None:  # noqa: ANN401
    parsed = document()
    node(parsed, "stem")["pads"] = pads
    with pytest.raises(PlanError, match="stem"):
        Plan.from_json(json.dumps(parsed))


@pytest.mark.parametrize("key", ["eps", "momentum"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "x", None, [1.0], True])
def test_absurd_batch_norms_are_refused(key: str, value: Any) -> None:  # noqa: ANN401
    parsed = document()
    node(parsed, "norm")[key] = value
    with pytest.raises(PlanError, match="norm"):
        Plan.from_json(json.dumps(parsed))


@pytest.mark.parametrize("key", ["bias", "prunable"])
@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_a_switch_is_a_boolean(key: str, value: Any) -> None:  # noqa: ANN401
    parsed = document()
    node(parsed, "stem")[key] = value
    with pytest.raises(PlanError, match=key):
        Plan.from_json(json.dumps(parsed))


@pytest.mark.parametrize(
    "shape", [[], [2**31], [0], [-3], [4.0], ["4"], [True], [[4]], [None], 4, None]
)
def test_absurd_inputs_are_refused(shape: Any) -> None:  # noqa: ANN401
    with pytest.raises(PlanError):
        Plan.from_json(plan_of(linear("a", "input"), shape=shape))


def test_a_model_too_large_to_index_is_refused() -> None:
    big = linear("a", "input", out=2**30)
    with pytest.raises(PlanError, match="at most 2147483647 parameters"):
        Plan.from_json(plan_of(big))


def test_a_value_too_large_to_index_is_refused() -> None:
    up = {"name": "up", "op": "upsample", "inputs": ["input"], "scale": [2**30]}
    with pytest.raises(PlanError, match=r"node 'up' yields .*: more than 2147483647 values"):
        Plan.from_json(plan_of(up, shape=[4, 4]))
    joined = [{"name": "c0", "op": "concat", "inputs": ["input", "input"]}]
    joined += [
        {"name": f"c{i}", "op": "concat", "inputs": [f"c{i - 1}"] * 2} for i in range(1, 1_000)
    ]
    with pytest.raises(PlanError, match="node 'c28' yields"):
        Plan.from_json(plan_of(*joined))


def test_a_plan_of_very_many_nodes_is_refused_quickly() -> None:
    nodes = [linear("n0", "input")]
    nodes += [linear(f"n{i}", f"n{i - 1}") for i in range(1, 30_000)]
    began = time.perf_counter()
    with pytest.raises(PlanError, match="1 to 2000 nodes"):
        Plan.from_json(plan_of(*nodes))
    assert time.perf_counter() - began < 30.0


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '"x"', "\x00", "[" * 200_000, b"\xff\xfe\xfd",
        '{"format": "other"}', '{"format": "fedsparse.plan"}',
        '{"format": "fedsparse.plan", "version": 1}',
        '{"format": "fedsparse.plan", "version": 2, "nodes": {}, "input": [4]}',
        '{"format": "fedsparse.plan", "version": 2, "nodes": [], "input": "4"}',
    ],
)  # fmt: skip
def test_text_that_is_no_plan_is_refused(text: str | bytes) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_plan_with_any_value_anywhere_is_a_plan_or_refused(data: st.DataObject) -> None:
    parsed = document()
    target = data.draw(st.sampled_from([parsed, *parsed["nodes"]]))
    key = data.draw(st.sampled_from(sorted(target)))
    target[key] = data.draw(JSON)
    try:
        plan = Plan.from_json(json.dumps(parsed))
    except PlanError:
        return
    assert Plan.from_json(plan.to_json()).digest == plan.digest


# Built in Python


def test_a_plan_cannot_be_built_with_a_node_before_its_input() -> None:
    one = Node(name="a", operator=Linear(out_features=4), inputs=(INPUT,))
    two = Node(name="b", operator=Linear(out_features=4), inputs=("a",))
    assert Plan(name="x", input_shape=(4,), nodes=(one, two)).classes == 4
    with pytest.raises(PlanError, match="no earlier node yields"):
        Plan(name="x", input_shape=(4,), nodes=(two, one))


def test_convolutions_over_two_axes_slide_over_each() -> None:
    conv = Conv(out_channels=5, kernel=(3, 2), stride=(2, 1), pads=((1, 1), (0, 1)), bias=False)
    assert conv.output_shape(((3, 8, 6),)) == (5, (8 + 2 - 3) // 2 + 1, (6 + 1 - 2) // 1 + 1)
    pool = MaxPool(kernel=(2, 2), stride=(2, 2), pads=((0, 0), (0, 0)))
    assert pool.output_shape(((3, 7, 6),)) == (3, 3, 3)
    assert BatchNorm().output_shape(((3, 7),)) == (3, 7)
    assert Relu().output_shape(((3,),)) == (3,)


# The builder


def test_the_builder_names_nodes_and_drops_what_the_output_does_not_need() -> None:
    builder = PlanBuilder("x", (4,))
    builder.linear("a", 4)
    assert [builder.relu(), builder.relu(), builder.relu("a")] == ["relu", "relu_1", "a_1"]
    builder.add(Linear(out_features=9), "a", name="unused")
    builder.add(Linear(out_features=2), "relu_1", name="last")
    assert [one.name for one in builder.build().nodes] == ["a", "relu", "relu_1", "last"]


def test_the_builder_refuses_what_a_plan_would() -> None:
    builder = PlanBuilder("x", (4,))
    with pytest.raises(PlanError, match="'nowhere'"):
        builder.add(Relu(), "nowhere")
    with pytest.raises(PlanError, match="add reads 2 inputs"):
        builder.add(Add(), INPUT)
    with pytest.raises(PlanError, match="conv"):
        builder.add(Conv(out_channels=1, kernel=(1,), stride=(1,), pads=((0, 0),)), name="conv")


def test_a_plan_of_operators_may_name_a_training_graph() -> None:
    plain = every_operator()
    plan = replace(plain, graph="ab" * 32)
    assert Plan.from_json(plan.to_json()) == plan
    assert (plan.digest != plain.digest, plan.is_opaque) == (True, False)
    for wrong in ("AB" * 32, "ab" * 31, 7, None):
        with pytest.raises(PlanError, match='"graph" must be a SHA-256'):
            replace(plain, graph=wrong)
