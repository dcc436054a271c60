"""What a device answers when it is asked which weights matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aggregator.models.to_torch import load_weights, loss_function, to_torch
from edge_client.data.samples import Samples
from edge_client.runtime.engines import Optimizer, open_engine
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.saliency import measure_saliency
from edge_client.trainer.work import Received, encode_result, train
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.packing import mask_digest
from fedsparse.sparsity.values import decode_values
from fedsparse.types import Float32Array, IntArray, Weights
from fedsparse.wire.codecs import F32
from fedsparse.wire.messages import Part, Stage, Task

torch.set_num_threads(1)  # the tests run side by side


def small_plan() -> Plan:
    model = PlanBuilder("small", (1, 6, 6))
    model.conv("conv", 4, 3, pad=1, bias=False)
    model.batch_norm("norm")
    model.relu()
    model.flatten()
    model.linear("fc", 3)
    return model.build()


PLAN = small_plan()
ALL = np.ones(PLAN.num_prunable, np.bool_)


def saliency_task(**changes: object) -> Task:
    fields = {
        "job": "job", "round_id": 0, "attempt": 0, "stage": Stage.SENSE,
        "plan_digest": PLAN.digest, "parts": (Part(name="values", codec="f32", size=4),),
        "mask_digest": mask_digest(PLAN.digest, ALL), "batch_size": 8, "epochs": 1,
    }  # fmt: skip
    return Task(**(fields | changes))  # type: ignore[arg-type]


def answer(task: Task, weights: Weights, samples: Samples) -> tuple[Float32Array, float]:
    engine = open_engine(
        PLAN, ALL, weights, batch_size=task.batch_size,
        setup=EngineSetup(micro_batch=4), optimizer=Optimizer(momentum=task.momentum),
    )  # fmt: skip
    trained = train(engine, PLAN, task, ALL, samples)
    result = encode_result(PLAN, task, Received(mask=ALL, values=bytes), trained)
    assert result.mask_digest == task.mask_digest
    assert [part.name for part in result.parts] == ["values"]
    found = decode_values(F32, result.body, (PLAN.num_prunable,), 0)
    return found.prunable, trained.progress.losses[0]


def oracle(weights: Weights, x: Float32Array, y: IntArray) -> tuple[Float32Array, float]:
    """`|g w|` of one batch by autograd in float64."""
    module = to_torch(PLAN).double()
    load_weights(module, PLAN, weights)
    loss = loss_function(PLAN.loss)(module(torch.tensor(x).double()), torch.tensor(y))
    loss.backward()
    parameters = dict(module.named_parameters())
    parts = [
        (parameters[tensor.name] * parameters[tensor.name].grad).abs().detach().numpy().ravel()
        for tensor in PLAN.prunable
    ]
    return np.concatenate(parts), float(loss.detach())


def some_samples(count: int) -> Samples:
    rng = np.random.default_rng(0)
    return Samples(
        x=rng.standard_normal((count, 1, 6, 6), np.float32),
        y=rng.integers(0, 3, count),
        trained=np.arange(count),
        held_out=np.arange(0),
    )


def test_it_is_the_gradient_times_the_weight_of_one_batch_as_autograd_has_it() -> None:
    weights = initial_weights(PLAN, [t.size for t in PLAN.prunable], np.random.default_rng(1))
    samples = some_samples(4)  # a single batch, in whatever order; and a single micro-batch
    found, loss = answer(saliency_task(batch_size=4), weights, samples)
    expected, expected_loss = oracle(weights, samples.x, samples.y)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.max() > 1e-3


def test_it_is_one_batch_of_many_drawn_by_the_tasks_seed() -> None:
    weights = initial_weights(PLAN, [t.size for t in PLAN.prunable], np.random.default_rng(1))
    samples = some_samples(40)
    first, again, other = (
        answer(saliency_task(seed=seed), weights, samples)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    whole, _ = oracle(weights, samples.x, samples.y)
    assert not np.allclose(first, whole, rtol=1e-2)


def test_samples_that_are_not_finite_are_no_answer() -> None:
    weights = initial_weights(PLAN, [t.size for t in PLAN.prunable], np.random.default_rng(1))
    samples = some_samples(4)
    samples.x[2] = np.nan
    with pytest.raises(EngineError, match="the loss is nan"):
        answer(saliency_task(batch_size=4), weights, samples)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_no_answer(value: float) -> None:
    """Though the loss is."""
    weights = initial_weights(PLAN, [t.size for t in PLAN.prunable], np.random.default_rng(1))
    samples = some_samples(4)
    engine = open_engine(
        PLAN, ALL, weights, batch_size=4, setup=EngineSetup(micro_batch=4), optimizer=Optimizer()
    )
    step = engine.train_step

    def overflow(x: Float32Array, y: IntArray, *, learning_rate: float) -> float:
        loss = step(x, y, learning_rate=learning_rate)
        after = engine.weights()
        after.prunable[5] = value
        engine.restart(after)
        return loss

    engine.train_step = overflow  # type: ignore[method-assign, assignment]
    with pytest.raises(EngineError, match="a gradient is not finite"):
        measure_saliency(engine, samples.x, samples.y)


def test_samples_that_make_no_batch_are_no_answer() -> None:
    weights = initial_weights(PLAN, [t.size for t in PLAN.prunable], np.random.default_rng(1))
    with pytest.raises(EngineError, match="no batch can be made of 1"):
        answer(saliency_task(), weights, some_samples(1))
