"""Hypothesis strategies for every message, and the examples that the golden bytes are made of."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from fedsparse.wire.frame import Absent
from fedsparse.wire.messages import (
    Evaluation,
    Failure,
    LastDecision,
    Message,
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


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
texts = st.text(max_size=400)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
rounds = st.integers(0, 2**31 - 1)
densities = st.floats(0.0, 1.0, exclude_min=True)
measures = st.floats(0.0, 1e12)
positive = st.floats(0.0, 1e9, exclude_min=True)
sizes = st.integers(0, 2**50 - 1)
evaluations = st.integers(0, 1000).flatmap(
    lambda count: st.builds(
        Evaluation,
        correct=st.integers(0, count),
        count=st.just(count),
        loss_sum=st.floats(0, 1e9),
    )
)


@st.composite
def _parts(draw: st.DrawFn, least: int) -> tuple[Part, ...]:
    kinds = st.sampled_from(["mask", "values", "plan", "layers"])
    chosen = draw(st.lists(kinds, min_size=least, max_size=4, unique=True))
    return tuple(
        Part(
            name=name,
            codec=draw(st.sampled_from(["bits", "rice", "f32", "u32", "json"])),
            size=draw(st.integers(0, 40)),
            base=draw(st.just("") | digests),
        )
        for name in chosen
    )


codecs = st.sampled_from(["f32", "f16", "i8"])
runs = st.just(b"") | st.binary(min_size=16, max_size=16)


@st.composite
def _offers(draw: st.DrawFn) -> Offer:
    levels = sorted(draw(st.lists(densities, min_size=1, max_size=4, unique=True)), reverse=True)
    tensors = st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=5)
    return Offer(
        job=draw(names),
        round_id=draw(rounds),
        attempt=draw(st.integers(0, 9)),
        stage=draw(st.sampled_from(Stage)),
        plan_digest=draw(digests),
        levels=tuple(levels),
        mask_digests=tuple(draw(st.just("") | digests) for _ in levels),
        kept=tuple(tuple(draw(tensors)) for _ in levels),
        batch_size=draw(st.integers(1, 65536)),
        epochs=draw(st.integers(1, 10_000)),
        seconds_left=draw(positive),
        steps=draw(st.none() | st.integers(1, 2**31 - 1)),
        down_codec=draw(codecs),
        up_codec=draw(st.just("") | codecs),
        run=draw(runs),
    )


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Status, device=names, online=st.booleans(), board=texts, version=texts,
        decision=st.none() | st.builds(
            LastDecision, job=names, round_id=rounds, level=st.none() | densities, reason=texts
        ),
    ),
    _offers(),
    st.builds(
        Ready, job=names, round_id=rounds, attempt=st.integers(0, 9), level=densities,
        held=st.lists(digests, max_size=3).map(tuple), num_examples=st.integers(1, 2**40 - 1),
        engine=texts, reason=texts, predicted_peak_bytes=sizes, memory_budget_bytes=sizes,
        predicted_round_s=measures,
    ),
    st.builds(
        Ready, job=names, round_id=rounds, attempt=st.just(0), level=st.none(),
        has_plan=st.booleans(),
    ),
    st.builds(
        Task, job=names, round_id=rounds, attempt=st.integers(0, 9), stage=st.sampled_from(Stage),
        plan_digest=digests, parts=_parts(1), mask_digest=st.just("") | digests, level=densities,
        seconds_left=positive, seed=st.integers(0, 2**63 - 1), epochs=st.integers(1, 99),
        batch_size=st.integers(1, 65536), learning_rate=measures, momentum=measures,
        weight_decay=measures, evolve=st.booleans(), prune_rate=measures, evaluate=st.booleans(),
        power=st.floats(1.0, 8.0),
        values_codec=codecs, error_feedback=st.booleans(), run=runs,
    ),
    st.builds(
        Update, job=names, round_id=rounds, stage=st.sampled_from(Stage), level=densities,
        num_examples=st.integers(1, 2**40 - 1), mask_digest=digests, parts=_parts(0),
        loss=measures, evaluation=st.none() | evaluations, step_ms=measures, train_s=measures,
        trainer_s=measures, peak_rss_bytes=sizes, agent_rss_bytes=sizes, run=runs,
    ),
    st.builds(Failure, job=names, round_id=rounds, reason=texts),
    st.builds(
        Receipt, job=names, round_id=rounds, update_digest=digests,
        verdict=st.sampled_from(Verdict), reason=texts,
    ),
    st.builds(
        Need, what=st.sampled_from(["chunks", "mask"]), job=st.just("") | names, round_id=rounds,
        transfer=st.just("") | digests, first=st.integers(0, 2**20 - 1),
        missing=st.binary(max_size=64),
    ),
)  # fmt: skip


def body_of(message: Message) -> bytes:
    """Bytes that fit the parts of a message."""
    parts = message.parts if isinstance(message, Task | Update) else ()
    return b"".join(bytes([index + 1]) * part.size for index, part in enumerate(parts))


VALUES = Part(name="values", codec="f32", size=12)
STEPS = Part(name="values", codec="i8", size=9)
CHANGE = Part(name="values", codec="i8", size=9, base=digest("values"))
MASK = Part(name="mask", codec="rice", size=3, base=digest("mask 0"))

EXAMPLES: dict[str, Message] = {
    "status": Status(
        device="kitchen", online=True, board="raspberry-pi-4b-2gb", version="0.1.0", session="a1"
    ),
    "status_decided": Status(
        device="kitchen", online=True, board="raspberry-pi-4b-2gb", version="0.1.0", session="a1",
        decision=LastDecision(job="watch", round_id=3, level=0.1, reason="0.1: sparse, round 36 s"),
    ),
    "status_offline": Status(device="kitchen", online=False),
    "offer": Offer(
        job="watch", round_id=3, attempt=1, stage=Stage.TRAIN, plan_digest=digest("plan"),
        levels=(0.2, 0.1, 0.05),
        mask_digests=(digest("mask 0"), digest("mask 1"), digest("mask 2")),
        kept=((1500, 30000, 60000, 700), (800, 15000, 30000, 350), (400, 7500, 15000, 200)),
        batch_size=32, epochs=1, seconds_left=59.5,
    ),
    "offer_codecs": Offer(
        job="watch", round_id=0, attempt=0, stage=Stage.SENSE, plan_digest=digest("plan"),
        levels=(0.1,), mask_digests=("",), kept=((800, 15000, 30000, 350),), batch_size=32,
        epochs=10, seconds_left=60.0, evolve=True, down_codec="f16", up_codec="",
    ),
    "ready": Ready(
        job="watch", round_id=3, attempt=1, level=0.1, held=(digest("mask 0"), digest("mask 1")),
        num_examples=1800, engine="sparse", board="raspberry-pi-4b-2gb",
        reason="0.2 needs 71 s of 60 s; 0.1 fits: 36 s and 24.1 MiB of 512 MiB",
        predicted_peak_bytes=25270681, memory_budget_bytes=536870912, predicted_round_s=35.8,
    ),
    "ready_declined": Ready(job="watch", round_id=3, attempt=1, level=None, reason="no samples"),
    "task": Task(
        job="watch", round_id=3, attempt=1, stage=Stage.TRAIN, plan_digest=digest("plan"),
        parts=(MASK, VALUES), mask_digest=digest("mask 1"), level=0.1, seconds_left=58.25,
        seed=20240229, learning_rate=0.0123, momentum=0.9, evolve=True, prune_rate=0.25,
        evaluate=True,
    ),
    "task_values": Task(
        job="watch", round_id=3, attempt=1, stage=Stage.TRAIN, plan_digest=digest("plan"),
        parts=(STEPS,), mask_digest=digest("mask 1"), level=0.1, seconds_left=58.25, seed=20240229,
        learning_rate=0.0123, values_codec="i8", error_feedback=True,
    ),
    "update": Update(
        job="watch", round_id=3, stage=Stage.TRAIN, level=0.1, num_examples=1800,
        mask_digest=digest("mask 1"), parts=(VALUES,), loss=0.734,
        evaluation=Evaluation(correct=151, count=200, loss_sum=131.7), step_ms=3.4, train_s=11.9,
        trainer_s=13.1, peak_rss_bytes=48234496, agent_rss_bytes=25165824,
    ),
    "update_values": Update(
        job="watch", round_id=3, stage=Stage.TRAIN, level=0.1, num_examples=1800,
        mask_digest=digest("mask 1"), parts=(CHANGE,), loss=0.734,
    ),
    "failure": Failure(job="watch", round_id=3, reason="the trainer was killed: out of memory"),
    "receipt": Receipt(
        job="watch", round_id=3, update_digest=digest("body"), verdict=Verdict.ACCEPTED
    ),
    "need_mask": Need(what="mask", job="watch", round_id=3),
    "need_chunks": Need(
        what="chunks", transfer=digest("body"), first=40, missing=b"\x05\x80"
    ),
}  # fmt: skip

LONG = Part(name="values", codec="f32", size=4_000_000)
HEADS: dict[str, tuple[Message, Absent]] = {  # messages whose bodies come apart
    "head_task": (
        Task(
            job="watch", round_id=3, attempt=1, stage=Stage.TRAIN, plan_digest=digest("plan"),
            parts=(MASK, LONG), mask_digest=digest("mask 1"), level=0.1, seconds_left=58.25,
            seed=20240229, learning_rate=0.0123,
        ),
        Absent(digest=digest("body"), size=4_000_003, chunk_bytes=40_000),
    ),
    "head_update": (
        Update(
            job="watch", round_id=3, stage=Stage.TRAIN, level=0.1, num_examples=1800,
            mask_digest=digest("mask 1"), parts=(LONG,), loss=0.734,
        ),
        Absent(digest=digest("values"), size=4_000_000, chunk_bytes=40_000),
    ),
}  # fmt: skip
