"""Quantities that fall over the rounds."""

from __future__ import annotations


def learning_rate(round_id: int, rounds: int, start: float, end: float) -> float:
    """The rate of a round, falling exponentially: exactly `start` at first, `end` at last.

    Args:
        round_id: from 0 to `rounds - 1`.
        rounds: how many there are; a single one uses `start`.
        start: the first rate, positive.
        end: the last rate, positive.

    Source: FLASH reference, train_clients; deviation: its schedule never reaches the end.
    """
    step = _progress(round_id, rounds)
    return end if step == 1.0 else float(start * (end / start) ** step)


def linear_decay(start: float, step: int, steps: int) -> float:
    """`start` at step 0, falling in a straight line to exactly 0 at step `steps - 1`."""
    return start * (1.0 - _progress(step, steps))


def _progress(step: int, steps: int) -> float:
    if not 0 <= step < steps:
        raise ValueError(f"step {step} of {steps}: steps count from 0")
    return step / (steps - 1) if steps > 1 else 0.0
