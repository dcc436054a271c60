"""What finished runs left on disk, as the figures of a table need it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedsparse.errors import ConfigError
from tools.bench.paper.shapes import check_result, check_round, check_sequence
from tools.simulation.record import read_records
from tools.simulation.spec import RECORDS, RESULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One finished run.

    Attributes:
        case, alpha, seed: which of the grid.
        rounds: its closed rounds, in order, as `rounds.jsonl` has them.
        result: as `result.json` has it.
    """

    case: str
    alpha: float
    seed: int
    rounds: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]

    def accuracy(self, level: float) -> float | None:
        """At the end, of the model of a level; None where it was not scored."""
        found = self.result["accuracy"].get(f"{level:g}")
        return None if found is None else float(found)

    def total(self, key: str) -> float:
        """The sum of a figure over all rounds, stage 1 included."""
        return float(sum(one[key] for one in self.rounds))

    @property
    def training(self) -> tuple[Mapping[str, Any], ...]:
        """The rounds after stage 1."""
        return tuple(one for one in self.rounds if one["stage"] == "train")

    @property
    def job_ratio(self) -> float:
        """Bytes of dense float32 values, both ways, over all bytes of the job.

        Dense has no stage 1, so its bytes count for training rounds alone.
        """
        clients = sum(len(one["clients"]) for one in self.training)
        dense = 2.0 * float(self.result["dense_bytes"]) * clients
        return dense / (self.total("up_bytes") + self.total("down_bytes"))

    def exchange(self, level: float) -> tuple[float, float] | None:
        """A client's mean bytes up and down, in training rounds where it moves no mask.

        None where no client of the level ever did so, as with methods that always send masks.
        """
        found = [
            (client["up_bytes"], client["down_bytes"])
            for one in self.training
            for client in one["clients"]
            if client["level"] == level
            and not client["up_mask_bytes"]
            and not client["down_mask_bytes"]
        ]
        if not found:
            return None
        return sum(up for up, _ in found) / len(found), sum(down for _, down in found) / len(found)


def read_record(folder: Path, *, case: str, alpha: float, seed: int) -> Record | None:
    """The run in `folder`; None where it is not finished.

    Raises:
        ConfigError: a file of it is damaged, or a round is missing.
    """
    path = folder / RESULT
    try:
        if not path.is_file():
            return None
        result = json.loads(path.read_text(encoding="utf-8"))
        check_result(result)
        path = folder / RECORDS
        rounds = _read_rounds(path, len(result["layers"]))
        check_sequence(rounds, result["rounds"])
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return Record(case=case, alpha=alpha, seed=seed, rounds=rounds, result=result)


def count_closed(folder: Path, layers: int) -> int:
    """How many rounds an unfinished run in `folder` has closed, of a plan with so many layers.

    Raises:
        ConfigError: what it left of them is damaged.
    """
    path = folder / RECORDS
    try:
        return len(_read_rounds(path, layers))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_rounds(path: Path, layers: int) -> tuple[Mapping[str, Any], ...]:
    return tuple(read_records(path, partial(check_round, layers=layers)))


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path}: damaged ({error}): remove {path.parent}, and it is run again")


def chosen(records: Sequence[Record], case: str, alpha: float) -> dict[int, Record]:
    """The runs of a case at one alpha, by seed."""
    return {one.seed: one for one in records if one.case == case and one.alpha == alpha}
