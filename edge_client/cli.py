"""`edge-client`: the device's command line (argparse, so that it starts fast)."""

from __future__ import annotations

import argparse
import logging
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from edge_client.bench.options import add_arguments
from edge_client.lean import (
    OPENSSL_HASHES,
    PACKERS,
    TLS,
    leave_out,
    leave_out_proxies,
    share_one_arena,
)
from fedsparse import __version__
from fedsparse.errors import FedSparseError

EXIT_ERROR: Final = 2
ENROLMENT_PORT: Final = 8884
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
NEEDS_64_BITS: Final = (
    "fedsparse needs a 64-bit system, and this Python has 32 bits ({machine}): numpy has no wheels "
    "for it; install the board's 64-bit image (on a Raspberry Pi 3, 4, 5 or Zero 2: Raspberry Pi "
    "OS 64-bit) and its Python"
)
LOG_FORMAT: Final = "time=%(asctime)s level=%(levelname)s %(message)s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 with the error on stderr."""
    options = _parser().parse_args(arguments)
    if sys.maxsize < 2**32:
        return _refused(NEEDS_64_BITS.format(machine=platform.machine()))
    command: Callable[[argparse.Namespace], int] = options.command
    if command not in (_enrol, _renew):  # these derive keys, and end soon
        leave_out(OPENSSL_HASHES)
    if command not in (_enrol, _renew, _run, _doctor):  # no other one connects
        leave_out(TLS)
    try:
        return command(options)
    except (FedSparseError, OSError) as error:
        return _refused(str(error))


def _refused(reason: str) -> int:
    sys.stderr.write(f"edge-client: {reason}\n")
    return EXIT_ERROR


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=options.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    from edge_client.config import ClientConfig
    from fedsparse.config import load

    share_one_arena()
    leave_out(*PACKERS)
    leave_out_proxies()
    if load(ClientConfig, options.config).broker.tls is None:
        leave_out(TLS)
    from edge_client.agent.main import run

    return run(options.config)


def _bench(options: argparse.Namespace) -> int:
    from edge_client.bench.command import run

    return run(options)


def _explain(options: argparse.Namespace) -> int:
    from edge_client.budget.explain import run

    return run(options)


def _profile(options: argparse.Namespace) -> int:
    from edge_client.probe.command import run

    return run(options)


def _enrol(options: argparse.Namespace) -> int:
    from edge_client.identity.command import run_enrol

    return run_enrol(options)


def _renew(options: argparse.Namespace) -> int:
    from edge_client.identity.command import run_renew

    return run_renew(options)


def _doctor(options: argparse.Namespace) -> int:
    from edge_client.doctor.command import run

    return run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-client",
        description="A fedsparse device: trains the density that it can afford on its own data.",
        epilog="Exit codes: 0 stopped by a signal, 2 a file, the data or the system is at fault.",
    )
    parser.add_argument("--version", action="version", version=f"edge-client {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_run,
        _add_bench,
        _add_explain,
        _add_profile,
        _add_enrol,
        _add_renew,
        _add_doctor,
    ):
        add(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="take part in the jobs of an aggregator",
        epilog="[budget] in client.toml bounds what training may use: memory_fraction (0.5) and "
        "memory_mib, of memory; threads (1), the most; engine (auto, sparse or graph). A level is "
        "raised after raise_after (3) offers that leave headroom (0.1) of memory and time. "
        'policy = "policy.toml" says when the device may train. docs/budget.md has it all.',
    )
    run.add_argument("config", type=Path, metavar="client.toml", help="who the device is")
    run.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="how much to say on stderr (default: info)",
    )
    run.set_defaults(command=_run)


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure what training costs on this board, for a report",
        description="Time and memory of training steps on this board at several densities, one "
        "engine at a time: one minute to ten. Progress is on stderr.",
    )
    add_arguments(bench)
    bench.set_defaults(command=_bench)


def _add_explain(commands: Commands) -> None:
    explain = commands.add_parser(
        "explain",
        help="show the last decision of a device: each level's forecast, and why",
        description="The last answer to an offer, from the device's store: what each level would "
        "take, what there was, and why one was taken or none. The agent need not run.",
        epilog="Exit codes: 0, or 1 if no round was offered yet. docs/budget.md explains the page.",
    )
    explain.add_argument("config", type=Path, metavar="client.toml", help="who the device is")
    explain.add_argument("--json", action="store_true", help="print a document for programs")
    explain.set_defaults(command=_explain)


def _add_profile(commands: Commands) -> None:
    profile = commands.add_parser(
        "profile",
        help="measure what this device has: processor, memory, storage, network, heat, power",
        description="What this device has to train with, in less than ten seconds. Kernel speed, "
        "memory bandwidth and write speed are kept, and measured again where something that they "
        "depend on has changed, or after 30 days; all else is read anew every time. What cannot "
        "be read is called unknown, with the reason. Progress is on stderr.",
        epilog="docs/devices.md says what every figure means.",
    )
    profile.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="client.toml",
        help="measure the storage of this device's store, keep the figures there, and show how "
        "fast its transfers were",
    )
    profile.add_argument(
        "--path",
        type=Path,
        metavar="FOLDER",
        help="without client.toml: measure the storage of this folder (default: the current one)",
    )
    profile.add_argument("--again", action="store_true", help="measure even if figures were kept")
    profile.add_argument("--json", action="store_true", help="print a document for programs")
    profile.set_defaults(command=_profile)


def _add_enrol(commands: Commands) -> None:
    enrol = commands.add_parser(
        "enrol",
        allow_abbrev=False,  # or `--code ABCD` would be a file's name
        help="get this device its certificate, with a code from the gateway",
        description="Make a key on this device, where it stays, and have the gateway certify it. "
        "`fedsparse identity token DEVICE` on the gateway prints a code and the authority's "
        "fingerprint. The code is asked for, or read from the standard input; it never travels. "
        "Interrupted, the command can be run again with the same code. Progress is on stderr.",
        epilog="Exit codes: 0 enrolled; 2 refused, nobody there, or a file is at fault: the "
        "message says what to do. docs/security.md tells what this protects.",
    )
    enrol.add_argument("config", type=Path, metavar="client.toml", help="who the device is")
    trust = enrol.add_mutually_exclusive_group(required=True)
    trust.add_argument(
        "--fingerprint",
        metavar="X",
        help="of the fleet's authority: 16 letters and digits, or 64 hexadecimal ones",
    )
    trust.add_argument(
        "--ca", type=Path, metavar="FILE", help="the authority's certificate itself (ca.crt)"
    )
    enrol.add_argument(
        "--code-file", type=Path, metavar="FILE", help="read the code from here (mode 600)"
    )
    enrol.add_argument(
        "--port",
        type=_port,
        default=ENROLMENT_PORT,
        help=f"of enrolment, on the host of [broker] (default: {ENROLMENT_PORT})",
    )
    enrol.set_defaults(command=_enrol)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"a port is 1 to 65535, got {text!r}")
    return int(text)


def _add_renew(commands: Commands) -> None:
    renew = commands.add_parser(
        "renew",
        help="get this device its next certificate, if that is due",
        description="After two thirds of a certificate's life: make a new key, have it certified "
        "on the word of the old one, and take it. An agent that runs has it from its next "
        "connection on.",
        epilog="Exit codes: 0 renewed, or not due; 2 refused, nobody there, or a file is at fault.",
    )
    renew.add_argument("config", type=Path, metavar="client.toml", help="who the device is")
    renew.add_argument("--now", action="store_true", help="renew even if it is not due")
    renew.set_defaults(command=_renew)


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what is wrong with this device, and what to do about it",
        description="Check everything that a device needs to take part: its files, its disk, the "
        "way to the broker, certificates, clock, permissions, memory, versions, kernels. One line "
        "a check: `ok`, `warn` or `FAIL`, its name, what was found, and after `->` what to do. "
        "Nothing is changed. While an agent runs, the broker is not spoken to in its name, which "
        "would throw it off; stop the agent to have all checks.",
        epilog="Exit codes: 0 all is well; 1 there are warnings; 2 something fails. "
        "docs/operations.md explains the lines.",
    )
    doctor.add_argument("config", type=Path, metavar="client.toml", help="who the device is")
    doctor.add_argument("--json", action="store_true", help="print a document for programs")
    doctor.set_defaults(command=_doctor)


if __name__ == "__main__":
    sys.exit(main())
