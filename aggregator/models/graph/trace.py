"""A torch module's training step and its inference as graphs of aten operators, any batch size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, functionalize, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.nn.modules.batchnorm import _NormBase

from aggregator.models.graph.decompositions import decompositions
from aggregator.models.graph.emitter import is_free
from aggregator.models.graph.randomness import Draws
from fedsparse.errors import PlanError

BATCH: Final = 6  # of the trace; a graph that is true for this size alone fails the self-test

State = dict[str, torch.Tensor]
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """An aten graph, and what its inputs and outputs are, in order.

    Attributes:
        graph: its placeholders and outputs are those named here.
        inputs, outputs: names.
    """

    graph: torch.fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A module that is to be traced, with its state by what becomes of it.

    Attributes:
        module: a copy, which nothing else uses.
        trained: parameters that have a gradient; a shared one once.
        statistics: buffers that training moves; the rest is constant.
        draws: numbers that each dropout draws for one sample.
    """

    module: torch.nn.Module
    trained: State
    statistics: State
    draws: tuple[int, ...] = ()


def subject_of(module: torch.nn.Module, samples: torch.Tensor, dtype: torch.dtype) -> Subject:
    """A copy of a module in this precision, and which of its buffers move.

    Args:
        module: not changed.
        samples: some that it accepts, `(batch, *input_shape)`, two or more.
        dtype: of parameters and buffers.

    Raises:
        PlanError: batch-norm with a cumulative average.
    """
    module = copy.deepcopy(module).cpu().to(dtype).train()
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.num_batches_tracked is not None:
            if layer.momentum is None:
                raise PlanError(
                    f"'{name}': a cumulative average (momentum=None) is unknown to devices: set a "
                    "momentum"
                )
            layer.num_batches_tracked = None  # counts steps, for that case only
    before = {name: value.clone() for name, value in module.named_buffers()}
    draws = Draws(len(samples))
    with torch.no_grad(), draws:
        module(samples.to(dtype))
    moved = [name for name, value in module.named_buffers() if not torch.equal(value, before[name])]
    for name, value in module.named_buffers():
        value.copy_(before[name])
    buffers = dict(module.named_buffers())
    return Subject(
        module=module,
        trained={name: p.detach() for name, p in module.named_parameters() if p.requires_grad},
        statistics={name: buffers[name].detach() for name in moved},
        draws=tuple(draws.needed),
    )


def training_step(
    subject: Subject, loss: LossFunction
) -> Callable[..., tuple[torch.Tensor, State, State]]:
    """A pure function of samples, targets, trained tensors, statistics and draws.

    It returns the loss, the gradients, and the new statistics.
    """

    def step(
        samples: torch.Tensor,
        targets: torch.Tensor,
        trained: State,
        statistics: State,
        draws: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, State, State]:
        def value_of(trained: State) -> tuple[torch.Tensor, State]:
            moving = {name: value.clone() for name, value in statistics.items()}
            with Draws(samples.shape[0], draws):
                outputs = functional_call(subject.module, {**trained, **moving}, (samples,))
            return loss(outputs, targets), moving

        gradients, (value, moved) = grad_and_value(value_of, has_aux=True)(trained)
        return value, gradients, moved

    return step


def trace_training(
    subject: Subject, loss: LossFunction, samples: torch.Tensor, targets: torch.Tensor
) -> Traced:
    """The graph of `training_step`.

    Inputs: `samples`, `targets`, the tensors under their names, `draw:<i>` `(batch, n)`.
    Outputs: `loss`, `gradient:<name>` of what is trained, `new:<name>` of the statistics.

    Raises:
        PlanError: the module cannot be traced.
    """
    subject.module.train()
    step = training_step(subject, loss)
    names = [*subject.trained, *subject.statistics]

    def flat(samples: torch.Tensor, targets: torch.Tensor, *tensors: torch.Tensor) -> list[Any]:
        state = dict(zip(names, tensors, strict=False))
        value, gradients, moved = step(
            samples,
            targets,
            {name: state[name] for name in subject.trained},
            {name: state[name] for name in subject.statistics},
            tensors[len(names) :],
        )
        return [value, *gradients.values(), *moved.values()]

    draws = [torch.rand(len(samples), n) for n in subject.draws]
    return Traced(
        graph=_trace(flat, [samples, targets, *draws], subject, len(draws)),
        inputs=("samples", "targets", *names, *(f"draw:{i}" for i in range(len(draws)))),
        outputs=(
            "loss",
            *(f"gradient:{name}" for name in subject.trained),
            *(f"new:{name}" for name in subject.statistics),
        ),
    )


def trace_inference(subject: Subject, samples: torch.Tensor) -> Traced:
    """The graph of the outputs: inputs `samples` and the tensors; output `outputs`.

    Raises:
        PlanError: the module cannot be traced.
    """
    subject.module.eval()
    names = [*subject.trained, *subject.statistics]

    def flat(samples: torch.Tensor, *tensors: torch.Tensor) -> list[Any]:
        state = dict(zip(names, tensors, strict=True))
        with Draws(samples.shape[0]):
            return [functional_call(subject.module, state, (samples,))]

    with torch.no_grad():
        graph = _trace(flat, [samples], subject, 0)
    return Traced(graph=graph, inputs=("samples", *names), outputs=("outputs",))


def _trace(
    function: Callable[..., list[Any]],
    batched: Sequence[torch.Tensor],
    subject: Subject,
    last: int,
) -> torch.fx.GraphModule:
    """Trace with tensors that have shapes alone; the first axis of those in `batched` is free.

    Args:
        function: of the batched ones, the state, and the `last` of the batched ones.
        batched: `(batch, ...)`.
        subject: has the state.
        last: how many of `batched` come after the state.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    free = [_fake(mode, value, is_batched=True) for value in batched]
    state = {**subject.trained, **subject.statistics}
    fixed = [_fake(mode, value, is_batched=False) for value in state.values()]
    split = len(free) - last
    traced = make_fx(
        functionalize(function, remove="mutations"),
        decomposition_table=decompositions(),
        _allow_non_fake_inputs=True,
    )
    try:
        with _no_fast_path(), mode, enable_python_dispatcher():
            graph = traced(*free[:split], *fixed, *free[split:])
    except PlanError:
        raise
    except Exception as error:  # user code and the tracer may raise anything
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PlanError(
            f"its training step cannot be traced: {first}; forward must not branch on the values "
            "of tensors, nor on the batch size"
        ) from error
    graph.graph.eliminate_dead_code()
    samples = next(node for node in graph.graph.nodes if node.op == "placeholder").meta["val"]
    if not is_free(samples.shape[0]):
        raise PlanError(
            f"its forward holds for a batch of {int(samples.shape[0])} alone: it must not compare "
            "the batch size, nor turn it into a number"
        )
    return graph


def _fake(mode: Any, value: torch.Tensor, *, is_batched: bool) -> torch.Tensor:  # noqa: ANN401
    sizes = [DimDynamic.STATIC] * value.dim()
    if is_batched:
        sizes[0] = DimDynamic.DUCK  # one symbol for all of them
    fake: torch.Tensor = mode.from_tensor(
        value.detach(), symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes)
    )
    return fake


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Without torch's own fused inference of transformers, which has no definition in aten."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def moved_to(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> State:
    """A copy in another precision."""
    return {name: value.detach().clone().to(dtype) for name, value in state.items()}
