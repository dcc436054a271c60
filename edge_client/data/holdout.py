"""How many samples are trained on and how many are held out; no numpy, the agent needs it too."""

from __future__ import annotations

from fedsparse.errors import DataError


def holdout_sizes(num_samples: int, share: float) -> tuple[int, int]:
    """Split a count into samples to train on (at least one) and samples held out.

    Args:
        num_samples: of the whole file.
        share: to hold out, in [0, 1).

    Raises:
        DataError: there is no sample at all.
    """
    if num_samples < 1:
        raise DataError("no samples: nothing can be trained")
    held_out = min(num_samples - 1, round(share * num_samples))
    return num_samples - held_out, held_out
