"""The messages of a round, as values (docs/wire.md, section 4).

Each class is the header of one frame kind; tensors travel in the frame's body as `Part`s. A message
is checked when it is built, so that one that exists is valid. From the wire: `from_header`
(fedsparse/wire/headers.py) turns every violation into a `RemoteProtocolError`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Final

from fedsparse.errors import ProtocolError
from fedsparse.wire.codecs import F32

MAX_LEVELS: Final = 16
MAX_TEXT: Final = 400
MAX_TENSORS: Final = 2_000
MAX_CODEC: Final = 32  # characters of a codec's name
MAX_POWER: Final = 8.0
MAX_NUMBER: Final = 1e15  # of a loss, a time or a rate: sums of many stay finite
RUN_BYTES: Final = 16  # random, drawn when a job begins
KEY_ID_BYTES: Final = 8  # `signer` and `signature` of a message: fedsparse/wire/signing.py
SIGNATURE_BYTES: Final = 64
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # of sites, devices and jobs


class Stage(str, Enum):
    """What a round is for."""

    SENSE = "sense"  # a few devices find the layer densities (stage 1 of FLASH)
    TRAIN = "train"
    EVALUATE = "evaluate"  # devices score the finished model on their hold-outs
    DONE = "done"


class Verdict(str, Enum):
    """What became of an update."""

    ACCEPTED = "accepted"  # durably stored; it counts
    LATE = "late"  # its round is closed; not counted
    REJECTED = "rejected"  # broken; not counted, and not to be sent again


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a frame's body.

    Attributes:
        name: `mask`, `values`, `plan`, `graph` or `layers`.
        codec: how its bytes are to be read (docs/wire.md, section 5).
        size: length in bytes; parts follow each other in the body.
        base: of what these bytes are a change: the digest of a mask; of values, the SHA-256 of the
            part `values` of the task. Empty where they stand for themselves.
    """

    name: str
    codec: str
    size: int
    base: str = ""

    def __post_init__(self) -> None:
        _check(
            self.name in {"mask", "values", "plan", "graph", "layers"}, f"part name {self.name!r}"
        )
        _check(0 < len(self.codec) <= 32, f"part codec {self.codec!r}")
        _check(0 <= self.size < 2**40, f"part size {self.size}")
        _check(self.base == "" or is_digest(self.base), "part base is no SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How well a model does on one holder's samples."""

    correct: int
    count: int
    loss_sum: float

    def __post_init__(self) -> None:
        _check(0 <= self.correct <= self.count < 2**40, f"{self.correct} of {self.count} correct")
        _check_finite("loss_sum", self.loss_sum)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDecision:
    """What a device answered to an offer: the density that it took, or None, and why."""

    job: str
    round_id: int
    level: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        if self.level is not None:
            _check_density(self.level)
        _check_text(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Who a device is (retained); the will is the same with `online=False`.

    Attributes:
        session: changes with every start of the agent.
        decision: the last one that differed from the one before; its round is the one in which it
            was taken first.
    """

    KIND: ClassVar[int] = 1
    device: str
    online: bool
    board: str = ""
    version: str = ""
    session: str = ""
    decision: LastDecision | None = None

    def __post_init__(self) -> None:
        _check(NAME.fullmatch(self.device) is not None, f"device name {self.device[:64]!r}")
        _check_text(self.board, self.version, self.session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A round is open (retained, small): what a device needs to decide whether it can take part."""

    KIND: ClassVar[int] = 2
    job: str
    round_id: int
    attempt: int  # changes when the aggregator was restarted in mid-round: answer again
    stage: Stage
    plan_digest: str
    levels: tuple[float, ...]  # densities, largest first
    mask_digests: tuple[str, ...]  # of each level; empty strings where the method has none to share
    kept: tuple[tuple[int, ...], ...]  # of each level: weights kept in each prunable tensor
    batch_size: int
    epochs: int
    seconds_left: float
    evolve: bool = False  # whether devices are to change their masks while training
    probe: bool = False  # whether gradients are taken apart from steps, which takes memory
    steps: int | None = None  # at most so many batches are taken; None = all of the epochs
    down_codec: str = F32  # how values come to the device,
    up_codec: str = F32  # and how they go back; empty where none do
    run: bytes = b""  # of the job: a number of its own, which an update gives back
    signer: bytes = b""
    signature: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        _check(self.attempt >= 0, "attempt is negative")
        _check(is_digest(self.plan_digest), "plan_digest is no SHA-256")
        _check(0 < len(self.levels) <= MAX_LEVELS, f"{len(self.levels)} levels")
        for level in self.levels:
            _check_density(level)
        _check(list(self.levels) == sorted(set(self.levels), reverse=True), "levels must decrease")
        _check(len(self.mask_digests) == len(self.levels), "one mask digest a level")
        for digest in self.mask_digests:
            _check(digest == "" or is_digest(digest), "mask digest is no SHA-256")
        _check(len(self.kept) == len(self.levels), "one tuple of kept counts a level")
        for counts in self.kept:
            _check(0 < len(counts) <= MAX_TENSORS, f"{len(counts)} prunable tensors")
            _check(all(0 < count < 2**31 for count in counts), "kept counts")
        _check(0 < self.batch_size <= 65536, f"batch_size {self.batch_size}")
        _check(0 < self.epochs <= 10_000, f"epochs {self.epochs}")
        _check_positive("seconds_left", self.seconds_left)
        _check(self.steps is None or 0 < self.steps < 2**31, f"steps {self.steps}")
        for codec in (self.down_codec, self.up_codec):
            _check(len(codec) <= MAX_CODEC, f"codec {codec[:64]!r}")
        _check_run(self.run)
        _check_proof(self.signer, self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A device's answer to an offer: the level it chose and why; level None declines.

    Attributes:
        held: digests of the masks that it holds for this job.
        has_plan: false asks for the plan; the device answers again when it has it.
        num_examples: training samples it will use.
        reason: one sentence with the figures behind the choice.
        predicted_peak_bytes, memory_budget_bytes, predicted_round_s: those figures (0 = unknown).
    """

    KIND: ClassVar[int] = 3
    job: str
    round_id: int
    attempt: int
    level: float | None
    has_plan: bool = True
    held: tuple[str, ...] = ()
    num_examples: int = 0
    engine: str = ""
    board: str = ""
    reason: str = ""
    predicted_peak_bytes: int = 0
    memory_budget_bytes: int = 0
    predicted_round_s: float = 0.0

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        if self.level is not None:
            _check_density(self.level)
            _check(self.has_plan and self.num_examples > 0, "a level needs the plan and samples")
        _check(len(self.held) <= 64 and all(map(is_digest, self.held)), "held digests")
        _check(0 <= self.num_examples < 2**40, f"num_examples {self.num_examples}")
        _check_text(self.engine, self.board, self.reason)
        _check(0 <= self.predicted_peak_bytes < 2**50, "predicted_peak_bytes")
        _check(0 <= self.memory_budget_bytes < 2**50, "memory_budget_bytes")
        _check_finite("predicted_round_s", self.predicted_round_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work for one device; the body holds `parts` (values; the mask where the device lacks it).

    A task with only the part `plan`, and `graph` where the plan has one, answers a device that has
    none.

    Attributes:
        mask_digest: the mask under which the values are to be read.
        evolve: whether the device changes the mask while training (drop and grow), and sends it.
        prune_rate: share of each layer's kept weights that one drop-and-grow exchanges.
        evaluate: whether to score the received model on the hold-out before training.
        power: prunable weights are trained as `theta * |theta|^(power - 1)`; 1 = as they are.
        values_codec: how the values of the update are to be encoded (docs/wire.md, section 5).
        error_feedback: whether the device keeps what that encoding lost, for its next update.
        seed: of everything random in this task.
    """

    KIND: ClassVar[int] = 4
    job: str
    round_id: int
    attempt: int
    stage: Stage
    plan_digest: str
    parts: tuple[Part, ...]
    mask_digest: str = ""
    level: float = 1.0
    seconds_left: float = 1.0
    seed: int = 0
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    evolve: bool = False
    prune_rate: float = 0.0
    evaluate: bool = False
    power: float = 1.0
    values_codec: str = F32
    error_feedback: bool = False
    run: bytes = b""  # of the job: a number of its own, which an update gives back
    signer: bytes = b""
    signature: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        _check(is_digest(self.plan_digest), "plan_digest is no SHA-256")
        _check(1.0 <= self.power <= MAX_POWER, f"power {self.power}")
        _check(0 < len(self.parts) <= 4, f"{len(self.parts)} parts")
        _check(self.mask_digest == "" or is_digest(self.mask_digest), "mask_digest is no SHA-256")
        _check_density(self.level)
        _check_positive("seconds_left", self.seconds_left)
        _check(0 <= self.seed < 2**63, f"seed {self.seed}")
        _check(0 < self.batch_size <= 65536, f"batch_size {self.batch_size}")
        _check(0 < self.epochs <= 10_000, f"epochs {self.epochs}")
        for name in ("learning_rate", "momentum", "weight_decay", "prune_rate"):
            _check_finite(name, getattr(self, name))
        _check(0 < len(self.values_codec) <= MAX_CODEC, f"values_codec {self.values_codec[:64]!r}")
        _check_run(self.run)
        _check_proof(self.signer, self.signature)

    @property
    def brings_plan(self) -> bool:
        """Whether it is no work, but the plan for a device that lacks it."""
        return any(part.name == "plan" for part in self.parts)

    @property
    def asks_saliency(self) -> bool:
        """Whether stage 1 is to measure the saliency of every weight, and to train nothing."""
        return self.stage is Stage.SENSE and not self.evolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A device's result; the body holds `parts` (values; the mask where the task let it evolve).

    Attributes:
        mask_digest: the mask under which the values are to be read: the one of the task, or the
            one in the part `mask`.
        evaluation: of the model as it was received, on the device's hold-out.
        step_ms: median wall time of a training step.
        train_s: wall time of the training itself; `trainer_s` of the whole trainer process.
        peak_rss_bytes: of the trainer; `agent_rss_bytes` of the agent, at its highest.
    """

    KIND: ClassVar[int] = 5
    job: str
    round_id: int
    stage: Stage
    level: float
    num_examples: int
    mask_digest: str
    parts: tuple[Part, ...]
    loss: float = 0.0
    evaluation: Evaluation | None = None
    step_ms: float = 0.0
    train_s: float = 0.0
    trainer_s: float = 0.0
    peak_rss_bytes: int = 0
    agent_rss_bytes: int = 0
    run: bytes = b""  # of the job: a number of its own, which an update gives back
    signer: bytes = b""
    signature: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        _check_density(self.level)
        _check(0 < self.num_examples < 2**40, f"num_examples must be positive: {self.num_examples}")
        _check(is_digest(self.mask_digest), "mask_digest is no SHA-256")
        _check(len(self.parts) <= 4, f"{len(self.parts)} parts")
        for name in ("loss", "step_ms", "train_s", "trainer_s"):
            _check_finite(name, getattr(self, name))
        _check(0 <= self.peak_rss_bytes < 2**50, "peak_rss_bytes")
        _check(0 <= self.agent_rss_bytes < 2**50, "agent_rss_bytes")
        _check_run(self.run)
        _check_proof(self.signer, self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A device could not finish a task it had accepted: what happened, for the operator."""

    KIND: ClassVar[int] = 6
    job: str
    round_id: int
    reason: str

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        _check_text(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The aggregator's answer to an update, sent after the update is durably stored."""

    KIND: ClassVar[int] = 7
    job: str
    round_id: int
    update_digest: str  # SHA-256 of the update's body
    verdict: Verdict
    reason: str = ""
    signer: bytes = b""
    signature: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check_round(self.job, self.round_id)
        _check(is_digest(self.update_digest), "update_digest is no SHA-256")
        _check_text(self.reason)
        _check_proof(self.signer, self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The sender lacks something to go on: chunks of a transfer, or the mask of a task.

    Attributes:
        what: `chunks` or `mask`.
        transfer: of chunks: SHA-256 of the body that they belong to.
        first: of the chunks, the index of the first one;
        missing: a bitmap, that one in the lowest bit of the first byte.
    """

    KIND: ClassVar[int] = 8
    what: str
    job: str = ""
    round_id: int = 0
    transfer: str = ""
    first: int = 0
    missing: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check(self.what in {"chunks", "mask"}, f"need {self.what!r}")
        _check(0 <= self.round_id < 2**31, f"round_id {self.round_id}")
        _check_text(self.job, self.transfer)
        _check(0 <= self.first < 2**20, f"first {self.first}")
        _check(len(self.missing) <= 8192, "missing bitmap is too long")


Message = Status | Offer | Ready | Task | Update | Failure | Receipt | Need


def is_digest(text: str) -> bool:
    """Whether `text` is a SHA-256 in lower-case hexadecimal."""
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)


def _check(condition: bool, complaint: str) -> None:
    if not condition:
        raise ProtocolError(complaint)


def _check_text(*texts: str) -> None:
    for text in texts:
        _check(len(text) <= MAX_TEXT, f"a text of {len(text)} characters, limit {MAX_TEXT}")


def _check_round(job: str, round_id: int) -> None:
    _check(NAME.fullmatch(job) is not None, f"job name {job[:64]!r}")
    _check(0 <= round_id < 2**31, f"round_id {round_id}")


def _check_run(run: bytes) -> None:
    _check(len(run) in (0, RUN_BYTES), f"a run's number of {len(run)} bytes")


def _check_proof(signer: bytes, signature: bytes) -> None:
    _check(len(signer) in (0, KEY_ID_BYTES), f"a key's id of {len(signer)} bytes")
    _check(len(signature) in (0, SIGNATURE_BYTES), f"a signature of {len(signature)} bytes")


def _check_density(level: float) -> None:
    _check(0.0 < level <= 1.0, f"density {level} is not in (0, 1]")


def _check_finite(name: str, value: float) -> None:
    _check(0.0 <= value < MAX_NUMBER, f"{name} must be finite, 0 to {MAX_NUMBER:g}, got {value}")


def _check_positive(name: str, value: float) -> None:
    _check(math.isfinite(value) and value > 0.0, f"{name} must be positive, got {value}")
