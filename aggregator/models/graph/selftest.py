"""Every training graph is held against torch in float64 before it leaves the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.func import functional_call

from aggregator.models.graph.trace import LossFunction, State, Subject, training_step
from aggregator.models.session import open_session
from fedsparse.errors import PlanError
from fedsparse.plan import Loss
from fedsparse.plan.training_graph import TrainingGraph

BATCHES: Final = (1, 3, 5, 8)
# An operator that is wrong is wrong for all samples; a ReLU whose input lies within rounding of
# zero is not, and may alone make 1e-2 of a small batch's gradient.
ATTEMPTS: Final = 3
SAMPLES: Final = ATTEMPTS * max(BATCHES)
# Norm of the difference by norm of the true value. Rounding alone gives 1e-6, the batch-norm of
# inference in training 0.3.
TOLERANCE: Final = 5e-3
# A deep model has so many ReLUs that torch's own float32 strays as far: so many times as far is
# allowed, and never more than the last.
STRAY: Final = 4.0
LARGEST_TOLERANCE: Final = 0.1
# Of all gradients together: below that a gradient (a bias before a batch-norm) counts as zero.
NOISE: Final = 1e-3


def check_graph(
    graph: TrainingGraph,
    exact: Subject,
    single: Subject,
    loss: LossFunction,
    targets: Loss,
    samples: torch.Tensor,
) -> None:
    """Compare loss, gradients, running statistics and outputs on several batch sizes.

    Args:
        graph: as exported.
        exact: the same module in float64.
        single: the same module in float32, whose own error is the yardstick of a deep model's.
        loss: of the module's outputs.
        targets: which targets it takes.
        samples: `(SAMPLES, *input_shape)`.

    Raises:
        PlanError: onnxruntime refuses the graph, or it computes something else; names the worst.
    """
    sessions = open_session(graph.training), open_session(graph.inference)
    for batch in BATCHES:
        if batch < graph.least_batch:
            continue
        for attempt in range(ATTEMPTS):
            first = attempt * max(BATCHES)
            try:
                x = samples[first : first + batch]
                _check(graph, (exact, single), loss, targets, x, sessions)
                break
            except PlanError:
                if attempt == ATTEMPTS - 1:
                    raise


def _check(
    graph: TrainingGraph,
    subjects: tuple[Subject, Subject],
    loss: LossFunction,
    targets: Loss,
    x: torch.Tensor,
    sessions: tuple[Any, Any],
) -> None:
    generator = torch.Generator().manual_seed(len(x))
    exact, single = subjects
    outputs = _outputs(exact, x)
    y = random_targets(targets, outputs, generator)
    draws = [torch.rand(len(x), n, generator=generator) for n in exact.draws]
    wanted, rounded = (_wanted(subject, loss, x, y, draws) for subject in subjects)
    state = {**exact.trained, **exact.statistics}
    feed = {"samples": x, "targets": y, **state}
    feed |= {f"draw:{i}": values for i, values in enumerate(draws)}
    allowed = {name: _allowed(rounded[name], true) for name, true in wanted.items()}
    _compare(_run(sessions[0], feed, graph, wanted), wanted, allowed, len(x))
    found = _run(sessions[1], {"samples": x, **state}, graph, {})
    strayed = _allowed(_outputs(single, x), outputs)
    _compare(found, {"outputs": outputs}, {"outputs": strayed}, len(x))


def _allowed(rounded: torch.Tensor, true: torch.Tensor) -> float:
    """The error that float32 explains, by norm of the true value."""
    stray = float((rounded.double() - true).norm()) / (float(true.norm()) + 1e-30)
    return min(LARGEST_TOLERANCE, max(TOLERANCE, STRAY * stray))


def random_targets(loss: Loss, outputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Targets of the right kind for these outputs `(batch, outputs)`."""
    if loss is Loss.CROSS_ENTROPY:
        return torch.randint(0, outputs.shape[1], outputs.shape[:1], generator=generator)
    if loss is Loss.BCE:
        return torch.rand(outputs.shape, generator=generator)
    return torch.randn(outputs.shape, generator=generator)


def _outputs(exact: Subject, x: torch.Tensor) -> torch.Tensor:
    exact.module.eval()
    with torch.no_grad():
        outputs: torch.Tensor = functional_call(
            exact.module, {**exact.trained, **exact.statistics}, (x.to(_precision(exact)),)
        )
    return outputs


def _precision(subject: Subject) -> torch.dtype:
    return next(iter(subject.trained.values())).dtype


def _wanted(
    exact: Subject, loss: LossFunction, x: torch.Tensor, y: torch.Tensor, draws: list[torch.Tensor]
) -> State:
    exact.module.train()
    precision = _precision(exact)
    y = y.to(precision) if y.is_floating_point() else y
    step = training_step(exact, loss)
    value, gradients, moved = step(x.to(precision), y, exact.trained, exact.statistics, draws)
    return {
        "loss": value.detach(),
        **{f"gradient:{name}": gradient for name, gradient in gradients.items()},
        **{f"new:{name}": statistic for name, statistic in moved.items()},
    }


def _run(
    session: Any,  # noqa: ANN401
    feed: State,
    graph: TrainingGraph,
    wanted: State,
) -> dict[str, np.ndarray[Any, Any]]:
    """What the graph yields; every third weight of a prunable tensor is kept."""
    arrays: dict[str, np.ndarray[Any, Any]] = {
        name: (value.float() if value.is_floating_point() else value).numpy()
        for name, value in feed.items()
    }
    if wanted:
        for name in graph.prunable:
            arrays[f"kept:{name}"] = np.arange(0, feed[name].numel(), 3, dtype=np.int32)
            gradient = f"gradient:{name}"
            wanted[gradient] = wanted[gradient].reshape(-1)[::3]
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, arrays), strict=True))
    except Exception as error:  # its own exceptions share no base class
        raise PlanError(
            f"onnxruntime cannot run the training graph with a batch of {len(feed['samples'])}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _compare(
    got: dict[str, np.ndarray[Any, Any]], wanted: State, allowed: dict[str, float], batch: int
) -> None:
    every = [float(v.norm()) ** 2 for name, v in wanted.items() if name.startswith("gradient:")]
    floor = NOISE * float(np.sqrt(sum(every))) + 1e-7
    for name, value in wanted.items():
        true = value.detach().numpy()
        if got[name].shape != true.shape:
            raise PlanError(f"the training graph yields {name} {got[name].shape}, not {true.shape}")
        error = float(np.linalg.norm(got[name] - true)) / (float(np.linalg.norm(true)) + floor)
        if not error <= allowed[name]:
            raise PlanError(
                f"the training graph differs from torch in {name} by {error:.1e} of its norm "
                f"(batch of {batch}): an operator means something else in ONNX; look for a forward "
                "that depends on the batch size, and for random numbers other than dropout's"
            )


def plausible_samples(
    module: torch.nn.Module, input_shape: Sequence[int], count: int
) -> torch.Tensor:
    """Normal samples; where the model reads indices, zeros and ones; `(count, *input_shape)`.

    Raises:
        PlanError: it takes neither.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (count, *input_shape)
    problem = ""
    for samples in (
        torch.randn(shape, generator=generator),
        torch.randint(0, 2, shape, generator=generator).float(),
    ):
        try:
            with torch.no_grad():
                module(samples)
        except Exception as error:  # noqa: BLE001 (user code may raise anything)
            problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
        else:
            return samples
    raise PlanError(f"the model does not accept samples of shape {tuple(input_shape)}: {problem}")
