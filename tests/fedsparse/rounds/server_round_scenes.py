"""What the tests of the server's machine share: a policy, answers, digests."""

from __future__ import annotations

import hashlib

from fedsparse.rounds.server import Policy, ServerRounds
from fedsparse.wire.messages import Ready, Stage

LEVELS = (0.2, 0.1, 0.05)


def policy(
    *,
    min_devices: int = 2,
    min_sense_devices: int | None = None,
    expected_devices: int = 0,
    participation: float = 1.0,
    gather_s: float = 10.0,
    deadline_s: float = 100.0,
    offline_grace_s: float = 5.0,
    quorum: float = 1.0,
    sense_devices: int = 2,
    rotate_levels: bool = False,
    seed: int = 0,
) -> Policy:
    return Policy(
        min_devices=min_devices,
        min_sense_devices=min_devices if min_sense_devices is None else min_sense_devices,
        expected_devices=expected_devices,
        participation=participation,
        gather_s=gather_s,
        deadline_s=deadline_s,
        offline_grace_s=offline_grace_s,
        quorum=quorum,
        sense_devices=sense_devices,
        rotate_levels=rotate_levels,
        seed=seed,
    )


def ready(level: float | None, round_id: int = 1, *, has_plan: bool = True) -> Ready:
    return Ready(
        job="job",
        round_id=round_id,
        attempt=0,
        level=level,
        has_plan=has_plan,
        num_examples=10 if level else 0,
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def training(devices: dict[str, float], **changes: float) -> ServerRounds:
    """A machine whose round 1 began to train at second 0, with all `devices` in its cohort."""
    machine = ServerRounds(policy(min_devices=1, **changes), started=True)  # type: ignore[arg-type]
    for device in devices:
        machine.device_online(device, 0.0)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    for device, level in devices.items():
        machine.answered(device, ready(level), 0.0)
    assert dict(machine.cohort()) == devices
    return machine
