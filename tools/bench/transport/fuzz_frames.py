"""Broken frames through the decoder: it may refuse them, and nothing else."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable
from typing import Final

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import Absent
from fedsparse.wire.headers import decode_envelope, encode_message, encode_message_head
from fedsparse.wire.messages import (
    Evaluation,
    Failure,
    LastDecision,
    Need,
    Offer,
    Part,
    Ready,
    Receipt,
    Stage,
    Status,
    Task,
    Update,
    Verdict,
)
from fedsparse.wire.transfer import asked_for, decode_chunk, encode_chunk
from tools.bench.transport.fuzz_result import FuzzResult
from tools.bench.transport.mutations import mutated
from tools.bench.transport.process_usage import resident_mb

BLOCK: Final = 1000  # frames that follow from one seed
MOST_TOLD: Final = 10
DIGEST: Final = "5a" * 32
BODY: Final = bytes(range(120))
PARTS: Final = (
    Part(name="mask", codec="rice", size=20, base=DIGEST),
    Part(name="values", codec="i8", size=100),
)


def good_frames() -> tuple[bytes, ...]:
    """One of every kind, heads and a chunk among them."""
    task = Task(
        job="job", round_id=3, attempt=1, stage=Stage.TRAIN, plan_digest=DIGEST, parts=PARTS,
        mask_digest=DIGEST, level=0.1, seconds_left=9.5, seed=7, learning_rate=0.1, momentum=0.9,
    )  # fmt: skip
    update = Update(
        job="job", round_id=3, stage=Stage.TRAIN, level=0.1, num_examples=9, mask_digest=DIGEST,
        parts=PARTS, loss=0.5, evaluation=Evaluation(correct=3, count=4, loss_sum=1.5),
    )  # fmt: skip
    offer = Offer(
        job="job", round_id=3, attempt=1, stage=Stage.TRAIN, plan_digest=DIGEST, levels=(0.2, 0.1),
        mask_digests=(DIGEST, ""), kept=((5, 6), (3, 2)), batch_size=32, epochs=1, seconds_left=9.0,
    )  # fmt: skip
    ready = Ready(
        job="job", round_id=3, attempt=1, level=0.1, held=(DIGEST,), num_examples=9, board="a",
        reason="fits", predicted_peak_bytes=10**7,
    )  # fmt: skip
    decision = LastDecision(job="job", round_id=1, level=0.1, reason="fits")
    absent = Absent(digest=DIGEST, size=len(BODY), chunk_bytes=16)
    others = (
        Status(device="pi", online=True, board="a", decision=decision),
        Failure(job="job", round_id=3, reason="no memory"),
        Receipt(job="job", round_id=3, update_digest=DIGEST, verdict=Verdict.LATE, reason="late"),
        Need(what="chunks", transfer=DIGEST, first=2, missing=b"\x05\x01"),
        Need(what="mask", job="job", round_id=3),
    )
    return (
        *(encode_message(one, BODY) for one in (task, update)),
        *(encode_message_head(one, absent) for one in (task, update)),
        *(encode_message(one) for one in (offer, ready, *others)),
        encode_chunk(BODY),
    )


def take(frame: bytes) -> None:
    """What a receiver does with a payload before it knows who it is for."""
    decode_chunk(frame) if len(frame) > 3 and frame[3] == 16 else _take_message(frame)


def _take_message(frame: bytes) -> None:
    message, _ = decode_envelope(frame)
    if isinstance(message, Need):
        for _ in asked_for(message, 100):
            pass


def fuzz_frames(
    count: int,
    seed: int,
    tell: Callable[[float], None],
    taken: Callable[[bytes], None] = take,
) -> FuzzResult:
    """Take `count` broken frames.

    Args:
        count: how many.
        seed: of all of them.
        tell: is told which share is done.
        taken: what they are given to.
    """
    began_s = time.monotonic()
    good = good_frames()
    refused, unexpected, warm_mb = 0, list[str](), 0.0
    for block in range(-(-count // BLOCK)):
        draw = random.Random(f"{seed}/{block}")  # noqa: S311 (no secret)
        for index in range(min(BLOCK, count - block * BLOCK)):
            frame = mutated(draw.choice(good), draw)
            try:
                taken(frame)
            except RemoteProtocolError:
                refused += 1
            except Exception as error:  # noqa: BLE001 (which one, is what is asked)
                if len(unexpected) < MOST_TOLD:
                    unexpected.append(
                        f"seed {seed}, frame {block * BLOCK + index}: {error!r}: "
                        f"{frame[:200].hex()} (crc {zlib.crc32(frame):08x})"
                    )
        if not warm_mb and (block + 1) * BLOCK * 10 >= count:
            warm_mb = resident_mb()
        tell(min(1.0, (block + 1) * BLOCK / count))
    return FuzzResult(
        target="decoder",
        seed=seed,
        frames=count,
        refused=refused,
        unexpected=tuple(unexpected),
        growth_mb=resident_mb() - warm_mb,
        wall_s=time.monotonic() - began_s,
    )
