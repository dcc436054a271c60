"""Broken frames: what they are, that they do no harm, and that harm would be seen."""

from __future__ import annotations

import json
import random

import pytest
from typer.testing import CliRunner

from fedsparse.errors import RemoteProtocolError
from fedsparse.rounds.client import ClientRounds
from fedsparse.wire.frame import decode_frame
from tools.bench.transport.fuzz_frames import fuzz_frames, good_frames, take
from tools.bench.transport.fuzz_rounds import containers, fuzz_rounds
from tools.bench.transport.mutations import ODD, mutated_header
from tools.cli import app

CHUNK = good_frames()[-1]
RUNNER = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


def ignore(share: float) -> None:
    assert 0 <= share <= 1


def test_the_good_frames_are_good() -> None:
    assert len(good_frames()) == 12
    for frame in good_frames():
        take(frame)


def test_the_decoder_refuses_broken_frames_and_raises_nothing_else() -> None:
    result = fuzz_frames(20_000, 3, ignore)
    assert result.unexpected == ()
    assert 0.6 * result.frames < result.refused < result.frames
    assert result.holds


def test_a_frame_with_a_changed_header_is_still_a_frame() -> None:
    draw, whole = random.Random(1), 0
    for _ in range(1000):
        try:
            decode_frame(mutated_header(draw.choice(good_frames()), draw))
            whole += 1
        except RemoteProtocolError:
            pass
    assert whole > 500


def test_a_seed_makes_the_same_frames_again() -> None:
    def frames_of(seed: int) -> list[bytes]:
        found: list[bytes] = []
        fuzz_frames(500, seed, ignore, found.append)
        return found

    assert frames_of(4) == frames_of(4)
    assert frames_of(4) != frames_of(5)


def test_no_frame_leaves_a_trace_in_those_that_come_after_it() -> None:
    draw = random.Random(6)
    for _ in range(3000):
        mutated_header(CHUNK, draw)  # of one key: what was put in is often changed once more
    assert [one for one in ODD if isinstance(one, list | dict)] == [
        [], {}, [[]], {"a": {"b": {}}},
    ]  # fmt: skip


def test_an_error_that_the_decoder_should_not_raise_is_told_with_its_frame() -> None:
    def breaks(frame: bytes) -> None:
        if frame[:1] != b"F":
            raise KeyError("surprise")

    result = fuzz_frames(500, 1, ignore, breaks)
    assert not result.holds
    assert "surprise" in result.unexpected[0]
    assert "seed 1, frame" in result.unexpected[0]


def test_rounds_go_on_in_the_midst_of_broken_messages_and_nothing_piles_up() -> None:
    result = fuzz_rounds(2_000, 3, ignore)
    assert result.unexpected == ()
    assert result.rounds > 20
    assert result.refused > 500
    assert result.reached > 500
    assert result.most_kept < 2_000


def test_the_same_seed_makes_the_same_rounds() -> None:
    first, second = (fuzz_rounds(500, 7, ignore) for _ in range(2))
    assert (first.frames, first.refused, first.reached, first.rounds, first.most_kept) == (
        second.frames, second.refused, second.reached, second.rounds, second.most_kept,
    )  # fmt: skip


def test_an_error_in_a_state_machine_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise IndexError("surprise")

    monkeypatch.setattr(ClientRounds, "received", breaks)
    result = fuzz_rounds(500, 2, ignore)
    assert not result.holds
    assert "surprise" in result.unexpected[0]
    assert "seed 2, block 0" in result.unexpected[0]


def test_the_entries_of_all_containers_are_counted() -> None:
    assert sum(containers({"a": [1, 2, 3], "b": {4, 5}}).values()) == 2 + 3 + 2


def test_the_command_tells_what_came_of_it() -> None:
    options = ["--frames", "1000", "--messages", "200", "--seed", "5"]
    result = RUNNER.invoke(app, ["bench", "fuzz", *options])
    assert result.exit_code == 0, result.output
    assert "1,000 broken frames" in result.stdout
    result = RUNNER.invoke(app, ["bench", "fuzz", *options, "--json"])
    decoder, rounds = json.loads(result.stdout)
    assert (decoder["target"], rounds["target"]) == ("decoder", "rounds")
