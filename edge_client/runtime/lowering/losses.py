"""The loss: its value, and where the way back begins."""

from __future__ import annotations

from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.program import Ref, Store, Work
from fedsparse.plan import Loss

TOUCHES: Final = {Loss.CROSS_ENTROPY: 80, Loss.MSE: 40, Loss.BCE: 50}  # for each output


def loss(builder: Builder, last: str) -> None:
    """The loss of the outputs called `last`, and their gradient."""
    kind, outputs = builder.plan.loss, builder.plan.classes
    size = "classes" if kind is Loss.CROSS_ENTROPY else "outputs"
    gradient = builder.buffer(floats=outputs)
    builder.emit(
        kind.value,
        1,
        Work(touches=TOUCHES[kind] * outputs),
        **{size: outputs},
        logits=builder.values[last],
        targets=Ref(store=Store.TARGETS),
        total=Ref(store=Store.TOTAL),
        gradient=gradient,
        loss=Ref(store=Store.LOSS),
    )
    builder.deliver(last, gradient)
