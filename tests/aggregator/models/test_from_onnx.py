import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch_zoo import MODULES, PRUNE, logits_of, predict, randomised, zoo_model

from aggregator.models.from_onnx import from_onnx
from aggregator.models.onnx_rules import RULES
from aggregator.models.pruning import choose_prunable
from aggregator.models.to_onnx import to_onnx
from aggregator.models.weights import from_tensors
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import BatchNorm, Conv, Dropout, GroupNorm, Linear, Loss, MaxPool
from fedsparse.plan.zoo import PLANS


def exported_by_torch(
    module: nn.Module, shape: tuple[int, ...], path: Path, *, fold: bool = False
) -> Path:
    """The file that torch's own exporter writes, with a dynamic batch."""
    training = torch.onnx.TrainingMode
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter without onnxscript
        torch.onnx.export(
            module.eval(),
            (torch.zeros((2, *shape)),),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
            do_constant_folding=fold,
            training=training.EVAL if fold else training.PRESERVE,
        )
    path.write_bytes(buffer.getvalue())
    return path


def model_file(path: Path, text: str, opset: int = 17, **constants: np.ndarray) -> Path:
    """An ONNX file from its text form, with constants by name."""
    graph = onnx.parser.parse_graph(text)
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    ir_version = 8 if opset < 21 else 10
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    onnx.save(model, path)
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("name", PLANS)
def test_a_file_of_torchs_exporter_is_the_plan_of_the_zoo(name: str, tmp_path: Path) -> None:
    module, shape = randomised(MODULES[name]()), PLANS[name]().input_shape
    imported = from_onnx(exported_by_torch(module, shape, tmp_path / f"{name}.onnx"))
    plan = choose_prunable(imported.plan, prune=PRUNE.get(name, ()))

    wanted = PLANS[name]()
    assert [node.operator for node in plan.nodes] == [node.operator for node in wanted.nodes]
    assert [tensor.name for tensor in plan.tensors] == [tensor.name for tensor in wanted.tensors]
    samples = np.random.default_rng(1).standard_normal((5, *shape), np.float32)
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-5)


def test_batch_norm_that_the_exporter_folded_leaves_convolutions_with_bias(tmp_path: Path) -> None:
    module = randomised(MODULES["cifar10"]())
    imported = from_onnx(exported_by_torch(module, (3, 32, 32), tmp_path / "m.onnx", fold=True))
    assert not any(isinstance(node.operator, BatchNorm) for node in imported.plan.nodes)
    samples = numbers(4, 3, 32, 32)
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-4)


@pytest.mark.parametrize("name", PLANS)
def test_torch_to_plan_to_onnx_to_plan_changes_nothing(name: str, tmp_path: Path) -> None:
    _, first = zoo_model(name)
    path = tmp_path / "model.onnx"
    onnx.save(to_onnx(first.plan, from_tensors(first.plan, first.values)), path)
    second = from_onnx(path, name=name)

    assert second.plan.digest == first.plan.digest
    assert second.values.keys() == first.values.keys()
    for key, value in first.values.items():
        assert np.array_equal(second.values[key], value)


def test_products_with_constants_and_their_additions_are_linear_layers(tmp_path: Path) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        """m (float[N, 5] x) => (float[N, 3] y) {
            turned = Transpose<perm=[1, 0]>(first)
            a = MatMul(x, turned)
            b = Add(bias, a)
            c = Relu(b)
            y = MatMul(c, second)
        }""",
        first=numbers(4, 5), bias=numbers(4), second=numbers(4, 3),
    )  # fmt: skip
    imported = from_onnx(path)
    assert [node.operator for node in imported.plan.nodes] == [
        Linear(out_features=4, bias=True),
        imported.plan.nodes[1].operator,
        Linear(out_features=3, bias=False),
    ]
    assert np.array_equal(imported.values["linear.bias"], numbers(4))


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_is_read_in_both_orientations(transposed: int, tmp_path: Path) -> None:
    weight = numbers(3, 5) if transposed else numbers(5, 3)
    path = model_file(
        tmp_path / "m.onnx",
        f"m (float[1, 5] x) => (float[1, 3] y) {{ y = Gemm<transB={transposed}>(x, w, b) }}",
        w=weight, b=numbers(1, 3),
    )  # fmt: skip
    imported = from_onnx(path)
    assert np.array_equal(imported.values["linear.weight"], weight if transposed else weight.T)
    assert np.array_equal(imported.values["linear.bias"], numbers(3))


def test_explicit_pads_may_differ_before_and_after(tmp_path: Path) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        """m (float[N, 1, 5, 6] x) => (float[N, 40] y) {
            a = Conv<pads=[0, 1, 2, 0], strides=[2, 1], kernel_shape=[2, 3]>(x, w)
            b = MaxPool<kernel_shape=[2, 2], pads=[1, 0, 0, 1]>(a)
            y = Flatten(b)
        }""",
        w=numbers(2, 1, 2, 3),
    )  # fmt: skip
    plan = from_onnx(path).plan
    assert plan.nodes[0].operator == Conv(
        out_channels=2, kernel=(2, 3), stride=(2, 1), pads=((0, 2), (1, 0)), bias=False
    )
    assert plan.nodes[1].operator == MaxPool(kernel=(2, 2), stride=(1, 1), pads=((1, 0), (0, 1)))


@pytest.mark.parametrize(
    "tail",
    [
        "p = GlobalAveragePool(c) q = Flatten(p)",
        "p = GlobalAveragePool(c) q = Reshape(p, rows)",
        "p = ReduceMean<axes=[2, 3], keepdims=0>(c) q = Identity(p)",
        "p = ReduceMean<axes=[-1, -2]>(c) q = Squeeze(p, last)",
    ],
)
def test_every_way_to_pool_globally_is_understood(tail: str, tmp_path: Path) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        "m (float[N, 2, 5, 5] x) => (float[N, 3] y) {"
        "c = Conv(x, w)" + tail + " y = Gemm<transB=1>(q, v) }",
        w=numbers(4, 2, 3, 3), v=numbers(3, 4),
        rows=np.array([-1, 4]), last=np.array([2, 3]),
    )  # fmt: skip
    assert [node.operator.kind for node in from_onnx(path).plan.nodes] == [
        "conv", "global_avg_pool", "linear",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "opset", "p"),
    [("Dropout(x)", 13, 0.5), ("Dropout(x, ratio)", 13, 0.3), ("Dropout<ratio=0.1>(x)", 10, 0.1)],
)
def test_dropout_is_kept_for_training(node: str, opset: int, p: float, tmp_path: Path) -> None:
    text = f"m (float[N, 6] x) => (float[N, 3] y) {{ a = {node} y = Gemm(a, v, b) }}"
    path = model_file(
        tmp_path / "m.onnx", text, opset,
        v=numbers(6, 3), b=numbers(3), ratio=np.array(0.3, np.float32),
    )  # fmt: skip
    assert from_onnx(path).plan.nodes[0].operator == Dropout(p=p)


def test_group_norm_of_opset_21_has_a_scale_for_each_channel(tmp_path: Path) -> None:
    text = """m (float[N, 4, 6] x) => (float[N, 3] y) {
        a = GroupNormalization<num_groups=2>(x, s, t)
        p = GlobalAveragePool(a) c = Flatten(p) y = Gemm(c, v, b)
    }"""
    path = model_file(
        tmp_path / "m.onnx", text, 21,
        v=numbers(4, 3), s=numbers(4), t=numbers(4), b=numbers(3),
    )  # fmt: skip
    imported = from_onnx(path)
    assert imported.plan.nodes[0].operator == GroupNorm(groups=2)
    np.testing.assert_array_equal(imported.values["group_norm.weight"], numbers(4))


def test_a_reshape_whose_target_is_computed_from_the_batch_is_a_flatten(tmp_path: Path) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        """m (float[N, 2, 3] x) => (float[N, 4] y) {
            all = Shape(x)
            n = Gather<axis=0>(all, zero)
            rows = Unsqueeze(n, axes)
            target = Concat<axis=0>(rows, rest)
            flat = Reshape(x, target)
            y = Gemm<transB=1>(flat, w)
        }""",
        zero=np.array(0), axes=np.array([0]), rest=np.array([-1]), w=numbers(4, 6),
    )  # fmt: skip
    assert [node.operator.kind for node in from_onnx(path).plan.nodes] == ["flatten", "linear"]


def test_open_axes_are_filled_from_the_given_shape_or_refused(tmp_path: Path) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        """m (float[N, 2, L] x) => (float[N, 4] y) {
            c = Conv(x, w) p = GlobalAveragePool(c) y = Flatten(p)
        }""",
        w=numbers(4, 2, 3),
    )  # fmt: skip
    assert from_onnx(path, input_shape=(2, 9)).plan.shapes["conv"] == (4, 7)
    with pytest.raises(PlanError, match="open axes: give --input"):
        from_onnx(path)
    with pytest.raises(PlanError, match=r"--input \(3, 9\) does not fit"):
        from_onnx(path, input_shape=(3, 9))
    with pytest.raises(PlanError, match="does not fit the input"):
        from_onnx(path, input_shape=(2, 1))


@pytest.mark.parametrize(
    ("operator", "opset", "called"), [("Softmax", 17, "softmax"), ("LogSoftmax", 11, "log_softmax")]
)
def test_a_last_softmax_is_dropped_and_noted(
    operator: str, opset: int, called: str, tmp_path: Path
) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        f"m (float[N, 5] x) => (float[N, 3] y) {{ a = Gemm(x, w) y = {operator}(a) }}",
        opset, w=numbers(5, 3),
    )  # fmt: skip
    imported = from_onnx(path)
    assert imported.plan.classes == 3
    assert imported.notes == (f"the last {called} is dropped: the loss is taken on logits",)


def test_a_file_for_several_yes_or_no_loses_its_last_sigmoid(tmp_path: Path) -> None:
    text = "m (float[N, 5] x) => (float[N, 1] y) { a = Gemm(x, w) y = Sigmoid(a) }"
    path = model_file(tmp_path / "m.onnx", text, w=numbers(5, 1))
    with pytest.raises(PlanError, match=r'two or more logits.*for the loss "bce"'):
        from_onnx(path)
    imported = from_onnx(path, loss=Loss.BCE)
    assert [node.operator.kind for node in imported.plan.nodes] == ["linear"]
    assert imported.plan.loss is Loss.BCE
    assert imported.notes == ("the last sigmoid is dropped: the loss is taken on logits",)
    kept = from_onnx(path, loss=Loss.MSE)
    assert [node.operator.kind for node in kept.plan.nodes] == ["linear", "sigmoid"]
    assert kept.notes == ()


VECTOR = "m (float[N, 6] x) => (float[N, 3] y) {{ {} }}"
IMAGE = "m (float[N, 4, 6, 6] x) => (float[N, C] y) {{ {} y = Flatten(a) }}"
REFUSED = {
    "operator": (VECTOR.format("[act] a = Elu(x) y = Gemm(a, v)"), r"'act' \(Elu\).*not supported"),
    "domain": (VECTOR.format("[f] y = com.microsoft.FusedGemm(x, v)"), "'f'.*com.microsoft.FusedG"),
    "alpha": (VECTOR.format("y = Gemm<alpha=2.0>(x, v)"), "alpha=1"),
    "data product": (VECTOR.format("t = Identity(x) y = MatMul(v6, t)"), "constant|do not fit"),
    "constant sum": (VECTOR.format("a = Add(x, six) y = Gemm(a, v)"), "'six' is a constant"),
    "dilated pool": (
        IMAGE.format("[p] a = MaxPool<kernel_shape=[2, 2], dilations=[2, 2]>(x)"),
        r"'p'.*dilations=\[2, 2\]",
    ),
    "keras hard-sigmoid": (VECTOR.format("a = HardSigmoid(x) y = Gemm(a, v)"), "not supported"),
    "other bounds": (VECTOR.format("a = Clip(x, least) y = Gemm(a, v)"), "not supported"),
    "linear resize": (IMAGE.format('a = Resize<mode="linear">(x, none, twice)'), "only nearest"),
    "other rounding": (
        IMAGE.format('a = Resize<nearest_mode="ceil">(x, none, twice)'),
        "half_pixel with ceil",
    ),
    "broken factor": (
        IMAGE.format('a = Resize<coordinate_transformation_mode="asymmetric", '
                     'nearest_mode="floor">(x, none, half)'),
        "whole factors",
    ),
    "joined samples": (
        "m (float[3, 6] x) => (float[6, 3] y) { a = Concat<axis=0>(x, x) y = Gemm(a, v) }",
        "joins axis 0",
    ),
    "everything dropped": (VECTOR.format("a = Dropout(x, all) y = Gemm(a, v)"), "p=1.0"),
    "no shift": (VECTOR.format("a = LayerNormalization(x, six) y = Gemm(a, v)"), "has no shift"),
    "computed weight": (IMAGE.format("k = Relu(w) a = Conv(x, k)"), "computed"),
    "ceil": (IMAGE.format("a = MaxPool<kernel_shape=[4, 4], ceil_mode=1>(x)"), "ceil_mode"),
    "indices": (IMAGE.format("b, i = MaxPool<kernel_shape=[2, 2]>(x) j = Cast<to=1>(i) "
                             "a = Add(b, j)"), "indices"),
    "uncounted pads": (
        IMAGE.format("a = AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(x)"),
        "count_include_pad=0",
    ),
    "one axis": (IMAGE.format("a = ReduceMean<axes=[2]>(x)"), "all spatial axes"),
    "channels": (IMAGE.format("a = ReduceMean<axes=[1]>(x)"), "all spatial axes"),
    "shared weight": (
        IMAGE.format("[c] b = Conv(x, w) [d] a = Conv(b, w)"),
        "that of node 'c' too",
    ),
    "broadcast": (IMAGE.format("[p] p = GlobalAveragePool(x) a = Add(x, p)"), "broadcasts"),
    "reshape": (IMAGE.format("a = Reshape(x, halves)"), "flattening"),
    "mixed samples": (
        "m (float[N, 4, 6, 6] x) => (float[M, 3] y) { a = Reshape(x, rows) y = Gemm(a, v) }",
        "mixes samples",
    ),
    "softmax inside": (VECTOR.format("a = Softmax(x) y = Gemm(a, v)"), "very end"),
    "training dropout": (
        VECTOR.format("a = Dropout(x, half_p, yes) y = Gemm(a, v)"),
        "training_mode",
    ),
    "training": (
        IMAGE.format("a, m1, v1 = BatchNormalization<training_mode=1>(x, s, s, s, s)"),
        "training_mode",
    ),
    "two inputs": (
        "m (float[N, 6] x, float[N, 6] z) => (float[N, 3] y) { a = Add(x, z) y = Gemm(a, v) }",
        "one input and one output",
    ),
    "integers": (
        "m (int64[N, 6] x) => (float[N, 3] y) { a = Cast<to=1>(x) y = Gemm(a, v) }",
        "'x' must be float32",
    ),
    "no batch": ("m (float[6] x) => (float[6] y) { y = Relu(x) }", "expected .batch"),
    "constant output": (
        "m (float[N, 6] x) => (float[6, 3] y) { y = Identity(v) }",
        "'y' is a constant",
    ),
    "no layer": ("m (float[N, 6] x) => (float[N, 6] y) { y = Relu(x) }", "no prunable tensor"),
    "not finite": (VECTOR.format("y = Gemm(x, nan)"), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_planned_is_refused_with_its_node_and_reason(
    case: str, tmp_path: Path
) -> None:
    text, reason = REFUSED[case]
    path = model_file(
        tmp_path / "m.onnx", text,
        v=numbers(6, 3), v6=numbers(6, 6), six=numbers(6), w=numbers(4, 4, 3, 3),
        w2=numbers(4, 2, 3, 3), halves=np.array([-1, 2, 72]), rows=np.array([-1, 6]),
        half_p=np.array(0.5, np.float32), yes=np.array(True),
        least=np.array(-1, np.float32), none=np.zeros(0, np.float32), all=np.array(1, np.float32),
        twice=np.array([1, 1, 2, 2], np.float32), half=np.array([1, 1, 1.5, 1.5], np.float32),
        s=np.ones(4, np.float32), nan=np.full((6, 3), np.nan, np.float32),
    )  # fmt: skip
    with pytest.raises(PlanError, match=reason) as caught:
        from_onnx(path)
    assert str(caught.value).startswith(str(path))


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    text = VECTOR.format("[one] a = Elu(x) [between] b = Relu(a) [two] c = Erf(b) y = Gemm(c, v)")
    with pytest.raises(PlanError) as caught:
        from_onnx(model_file(tmp_path / "m.onnx", text, v=numbers(6, 3)))
    lines = str(caught.value).splitlines()
    assert "2 problems" in lines[0]
    assert ["'one'" in lines[1], "'two'" in lines[2]] == [True, True]
    assert "max-pool" in lines[3]


def test_a_file_that_onnxruntime_cannot_run_is_refused(tmp_path: Path) -> None:
    text = "m (float[N, 6] x) => (float[N, 3] y) { y = Gemm(x, v, b) }"
    path = model_file(tmp_path / "m.onnx", text, v=numbers(6, 3), b=numbers(3))
    model = onnx.load(path)
    model.opset_import[0].version = 99  # of the future
    onnx.save(model, path)
    with pytest.raises((PlanError, ConfigError), match=r"cannot run|not a valid"):
        from_onnx(path)


def test_a_pool_whose_window_could_hold_padding_alone_is_refused(tmp_path: Path) -> None:
    text = IMAGE.format("b = Conv(x, w) a = MaxPool<kernel_shape=[1, 1], pads=[1, 1, 1, 1]>(b)")
    path = model_file(tmp_path / "m.onnx", text, w=numbers(2, 4, 3, 3))
    with pytest.raises(PlanError, match=r"node 'a' \(MaxPool\): pads \(1, 1\) of a window of 1"):
        from_onnx(path)


def test_an_old_opset_is_refused(tmp_path: Path) -> None:
    text = "m (float[N, 6] x) => (float[N, 3] y) { y = Gemm(x, v, b) }"
    path = model_file(tmp_path / "m.onnx", text, 8, v=numbers(6, 3), b=numbers(3))
    with pytest.raises(PlanError, match="opset 8 is too old"):
        from_onnx(path)


def test_a_file_that_is_missing_or_not_onnx_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.onnx: no such file"):
        from_onnx(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    for content in (b"", b"no protobuf at all", b"\x08\x08" * 40):
        broken.write_bytes(content)
        with pytest.raises(ConfigError, match=r"broken.onnx: not a valid ONNX model"):
            from_onnx(broken)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_automatic_pads_are_those_of_onnx(auto_pad: str, stride: int, tmp_path: Path) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        f"""m (float[N, 1, 7, 10] x) => (float[N, C] y) {{
            a = Conv<auto_pad="{auto_pad}", strides=[{stride}, {stride}]>(x, w)
            b = MaxPool<auto_pad="{auto_pad}", kernel_shape=[2, 2]>(a)
            y = Flatten(b)
        }}""",
        w=numbers(2, 1, 4, 3),
    )  # fmt: skip
    imported = from_onnx(path)  # compares with onnxruntime on the file itself
    spatial = imported.plan.shapes["conv"][1:]
    assert (spatial == (-(-7 // stride), -(-10 // stride))) == (auto_pad != "VALID")


def test_every_rule_has_an_onnx_operator() -> None:
    for operator in RULES:
        assert onnx.defs.has(operator)


def test_unused_constants_do_not_matter_and_computed_shapes_need_not_be_known(
    tmp_path: Path,
) -> None:
    path = model_file(
        tmp_path / "m.onnx",
        """m (float[N, 4] x) => (float[N, 3] y) {
            spare = Constant<value_floats=[0.5, 0.5]>()
            w = Identity(v)
            y = Gemm(x, w, b)
        }""",
        v=numbers(4, 3), b=np.array(0.5, np.float32),
    )  # fmt: skip
    imported = from_onnx(path)
    assert np.array_equal(imported.values["linear.bias"], np.full(3, 0.5, np.float32))
