"""How much each weight matters to a batch, before anything is trained.

Source: SSFL (Ohib et al., TMLR 2026), after SNIP (Lee et al., ICLR 2019).
"""

from __future__ import annotations

import numpy as np

from edge_client.runtime.engine import Engine
from edge_client.runtime.gradient import probe, slope
from edge_client.runtime.parts import parts
from fedsparse.errors import EngineError
from fedsparse.types import Float32Array, IntArray


def measure_saliency(
    engine: Engine, samples: Float32Array, labels: IntArray | Float32Array
) -> tuple[Float32Array, float]:
    """`|g * w|` of the kept prunable weights `(nnz,)`, and the loss of the batch.

    Args:
        engine: opened without momentum, weight decay and power; of no use afterwards.
        samples, labels: one batch.

    Raises:
        EngineError: the loss or a gradient is not finite.
    """
    probed = probe(engine, samples, labels)
    before, saliency = probed.before.prunable, probed.after.prunable
    for part in parts(before.size):
        saliency[part] = np.abs(slope(before[part], saliency[part]) * before[part])
    if not np.isfinite(saliency).all():
        raise EngineError("a gradient is not finite: look for NaN or infinity among the samples")
    return saliency, probed.loss
