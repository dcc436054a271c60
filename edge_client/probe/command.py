"""`edge-client profile`: what this device has to train with, measured in less than ten seconds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from edge_client.config import ClientConfig
from edge_client.probe.link import FILE as LINK_FILE
from edge_client.probe.link import read_link
from edge_client.probe.measured import FILE, Basis, Measurement, why_again
from edge_client.probe.measuring import basis_of, take_measurement
from edge_client.probe.report import Means, read_means, report
from edge_client.probe.table import page
from fedsparse.config import load
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError

EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are.

    Attributes:
        folder: whose storage is measured.
        cache: the file of what took time to measure; None where there is no place for one.
        link: the file of recent transfers; None where it is not known.
    """

    folder: Path
    cache: Path | None
    link: Path | None


def run(arguments: argparse.Namespace) -> int:
    """Read, measure what needs it, print; returns the exit code.

    Raises:
        ConfigError: the configuration file is at fault, or the folder is none.
    """
    places = _places(arguments.config, arguments.path)
    means = read_means()
    try:
        measured, reused, why = _measured(places, means, again=arguments.again)
    except KeyboardInterrupt:
        sys.stderr.write("edge-client: interrupted; nothing was kept\n")
        return EXIT_INTERRUPTED
    link = read_link(places.link) if places.link else None
    origin = {"reused": reused, "why": why}
    document = report(means, measured, link, places.folder, origin=origin)
    text = json.dumps(document, indent=2) if arguments.json else "\n".join(page(document))
    sys.stdout.write(f"{text}\n")
    return 0


def _places(config: Path | None, path: Path | None) -> Places:
    """The store of a configuration; else the folder that is named, or the current one."""
    if config is not None and path is not None:
        raise ConfigError("give client.toml, whose store is measured, or --path, not both")
    if config is None:
        folder = path or Path.cwd()
        if not folder.is_dir():
            raise ConfigError(f"--path {folder}: no such folder")
        return Places(folder=folder, cache=_user_cache(), link=None)
    client = load(ClientConfig, config)
    if client.profile is not None:
        _say(f"{config} lets the board '{client.profile}' stand in; this is the machine itself")
    try:
        client.store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"store {client.store}: cannot be created: {error}") from error
    store = client.store
    return Places(folder=store, cache=store / FILE, link=store / LINK_FILE)


def _user_cache() -> Path | None:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # a user without a home
            return None
    return base / "fedsparse" / FILE


def _measured(places: Places, means: Means, *, again: bool) -> tuple[Measurement, bool, str]:
    """What took time to measure, whether it was measured earlier, and why."""
    basis = basis_of(
        means.board,
        means.processor,
        means.memory,
        architecture=means.architecture,
        kernel=means.kernel,
        folder=places.folder,
    )
    kept, why = None, "asked for with --again"
    if not again:
        kept, why = _kept(places, basis)
    if kept is not None:
        _say(f"figures of {kept.stamp}: {why}")
        return kept, True, why
    _say(f"measuring, less than ten seconds: {why}")
    available = means.memory.available_bytes if means.memory else None
    measured = take_measurement(basis, places.folder, available, _say)
    return measured, False, why if _keep(places.cache, measured) else f"{why}; not kept"


def _kept(places: Places, basis: Basis) -> tuple[Measurement | None, str]:
    if places.cache is None:
        return None, "this user has no home, where it could be kept"
    return why_again(places.cache, basis, datetime.now(timezone.utc))


def _keep(path: Path | None, measured: Measurement) -> bool:
    if path is None:
        return False
    try:
        write_durably(path, measured.to_json().encode())
    except OSError as error:
        _say(f"cannot be kept for the next time: {path}: {error.strerror}")
        return False
    return True


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()
