"""What the agent asks of a trainer process: a file that both read (no numpy here)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import ConfigError, EngineError

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 2  # a FedSparseError; its message is the last line of stderr
EXIT_MASK_MISSING: Final = 3  # the task's mask is not in the store: ask for it
EXIT_BAD_DATA: Final = 4  # the device's samples are at fault: no task can be done with them
EXIT_NO_MEMORY: Final = 5  # the system gave no more
# What an operator can do about a trainer that ran out of memory.
LESS_MEMORY: Final = "set memory_mib in [budget] of client.toml to less"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Train (or evaluate) what the task says.

    Attributes:
        task: the task as it was received (fedsparse/stored.py).
        plan, masks, data: the plan file, the folder of masks, the samples.
        holdout: share of the samples that is never trained on.
        output: where the update is to be written, likewise.
        residual: the file of what the encoding of earlier updates lost.
        lost: where what this one loses is to be written.
        setup: how the device has decided to run the steps.
        agent_rss_bytes: the agent's peak memory, to be reported with the trainer's.
        graph: the file of the model's training graph; empty where there is none.
        identity: the file of the device's key, where the update is to be signed; else empty.
        topic: that it will be published on then.
    """

    task: str
    plan: str
    masks: str
    data: str
    holdout: float
    output: str
    setup: EngineSetup
    agent_rss_bytes: int
    residual: str
    lost: str
    graph: str = ""
    identity: str = ""
    topic: str = ""

    @property
    def trained(self) -> Path:
        """Where the trainer writes the update; signed, it goes to `output`."""
        return Path(self.task).with_name("update.head") if self.identity else Path(self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateRequest:
    """Find out how this plan is trained fastest here, and how fast that is.

    Attributes:
        plan: the plan file.
        levels, kept: densities, and the weights kept in each prunable tensor at each.
        batch_size: as in the job.
        output: where the calibration is to be written.
        threads: the most that the engine may use.
        engine: `auto`, or the only one that may be chosen.
        graph: the file of the model's training graph; empty where there is none.
        memory_bytes: that the trainer may take; None has no limit.
    """

    plan: str
    levels: tuple[float, ...]
    kept: tuple[tuple[int, ...], ...]
    batch_size: int
    output: str
    threads: int
    engine: str = "auto"
    graph: str = ""
    memory_bytes: int | None = None


Request = TrainRequest | CalibrateRequest


def to_json(request: Request) -> str:
    """The text of a request file."""
    return json.dumps({"kind": type(request).__name__, **asdict(request)})


def read_request(path: Path) -> Request:
    """Read a request file; raises `ConfigError` where it is none."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kind = fields.pop("kind")
        if kind == "TrainRequest":
            setup = fields.pop("setup")
            setup["dense_layers"] = tuple(setup["dense_layers"])
            fields["setup"] = EngineSetup(**setup)
            return TrainRequest(**fields)
        if kind == "CalibrateRequest":
            fields["levels"] = tuple(fields["levels"])
            fields["kept"] = tuple(tuple(counts) for counts in fields["kept"])
            return CalibrateRequest(**fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EngineError) as error:
        raise ConfigError(f"{path}: not a trainer's request: {error!r}") from error
    raise ConfigError(f"{path}: unknown kind of request {kind!r}")
