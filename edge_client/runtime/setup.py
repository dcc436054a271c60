"""How a training step is run: engine, samples at once, kernels, threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fedsparse.errors import EngineError

ENGINES: Final = ("sparse", "graph")
MAX_THREADS: Final = 64

# A call that takes less is over before a parked thread has woken up; and should another process
# take that thread's core, everyone waits for the chunk that it has begun.
SHARED_CALL_S: Final = 300e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """What a device has chosen for one plan under one mask; no choice changes what is learnt.

    Only batch-norm sees the micro-batch: its statistics are those of the samples that go through
    together (docs/runtime.md).

    Attributes:
        engine: `sparse` (native kernels) or `graph` (onnxruntime).
        micro_batch: the most samples that go through at once; the gradients of a batch are
            added up. Fewer take less memory.
        dense_layers: names of weight tensors for which `sparse` takes its dense kernels, because
            they are faster there at the density at hand.
        threads: of one step.
        shared_work: multiply-adds (of the cost model) from which on several threads share a kernel
            call. The default suits a fast desktop core; calibration knows better (`worth_sharing`).
    """

    engine: str = "sparse"
    micro_batch: int
    dense_layers: tuple[str, ...] = ()
    threads: int = 1
    shared_work: int = 8_000_000

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise EngineError(f"there is no engine '{self.engine}': {' or '.join(ENGINES)}")
        if self.micro_batch < 1:
            raise EngineError(f"a micro-batch has at least one sample, got {self.micro_batch}")
        if self.shared_work < 1:
            raise EngineError(f"shared_work must be positive, got {self.shared_work}")
        if not 1 <= self.threads <= MAX_THREADS:
            raise EngineError(f"threads must be 1 to {MAX_THREADS}, got {self.threads}")


def worth_sharing(multiply_adds: int, step_s: float) -> int:
    """The work of a call that takes `SHARED_CALL_S` on one thread.

    Args:
        multiply_adds: of a step.
        step_s: seconds that it took.
    """
    return max(1, int(multiply_adds / step_s * SHARED_CALL_S))
