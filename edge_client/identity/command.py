"""`edge-client enrol` and `edge-client renew`: what they print, and what they read."""

from __future__ import annotations

import argparse
import getpass
import stat
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from edge_client.config import ClientConfig
from edge_client.identity.enrol import Settled, enrol
from edge_client.identity.errand import Desk
from edge_client.identity.folder import OTHERS, IdentityFolder
from edge_client.identity.keys import fingerprint_of, read_pem
from edge_client.identity.renew import due, present, renew
from fedsparse.config import load
from fedsparse.errors import ConfigError
from fedsparse.wire.enrolment_code import Code, Fingerprint, parse_code, parse_fingerprint

LONGEST: Final = 200  # characters that are read where a code is expected


def run_enrol(options: argparse.Namespace) -> int:
    """Enrol the device; returns 0.

    Raises:
        FedSparseError: a file, the code or the gateway is in the way; the message says what to do.
    """
    config = load(ClientConfig, options.config)
    folder = IdentityFolder.of(config)
    trust = _trust(options.fingerprint, options.ca)
    code = _read_code(options.code_file)
    desk = Desk(host=config.broker.host, port=options.port)
    settled = enrol(config, desk, code, trust, say=_say)
    _tell(config, folder, settled, "enrolled")
    return 0


def run_renew(options: argparse.Namespace) -> int:
    """Renew the certificate if that is due, or at once; returns 0.

    Raises:
        FedSparseError: a file or the gateway is in the way; the message says what to do.
    """
    config = load(ClientConfig, options.config)
    folder = IdentityFolder.of(config)
    certificate, _ = present(folder)
    if not options.now and datetime.now(timezone.utc) < due(certificate):
        sys.stdout.write(
            f"not due: {folder.device} is good until {_day(certificate.not_valid_after_utc)}, and "
            f"is renewed from {_day(due(certificate))} on\n"
        )
        return 0
    _tell(config, folder, renew(config, say=_say), "renewed")
    return 0


def _tell(config: ClientConfig, folder: IdentityFolder, settled: Settled, done: str) -> None:
    until = _day(settled.certificate.not_valid_after_utc)
    sys.stdout.write(
        f"{done}: {config.device} of the site {config.site}, until {until}: {folder.device}\n"
    )
    home = settled.home
    if config.broker.port != home.port:
        sys.stdout.write(
            f"the fleet's broker has the port {home.port}, and client.toml says "
            f"{config.broker.port}: set port = {home.port} in [broker]\n"
        )


def _trust(text: str | None, ca: Path | None) -> Fingerprint:
    """What the authority is known by: one of the two is given."""
    if text is not None:
        return parse_fingerprint(text)
    assert ca is not None  # noqa: S101 (argparse demands one of the two)
    try:
        pem = ca.read_bytes()
    except OSError as error:
        raise ConfigError(f"--ca {ca}: cannot be read: {error.strerror}") from error
    return fingerprint_of(read_pem(pem, f"--ca {ca}"))


def _read_code(path: Path | None) -> Code:
    """From a file that nobody else may read, or from the standard input; never an argument."""
    if path is None:
        return parse_code(_typed())
    try:
        if stat.S_IMODE(path.stat().st_mode) & OTHERS:
            raise ConfigError(f"{path}: others may read this code: chmod 600 {path}")
        with path.open(encoding="utf-8") as file:
            return parse_code(file.read(LONGEST))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--code-file {path}: cannot be read: {error}") from error


def _typed() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("code (not shown): ")
    return sys.stdin.readline(LONGEST)


def _say(what: str) -> None:
    sys.stderr.write(f"edge-client: {what}\n")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
