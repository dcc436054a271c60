"""Updates that break the contract: refused with a reason, and without a trace in the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_world import LEVELS, Change, Device, World, build_world, content_of

from aggregator.job import MethodConfig
from fedsparse.body import Bytes
from fedsparse.sparsity.packing import encode_mask, mask_digest
from fedsparse.types import BoolArray
from fedsparse.wire.frame import decode_frame, encode_frame
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import (
    Evaluation,
    Failure,
    Need,
    Part,
    Ready,
    Stage,
    Status,
    Update,
    Verdict,
)

ROUND = 2


def world_with(tmp_path: Path, name: str, label: str = "world") -> World:
    method = MethodConfig(name=name, levels=LEVELS, rotate_levels=False, r_int=1)
    return build_world(tmp_path, label, method=method, rounds=3).add_fleet()


def nan(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, np.float32(np.nan).tobytes() + body[4:]


def infinite(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, body[:-4] + np.float32(-np.inf).tobytes()


def enormous(update: Update, body: bytes) -> tuple[Update, bytes]:
    return update, body[:-4] + np.float32(2e6).tobytes()


def more_examples_than_it_has(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, num_examples=update.num_examples + 1), body


def another_mask(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, mask_digest="ab" * 32), body


def another_level(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, level=0.05), body


def another_stage(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, stage=Stage.EVALUATE), body


def too_short(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=(replace(update.parts[0], size=len(body) - 4),)), body[:-4]


def too_long(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=(replace(update.parts[0], size=len(body) + 4),)), body + bytes(4)


def unknown_codec(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=(replace(update.parts[0], codec="f64"),)), body


def no_values(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=()), b""


def uninvited_mask(update: Update, body: bytes) -> tuple[Update, bytes]:
    extra = Part(name="mask", codec="bits", size=2)
    return replace(update, parts=(extra, *update.parts)), b"ab" + body


def result_without_the_first_device(tmp_path: Path, name: str) -> bytes:
    """Of a run in which it gives up the round in which it would send rubbish."""
    world = world_with(tmp_path, name, "without")
    device = world.devices[0]
    device.silent_in = {ROUND}

    def give_up() -> None:
        device.rounds.failed()
        device.channel.send(None, Failure(job="job", round_id=ROUND, reason="no"))

    world.when(lambda: bool(device.tasks) and device.tasks[-1].round_id == ROUND, give_up)
    world.run()
    return content_of(world)


def run_with(tmp_path: Path, change: Change, name: str = "pdst") -> tuple[World, Device]:
    world = world_with(tmp_path, name)
    device = world.devices[0]
    device.change = {ROUND: change}
    world.run()
    return world, device


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (nan, "no number"),
        (infinite, "no number"),
        (enormous, "diverged"),
        (more_examples_than_it_has, "examples, though"),
        (another_mask, "another mask"),
        (another_level, "level 0.05, not 0.2"),
        (another_stage, "evaluate"),
        (too_short, "bytes for"),
        (too_long, "bytes for"),
        (unknown_codec, "values codec 'f64' is none of 'f32', 'f16', 'i8'"),
        (no_values, "no values"),
        (uninvited_mask, "another mask"),
    ],
)
def test_a_bad_update_is_rejected_with_its_reason_and_changes_nothing(
    tmp_path: Path, change: Change, reason: str
) -> None:
    world, device = run_with(tmp_path, change)
    verdicts = [(receipt.round_id, receipt.verdict) for receipt in device.receipts]
    assert verdicts == [
        (1, Verdict.ACCEPTED),
        (2, Verdict.REJECTED),
        (3, Verdict.ACCEPTED),
        (4, Verdict.ACCEPTED),
    ]
    assert reason in device.receipts[1].reason
    assert [event["device"] for event in world.events("rejected")] == [device.name]
    closed = world.events("round_closed")
    assert [event["updates"] for event in closed] == [5, 4, 5, 5]
    assert closed[1]["wall_s"] < 5.0  # nobody waits for it
    assert content_of(world) == result_without_the_first_device(tmp_path, "pdst")


def evolved(world: World, change: Callable[[BoolArray], BoolArray], *, digest: bool) -> Change:
    """Replace the mask of an update by a changed one; its digest follows where `digest`."""

    def apply(update: Update, body: bytes) -> tuple[Update, bytes]:
        device = world.devices[0]
        mask = change(device.masks[update.mask_digest].copy())
        encoded = encode_mask(mask)
        part = Part(name="mask", codec=encoded.codec, size=len(encoded.data))
        values = body[update.parts[0].size :]
        named = mask_digest(world.plan.digest, mask) if digest else update.mask_digest
        return (
            replace(update, mask_digest=named, parts=(part, update.parts[1])),
            encoded.data + values,
        )

    return apply


def one_more(mask: BoolArray) -> BoolArray:
    mask[int(np.flatnonzero(~mask)[0])] = True
    return mask


def shifted(mask: BoolArray) -> BoolArray:
    return np.roll(mask, 1)


@pytest.mark.parametrize(
    ("change", "digest", "reason"),
    [(one_more, True, "keeps 500 weights, its level 499"), (shifted, False, "digest it names")],
)
def test_a_bad_evolved_mask_is_rejected(
    tmp_path: Path, change: Callable[[BoolArray], BoolArray], digest: bool, reason: str
) -> None:
    world = world_with(tmp_path, "nst")
    device = world.devices[0]
    device.change = {ROUND: evolved(world, change, digest=digest)}
    world.run()
    assert device.receipts[1].verdict is Verdict.REJECTED
    assert reason in device.receipts[1].reason
    assert content_of(world) == result_without_the_first_device(tmp_path, "nst")


def unknown_base(update: Update, body: bytes) -> tuple[Update, bytes]:
    mask, values = update.parts
    return replace(update, parts=(replace(mask, base="cd" * 32), values)), body


def no_mask(update: Update, body: bytes) -> tuple[Update, bytes]:
    return replace(update, parts=update.parts[1:]), body[update.parts[0].size :]


@pytest.mark.parametrize(
    ("change", "reason"), [(unknown_base, "unknown mask"), (no_mask, "no mask")]
)
def test_an_evolved_mask_must_be_there_and_readable(
    tmp_path: Path, change: Change, reason: str
) -> None:
    _, device = run_with(tmp_path, change, "nst")
    assert device.receipts[1].verdict is Verdict.REJECTED
    assert reason in device.receipts[1].reason


@pytest.mark.parametrize("counts", [b"", bytes(12), b"\xff" * 12, bytes(16)])
def test_bad_layer_densities_are_rejected(tmp_path: Path, counts: bytes) -> None:
    world = world_with(tmp_path, "spdst")

    def change(update: Update, body: bytes) -> tuple[Update, bytes]:
        return replace(update, parts=(replace(update.parts[0], size=len(counts)),)), counts

    world.devices[0].change = {0: change}
    world.run()
    assert world.devices[0].receipts[0].verdict is Verdict.REJECTED
    assert world.events("round_closed")[0]["updates"] == 1


def clean_result(tmp_path: Path) -> bytes:
    world = world_with(tmp_path, "pdst", "clean")
    world.run()
    return content_of(world)


def test_an_update_sent_again_and_again_counts_once(tmp_path: Path) -> None:
    world = world_with(tmp_path, "pdst")
    device = world.devices[0]
    sent: list[tuple[Update, bytes]] = []

    def remember(update: Update, body: bytes) -> tuple[Update, bytes]:
        sent.append((update, body))
        return update, body

    def again() -> None:
        for update, body in sent:
            device.channel.send(None, update, Bytes(body))
        world.at_tick[world.ticks + 1] = again

    device.change = dict.fromkeys((1, 2, 3), remember)
    world.at_tick[1] = again
    world.run()
    assert len(device.receipts) > 10
    assert {receipt.verdict for receipt in device.receipts} == {Verdict.ACCEPTED, Verdict.LATE}
    assert [event["updates"] for event in world.events("round_closed")] == [5, 5, 5, 5]
    assert content_of(world) == clean_result(tmp_path)


def test_a_second_and_different_update_is_rejected_and_the_first_counts(tmp_path: Path) -> None:
    world = world_with(tmp_path, "pdst")
    liar, slow = world.devices[0], world.devices[1]

    def send_another_first(update: Update, body: bytes) -> tuple[Update, bytes]:
        world.at_tick[world.ticks + 1] = lambda: liar.channel.send(
            None, update, Bytes(body[:-4] + bytes(4))
        )
        return update, body

    liar.change = {ROUND: send_another_first}
    held_back: list[Callable[[], None]] = []
    perform = slow.perform

    def hesitate(effects: Any) -> None:  # noqa: ANN401
        if slow.rounds.offer and slow.rounds.offer.round_id == ROUND and slow.outbox:
            held_back.append(lambda: perform(effects))
            world.at_tick[world.ticks + 5] = held_back[-1]
        else:
            perform(effects)

    slow.perform = hesitate  # type: ignore[method-assign]
    world.run()
    verdicts = [receipt.verdict for receipt in liar.receipts if receipt.round_id == ROUND]
    assert sorted(verdict.value for verdict in verdicts) == ["accepted", "rejected"]
    assert [event["updates"] for event in world.events("round_closed")] == [5, 5, 5, 5]
    assert content_of(world) == clean_result(tmp_path)


def test_an_update_after_the_close_of_its_round_is_late(tmp_path: Path) -> None:
    world = world_with(tmp_path, "pdst")
    device = world.devices[0]
    kept: list[tuple[Update, bytes]] = []

    def hold_back(update: Update, body: bytes) -> tuple[Update, bytes]:
        kept.append((update, body))
        return nan(update, body)

    device.change = {1: hold_back}
    world.when(
        lambda: bool(device.receipts) and device.receipts[-1].round_id == 2,
        lambda: device.channel.send(None, kept[0][0], Bytes(kept[0][1])),
    )
    world.run()
    assert [r.verdict for r in device.receipts if r.round_id == 1] == [
        Verdict.REJECTED,
        Verdict.LATE,
    ]


def test_a_stranger_cannot_take_part(tmp_path: Path) -> None:
    world = world_with(tmp_path, "pdst")
    friend, stranger = world.devices[0], world.add("stranger", None)

    def copy(update: Update, body: bytes) -> tuple[Update, bytes]:
        stranger.channel.send(None, update, Bytes(body))
        return update, body

    friend.change = dict.fromkeys((1, 2, 3), copy)
    world.run()
    assert {receipt.verdict for receipt in stranger.receipts} == {Verdict.REJECTED}
    assert len(stranger.receipts) == 3
    assert content_of(world) == clean_result(tmp_path)


def test_scores_beyond_all_measure_do_not_stop_the_aggregator(tmp_path: Path) -> None:
    world = world_with(tmp_path, "pdst")

    def boast(update: Update, body: bytes) -> tuple[Update, bytes]:
        evaluation = Evaluation(correct=2**40 - 1, count=2**40 - 1, loss_sum=9e14)
        return replace(update, evaluation=evaluation, loss=9e14), body

    for device in world.devices:
        device.change = dict.fromkeys(range(6), boast)
    aggregator = world.run()
    assert aggregator.done
    assert set(aggregator.scores.accuracy.values()) == {1.0}


def test_a_model_without_finite_logits_does_not_stop_the_aggregator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.updates.LARGEST_VALUE", 1e39)  # let it come about
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", x=rng.standard_normal((9, 6), np.float32), y=np.arange(9) % 4)
    world = world_with(tmp_path, "pdst")
    world.job = replace(world.job, test_data=tmp_path / "t.npz")

    def explode(update: Update, body: bytes) -> tuple[Update, bytes]:
        return update, np.full(len(body) // 4, 3.4e38, np.float32).tobytes()

    for device in world.devices:
        device.change = {3: explode}
    assert world.run().done


def raw(world: World, payload: bytes, *, retain: bool = False) -> None:
    world.broker.route("fl/v1/site/up/device-0/message", payload, retain=retain)


def test_rubbish_on_the_wire_is_logged_and_dropped(tmp_path: Path) -> None:
    world = world_with(tmp_path, "pdst")
    good = encode_message(
        Ready(job="job", round_id=1, attempt=0, level=0.2, num_examples=10, has_plan=True)
    )
    frame = decode_frame(good)
    payloads = [
        b"x",
        b"x" * 2_000_000,
        good[:-3],
        good + b"more",
        encode_frame(99, {}),
        encode_frame(frame.kind, {**frame.header, "l": 7.0}),
        encode_frame(frame.kind, {**frame.header, "r": "one"}),
        encode_message(Ready(job="another", round_id=1, attempt=0, level=0.2, num_examples=1)),
        encode_message(Failure(job="another", round_id=1, reason="")),
        encode_message(Status(device="device-1", online=False)),
        encode_message(Need(what="mask", job="job", round_id=77)),
        encode_message(Need(what="mask")),
        encode_message(Need(what="chunks", transfer="ab" * 32, missing=b"\xff")),
    ]

    def throw() -> None:
        for payload in payloads:
            raw(world, payload)

    for tick in (5, 25, 45):
        world.at_tick[tick] = throw
    world.run()
    assert len(world.events("rejected")) >= 10
    assert content_of(world) == clean_result(tmp_path)
