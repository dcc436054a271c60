"""What each operator of a torch graph becomes in a plan.

A rule takes the assembly and one call of the graph, and returns the value that the call yields. To
support another operator, add its rule to `RULES` under the name that torch's own schema gives it;
activations need none, see `aggregator.models.torch_formulas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aggregator.models import torch_layers as layers
from aggregator.models.assembly import Assembly, Value
from aggregator.models.torch_call import Call
from fedsparse.errors import PlanError
from fedsparse.plan import Add, Concat, Dropout, Mul


def _add(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    if arguments["alpha"] != 1:
        raise PlanError(f"alpha={arguments['alpha']}; only alpha=1 is supported")
    left, right = call.data(arguments["self"]), call.data(arguments["other"])
    return assembly.add_sum(left, right, name=call.name(Add.kind))


def _mul(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    left, right = call.data(arguments["self"]), call.data(arguments["other"])
    return assembly.add_product(left, right, name=call.name(Mul.kind))


def _concat(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    parts = [call.data(part) for part in arguments["tensors"]]
    return assembly.add_concat(parts, axis=arguments["dim"], name=call.name(Concat.kind))


def _view(assembly: Assembly, call: Call) -> Value:
    return assembly.reshape(call.data(call.node.args[0]), call.shape(), name=call.name("flatten"))


def _expand(assembly: Assembly, call: Call) -> Value:
    return assembly.expand(call.data(call.node.args[0]), call.shape())


def _slice(assembly: Assembly, call: Call) -> Value:
    source = call.data(call.node.args[0])
    if call.shape() != source.shape:
        raise PlanError(f"it takes {call.shape()} out of {source.shape}; slicing is not supported")
    return source


def _same(assembly: Assembly, call: Call) -> Value:
    return call.data(call.node.args[0])


def _dropout(assembly: Assembly, call: Call) -> Value:
    arguments = call.arguments()
    source, p = call.data(arguments["input"]), float(arguments["p"])
    if p == 0:
        return source
    if arguments["train"]:
        raise PlanError("it drops in evaluation too; use nn.Dropout, or training=self.training")
    if call.operator != "dropout":
        raise PlanError("it drops whole channels, which is not supported; use nn.Dropout")
    return assembly.add_dropout(p, source, name=call.name(Dropout.kind))


def _softmax(assembly: Assembly, call: Call) -> Value:
    source = call.data(call.node.args[0])
    axis = call.arguments()["dim"] % (len(source.shape) + 1)
    if axis != 1 or any(user.op != "output" for user in call.node.users):
        raise PlanError("only a softmax over the classes at the very end is supported")
    return assembly.drop_softmax(call.operator, source)


Rule = Callable[[Assembly, Call], Value]
RULES: Final[dict[str, Rule]] = {
    "conv1d": layers.conv, "conv2d": layers.conv,
    "linear": layers.linear,
    "batch_norm": layers.batch_norm,
    "group_norm": layers.group_norm,
    "layer_norm": layers.layer_norm,
    "max_pool1d": layers.pool, "max_pool2d": layers.pool,
    "avg_pool1d": layers.pool, "avg_pool2d": layers.pool,
    "adaptive_avg_pool1d": layers.adaptive_pool, "adaptive_avg_pool2d": layers.adaptive_pool,
    "mean": layers.mean,
    "upsample_nearest1d": layers.upsample, "upsample_nearest2d": layers.upsample,
    "add": _add, "mul": _mul,
    "cat": _concat, "concat": _concat,
    "flatten": _view, "view": _view, "reshape": _view, "squeeze": _view, "unsqueeze": _view,
    "expand": _expand, "expand_as": _expand, "slice": _slice,
    "contiguous": _same, "clone": _same, "detach": _same, "alias": _same,
    "dropout": _dropout, "feature_dropout": _dropout,
    "softmax": _softmax, "log_softmax": _softmax,
}  # fmt: skip
