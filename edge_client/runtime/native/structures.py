"""The arguments of the kernels: `operations.h`, in the same order."""

from __future__ import annotations

import ctypes
from typing import Final

INTEGER, REAL, POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


def _fields(integers: str, reals: str, pointers: str) -> list[tuple[str, type]]:
    return [
        (name, kind)
        for names, kind in ((integers, INTEGER), (reals, REAL), (pointers, POINTER))
        for name in names.split()
    ]


class Walk(ctypes.Structure):
    """`walk`."""

    _fields_ = _fields("lines run input_line output_line output_step output_start", "", "")


class Product(ctypes.Structure):
    """`product_arguments`."""

    _fields_ = [
        ("walk", Walk),
        *_fields("output_channel", "", "row_start offset order values bias input output"),
    ]


class WeightGradient(ctypes.Structure):
    """`weight_gradient_arguments`."""

    _fields_ = [
        ("walk", Walk),
        *_fields(
            "gradient_channel accumulate", "", "row_start offset input gradient result bias_result"
        ),
    ]


class DenseProduct(ctypes.Structure):
    """`dense_product_arguments`."""

    _fields_ = [
        ("walk", Walk),
        *_fields(
            "output_channel group_rows group_values group_input row_values",
            "",
            "row_start offset order values bias input output",
        ),
    ]


class DenseWeightGradient(ctypes.Structure):
    """`dense_weight_gradient_arguments`."""

    _fields_ = [
        ("walk", Walk),
        *_fields(
            "gradient_channel accumulate bias_accumulate group_rows group_input",
            "",
            "row_start offset input gradient result bias_result",
        ),
    ]


class Position(ctypes.Structure):
    """`position_arguments`."""

    _fields_ = _fields("count size accumulate", "", "position input output")


class Index(ctypes.Structure):
    """`index_arguments`."""

    _fields_ = _fields(
        "rows channels kernel_height kernel_width group_rows order_skip "
        "stride_height stride_width dilation_height dilation_width top left "
        "planes_down planes_across plane_height plane_width "
        "gradient_height gradient_width gradient_top gradient_left",
        "",
        "mask row_start offset back_start back_offset back_order",
    )


class Pad(ctypes.Structure):
    """`pad_arguments`."""

    _fields_ = _fields(
        "channels height width top left stride_height stride_width "
        "planes_down planes_across plane_height plane_width",
        "low high",
        "input output mean inverse scale shift",
    )


class Pool(ctypes.Structure):
    """`pool_arguments`."""

    _fields_ = _fields(
        "channels height width kernel_height kernel_width stride_height stride_width "
        "top left output_height output_width",
        "",
        "input output index",
    )


class Channel(ctypes.Structure):
    """`channel_arguments`."""

    _fields_ = _fields("channels positions", "", "input output")


class Map(ctypes.Structure):
    """`map_arguments`."""

    _fields_ = _fields("count", "", "input other output")


class LeakyRelu(ctypes.Structure):
    """`leaky_relu_arguments`."""

    _fields_ = _fields("", "slope", "input output")


class Dropout(ctypes.Structure):
    """`dropout_arguments`."""

    _fields_ = _fields("node", "rate", "seed sample input output")


class Gate(ctypes.Structure):
    """`gate_arguments`."""

    _fields_ = _fields("positions", "", "input other output")


class Slice(ctypes.Structure):
    """`slice_arguments`."""

    _fields_ = _fields("input_start output_start", "", "input output")


class Upsample(ctypes.Structure):
    """`upsample_arguments`."""

    _fields_ = _fields("height width rows columns", "", "input output")


class GroupNorm(ctypes.Structure):
    """`group_norm_arguments`."""

    _fields_ = _fields(
        "groups length span parameters accumulate",
        "eps",
        "input output scale shift mean inverse scale_gradient shift_gradient",
    )


class BatchNorm(ctypes.Structure):
    """`batch_norm_arguments`."""

    _fields_ = _fields(
        "channels positions accumulate",
        "eps momentum low high",
        "input output scale shift running_mean running_var mean inverse "
        "scale_gradient shift_gradient",
    )


class CrossEntropy(ctypes.Structure):
    """`cross_entropy_arguments`."""

    _fields_ = _fields("classes", "", "logits targets total gradient loss")


class ElementwiseLoss(ctypes.Structure):
    """`elementwise_loss_arguments`."""

    _fields_ = _fields("outputs", "", "logits targets total gradient loss")


class Sgd(ctypes.Structure):
    """`sgd_arguments`."""

    _fields_ = _fields("count", "momentum weight_decay", "learning_rate value gradient velocity")


class Call(ctypes.Structure):
    """`call`."""

    _fields_ = (
        ("function", POINTER),
        ("arguments", POINTER),
        ("units", INTEGER),
        ("chunk", INTEGER),
    )


class Limit(ctypes.Structure):
    """`limit_arguments`."""

    _fields_ = _fields("count rounds", "", "input output")


ACTIVATIONS: Final = (
    "relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hard_sigmoid", "hard_swish",
)  # fmt: skip

ARGUMENTS: Final[dict[str, type[ctypes.Structure]]] = {
    "product": Product,
    "weight_gradient": WeightGradient,
    "dense_product": DenseProduct,
    "dense_weight_gradient": DenseWeightGradient,
    "scatter": Position,
    "gather": Position,
    "pad": Pad,
    "normalise_pad": Pad,
    "max_pool": Pool,
    "max_pool_backward": Pool,
    "avg_pool": Pool,
    "avg_pool_backward": Pool,
    "global_avg_pool": Channel,
    "global_avg_pool_backward": Channel,
    "load": Map,
    **dict.fromkeys(ACTIVATIONS, Map),
    **{f"{name}_backward": Map for name in ACTIVATIONS},
    "leaky_relu": LeakyRelu,
    "leaky_relu_backward": LeakyRelu,
    "dropout": Dropout,
    "dropout_inference": Dropout,
    "add": Map,
    "multiply": Map,
    "gate": Gate,
    "gate_gradient": Gate,
    "copy_slice": Slice,
    "upsample": Upsample,
    "upsample_backward": Upsample,
    "copy": Map,
    "clear": Map,
    "batch_norm": BatchNorm,
    "batch_norm_inference": BatchNorm,
    "batch_norm_statistics": BatchNorm,
    "batch_norm_statistics_inference": BatchNorm,
    "batch_norm_backward": BatchNorm,
    "group_norm": GroupNorm,
    "group_norm_backward": GroupNorm,
    "group_norm_parameters": GroupNorm,
    "cross_entropy": CrossEntropy,
    "mse": ElementwiseLoss,
    "bce": ElementwiseLoss,
    "sgd": Sgd,
    "fma_limit": Limit,
    "load_limit": Limit,
    "copy_limit": Limit,
}
