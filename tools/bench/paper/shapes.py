"""What `result.json` and the lines of `rounds.jsonl` must hold to be counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fedsparse.wire.messages import Stage

BYTES: Final = ("up_bytes", "down_bytes", "up_mask_bytes", "down_mask_bytes")
TRAIN: Final = Stage.TRAIN.value
SENSE: Final = Stage.SENSE.value


def check_result(result: object) -> None:
    """See that a table can be made of a `result.json`.

    Raises:
        ValueError: it cannot; the message names the key.
    """
    table = _table(result, "the file")
    for key in ("rounds", "dense_bytes"):
        _count(table, key, least=1)
    _numbers(_table(table.get("accuracy"), "accuracy").values(), "accuracy")
    if not isinstance(table.get("layers"), list):
        raise ValueError(f"layers: expected a list, got {table.get('layers')!r:.40}")


def check_round(closed: object, layers: int) -> None:
    """See that a closed round can be counted, of a plan with so many prunable tensors.

    Raises:
        ValueError: it cannot; the message names the key.
    """
    table = _table(closed, "a round")
    for key in ("up_bytes", "down_bytes", "multiply_adds"):
        _count(table, key, least=1)
    for key in ("round", "up_mask_bytes", "down_mask_bytes"):
        _count(table, key)
    _numbers([table.get("train_s")], "train_s")
    if table.get("stage") not in (SENSE, TRAIN):
        raise ValueError(f"stage: expected {SENSE} or {TRAIN}, got {table.get('stage')!r:.40}")
    _numbers(_table(table.get("accuracy"), "accuracy").values(), "accuracy")
    if not isinstance(table.get("clients"), list):
        raise ValueError(f"clients: expected a list, got {table.get('clients')!r:.40}")
    for client in table["clients"]:
        _numbers([_table(client, "clients").get("level")], "clients: level")
        for key in BYTES:
            _count(client, key)
    if table.get("consensus") is not None:
        _check_consensus(_table(table["consensus"], "consensus"), layers)


def check_sequence(rounds: Sequence[Mapping[str, Any]], training: int) -> None:
    """See that all rounds of a finished run are there, each once, in order.

    Raises:
        ValueError: one is missing or out of place; the message says which should stand there.
    """
    found = [(one["stage"], one["round"]) for one in rounds]
    if found[:1] == [(SENSE, 0)]:
        found = found[1:]
    wanted = [(TRAIN, number) for number in range(1, training + 1)]
    if found != wanted:
        place = next((i for i, pair in enumerate(wanted) if found[i : i + 1] != [pair]), training)
        what = f"round {place + 1} is missing" if place < training else "there are too many rounds"
        raise ValueError(f"{what}, of {training}")


def _check_consensus(consensus: Mapping[str, Any], layers: int) -> None:
    for key in ("clients", "server", "kept"):
        values = consensus.get(key)
        if not isinstance(values, list) or len(values) != layers:
            raise ValueError(f"consensus: {key}: expected {layers} numbers, got {values!r:.40}")
        _numbers(values, f"consensus: {key}")


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a table, got {value!r:.40}")
    return value


def _count(table: Mapping[str, Any], key: str, least: int = 0) -> None:
    value = table.get(key)
    if type(value) is not int or value < least:
        raise ValueError(f"{key}: expected a whole number from {least}, got {value!r:.40}")


def _numbers(values: Iterable[object], where: str) -> None:
    for value in values:
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: expected a number, got {value!r:.40}")
