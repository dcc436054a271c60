"""What `client.toml` names, and what the device keeps: is it there, and is it whole?

Nothing is removed or made; what is damaged is left to the agent, which does without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edge_client.agent.trust import trust_in_gateway
from edge_client.budget.policy_file import PolicyFile
from edge_client.config import ClientConfig
from edge_client.data.header import count_samples
from edge_client.host import open_host
from fedsparse.body import File
from fedsparse.doctor.row import Row, fault, ok, warn
from fedsparse.errors import DataError, FedSparseError, RemoteProtocolError
from fedsparse.stored import load_message
from fedsparse.transport.mqtt import read_password

REFETCHED: Final = "nothing: the agent removes it, and the gateway sends it again"
LOST: Final = (
    "stop the agent and remove {folder}: what was trained is lost, the device is asked again in a "
    "later round"
)


def config_rows(path: Path, config: ClientConfig) -> Iterator[Row]:
    """`client.toml` and every file that it names."""
    yield ok("config", f"{path}: device {config.device} of the site {config.site}")
    yield _checked("samples", lambda: _samples(config.data.path), "correct [data] path")
    folder = path.resolve().parent
    if config.profile is not None:
        profile = config.profile
        yield _checked(
            "profile", lambda: open_host(profile, folder=folder).board, "correct `profile`"
        )
    if config.policy is not None:
        policy = config.policy
        yield _checked("policy", lambda: _policy(policy), "correct `policy`; docs/budget.md")
    if config.broker.password_file is not None:
        yield _checked("password", lambda: _password(config), "correct `password_file`")
    if config.broker.tls is not None:
        yield _checked("identity", lambda: _identity(config), "enrol the device")


def store_rows(root: Path) -> Iterator[Row]:
    """What is kept in the store, as far as its checksums tell."""
    for name in ("outbox", "task"):
        folder = root / name
        yield from _message_rows(name, sorted(folder.glob("*.head")))
    plans = sorted((root / "plans").glob("*"))
    damaged = [one for one in plans if not one.name.startswith(".") and not _is_named(one)]
    yield _kept_row("plans", len(plans), damaged)
    masks = sorted((root / "masks").glob("*.bits"))
    digests = [one.stem for one in plans if one.suffix == ".json" and one not in damaged]
    if digests:
        bad = [one for one in masks if not _is_mask(one, digests)]
        yield _kept_row("masks", len(masks), bad)


def _checked(name: str, look: Callable[[], str], otherwise: str) -> Row:
    try:
        return ok(name, look())
    except FedSparseError as error:
        return fault(name, error, otherwise)


def _samples(path: Path) -> str:
    count, shape, dtype = count_samples(path)
    if not count:
        raise DataError(f"{path}: no samples: x is empty; save some with numpy.savez(x=..., y=...)")
    return f"{path}: {count} of shape {shape}, {dtype}"


def _policy(path: Path) -> str:
    PolicyFile(path)
    return f"{path}: understood"


def _password(config: ClientConfig) -> str:
    read_password(config.broker)
    return f"{config.broker.password_file}: readable"


def _identity(config: ClientConfig) -> str:
    if trust_in_gateway(config) is None:
        return "not by enrolment: certificates are made and renewed by other hands"
    return "enrolled: the gateway's signatures are checked"


def _message_rows(name: str, heads: list[Path]) -> Iterator[Row]:
    if not heads:
        yield ok(name, "empty")
    for head in heads:
        lost = LOST.format(folder=head.parent)
        try:
            message, body = load_message(head)
        except (OSError, RemoteProtocolError) as error:
            yield warn(name, f"{head} is damaged: {error}", lost)
            continue
        if isinstance(body, File) and not body.verify():
            yield warn(name, f"{body.path} is damaged: not what its head names", lost)
        else:
            yield ok(name, f"{type(message).__name__}, {body.size} bytes, whole")


def _kept_row(name: str, count: int, damaged: list[Path]) -> Row:
    if damaged:
        names = ", ".join(one.name for one in damaged[:3])
        return warn(name, f"{len(damaged)} of {count} damaged: {names}", REFETCHED)
    return ok(name, f"{count}, whole")


def _is_named(path: Path) -> bool:
    """Whether a file has the digest that it is named after."""
    return hashlib.sha256(_bytes(path)).hexdigest() == path.stem


def _is_mask(path: Path, plans: list[str]) -> bool:
    """Whether it is a mask of one of the plans (fedsparse/sparsity/packing.py, `mask_digest`)."""
    bits = _bytes(path)
    found = (hashlib.sha256(bytes.fromhex(plan) + bits).hexdigest() for plan in plans)
    return path.stem in found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
