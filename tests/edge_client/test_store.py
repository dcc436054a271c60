"""A device's disk: what is damaged counts as missing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edge_client.store import MASKS_KEPT, Store
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder


def plan(name: str = "p") -> Plan:
    builder = PlanBuilder(name, (4,))
    builder.linear("last", 3)
    return builder.build()


def test_a_plan_is_kept_under_its_digest(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "store")
    assert store.load_plan(plan().digest) is None
    loose = plan().to_json().replace(",", ", ").encode()  # the same plan, written otherwise
    assert store.save_plan(plan().digest, loose) == plan()
    assert Store(store.root).load_plan(plan().digest) == plan()


def test_another_plan_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(PlanError, match="expected"):
        store.save_plan(plan("other").digest, plan().to_json().encode())
    assert store.load_plan(plan("other").digest) is None


@pytest.mark.parametrize("damage", [b"", b"x", b"{}"])
def test_a_damaged_plan_is_removed_and_counts_as_missing(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    store.save_plan(plan().digest, plan().to_json().encode())
    store.plan_path(plan().digest).write_bytes(damage)
    assert store.load_plan(plan().digest) is None
    assert not store.plan_path(plan().digest).exists()


def test_a_plan_that_this_build_cannot_read_counts_as_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    text = b'{"format": "fedsparse.plan", "version": 99}'
    digest = hashlib.sha256(text).hexdigest()
    store.plan_path(digest).write_bytes(text)
    assert store.load_plan(digest) is None


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"store {tmp_path}/file"):
        Store(tmp_path / "file")


def test_what_an_update_lost_is_kept_once_it_was_accepted_and_else_forgotten(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.keep_lost()  # it lost nothing
    assert not store.residual.exists()
    for name, accepted in (("first", True), ("second", False), ("third", True)):
        store.outbox.write_text("update")
        store.lost.write_text(name)
        if accepted:
            store.keep_lost()
        store.clear_outbox()
        assert list((tmp_path / "outbox").iterdir()) == []
        assert store.residual.read_text() == (name if accepted else "first")


def test_the_latest_masks_are_held_and_the_oldest_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digests = [hashlib.sha256(bytes([index])).hexdigest() for index in range(MASKS_KEPT + 3)]
    for age, digest in enumerate(digests):
        path = store.masks / f"{digest}.bits"
        path.write_bytes(b"x")
        os.utime(path, ns=(10**18 + age, 10**18 + age))
    (store.masks / ".half-written.bits.77").write_bytes(b"x")
    held = store.held_masks()
    assert held == tuple(reversed(digests[3:]))
    assert not (store.masks / f"{digests[0]}.bits").exists()
    assert store.held_masks() == held
