"""A torch module -> plan and values, from the graph that `torch.export` captures."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from aggregator.models.assembly import Assembly, Imported, UnexpressedError, UnplannedError, Value
from aggregator.models.torch_call import Call, is_in_place
from aggregator.models.torch_formulas import torch_formulas
from aggregator.models.torch_rules import RULES
from aggregator.models.verify import check_same_logits
from fedsparse.errors import PlanError
from fedsparse.plan import Loss, Shape
from fedsparse.plan.builder import PlanBuilder
from fedsparse.types import Float32Array

if TYPE_CHECKING:
    import torch

BATCH: Final = 3  # any size that shows where a model confuses the batch with another axis


def from_torch(
    module: torch.nn.Module,
    input_shape: Shape,
    *,
    name: str = "",
    loss: Loss = Loss.CROSS_ENTROPY,
) -> Imported:
    """Import a module as it behaves in evaluation; the module itself is not changed.

    Args:
        module: yields `(batch, outputs)`; its parameters are the initial values.
        input_shape: of one sample.
        name: of the plan; default: the module's class.
        loss: what it is to be trained for.

    Raises:
        PlanError: the module cannot be traced, or holds what no plan can express; every problem is
            named with its node.
    """
    _check_trained(module)
    name = name or type(module).__name__
    module = copy.deepcopy(module).cpu().float().eval()
    program = _export(module, input_shape, name)
    imported = _GraphReader(
        program, Assembly(builder=PlanBuilder(name, input_shape), loss=loss)
    ).read(name)
    try:
        check_same_logits(imported, lambda samples: _run(module, samples))
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from error
    return imported


def _check_trained(module: torch.nn.Module) -> None:
    frozen = [name for name, value in module.named_parameters() if not value.requires_grad]
    if frozen:
        raise UnexpressedError(
            f"'{frozen[0]}' is frozen (requires_grad is False), a plan trains every tensor: let it "
            "be trained, or keep it frozen in a training graph"
        )


def _export(module: torch.nn.Module, input_shape: Shape, name: str) -> Any:  # noqa: ANN401
    import torch

    try:
        module(torch.zeros((BATCH, *input_shape)))
    except Exception as error:  # user code may raise anything
        raise PlanError(
            f"{name} does not accept samples of shape {input_shape}: {_first_line(error)}"
        ) from error
    try:
        samples = torch.zeros((BATCH, *input_shape))
        return torch.export.export(module, (samples,), strict=False)
    except Exception as error:  # the exporter may raise anything
        raise UnexpressedError(
            f"{name} cannot be traced (torch.export): {_first_line(error)}; its forward must not "
            "branch on the values of tensors"
        ) from error


def _run(module: torch.nn.Module, samples: Float32Array) -> Float32Array:
    import torch

    with torch.no_grad():
        output: Float32Array = module(torch.from_numpy(samples)).numpy()
    return output


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _GraphReader:
    """One pass over an exported program, node by node."""

    def __init__(self, program: Any, assembly: Assembly) -> None:  # noqa: ANN401
        self.program = program
        self.assembly = assembly
        self.values: dict[Any, Value] = {}
        signature = program.graph_signature
        self.names: dict[str, str] = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.formulas = torch_formulas(program.graph)
        self.tensors = {**program.constants, **program.state_dict}

    def read(self, source: str) -> Imported:
        """The whole model; raises `PlanError` with all its problems."""
        output = Value(node="", shape=())
        needed = self._needed()
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name not in self.names:
                self.values[node] = self.assembly.input()
            elif node in needed:
                self._call(node)
            elif node.op == "output":
                output = self._output(source, node.args[0])
        return self.assembly.finish(source, output)

    def _call(self, node: Any) -> None:  # noqa: ANN401
        call = Call(node=node, values=self.values, names=self.names, tensors=self.tensors)
        try:
            value = self._value(call)
        except PlanError as error:
            self.assembly.problems.append(f"node '{call.label}' ({call.target}): {error}")
            value = Value(node="", shape=())
        except UnplannedError:
            value = Value(node="", shape=())
        self.values[node] = value
        if call.is_in_place:
            self.values[node.args[0]] = value

    def _value(self, call: Call) -> Value:
        if call.node in self.formulas:
            formula = self.formulas[call.node]
            source, name = call.data(formula.root), call.name(formula.operator.kind)
            return self.assembly.add(formula.operator, source, name=name, shape=source.shape)
        if call.operator not in RULES:
            raise PlanError("this operator is not supported")
        return RULES[call.operator](self.assembly, call)

    def _needed(self) -> set[Any]:
        """The calls that the output depends on; the inside of an activation is left out."""
        needed: set[Any] = set()
        flowing: set[Any] = set()
        for node in reversed(self.program.graph.nodes):
            if node.op == "output":
                flowing.update(node.all_input_nodes)
            elif node.op == "call_function":
                overwrites = is_in_place(node) and node.args[0] in flowing
                if node in flowing or overwrites:
                    needed.add(node)
                    formula = self.formulas.get(node)
                    flowing.update([formula.root] if formula else node.all_input_nodes)
        return needed

    def _output(self, source: str, outputs: Any) -> Value:  # noqa: ANN401
        if len(outputs) != 1 or outputs[0] not in self.values:
            raise PlanError(f"{source} must yield one tensor; it yields {len(outputs)}")
        return self.values[outputs[0]]
