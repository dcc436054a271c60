"""The command `fedsparse`, for gateways and workstations.

Exit codes:
    0    done
    1    a run broke off: a process ended early, or there was no progress for long
    2    wrong usage, or a file, an option, the data or the broker is at fault
    3    the aggregator was stopped by a signal; started again, it goes on
    130  interrupted with Ctrl-C; 143 ended by SIGTERM
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

try:
    import typer
except ModuleNotFoundError:
    sys.exit('fedsparse: this command needs the extra "gateway": pip install "fedsparse[gateway]"')

from fedsparse import __version__
from fedsparse.errors import ConfigError, FedSparseError
from tools.bench.cli import app as bench_app
from tools.data_cli import app as data_app
from tools.demo.cli import demo, report
from tools.devices_cli import devices
from tools.doctor.cli import doctor
from tools.emulate.cli import emulate
from tools.identity.cli import app as identity_app
from tools.model_cli import app as model_app
from tools.profiles.cli import app as profiles_app

EXIT_FAULT: Final = 2
LOG_FORMAT: Final = "time=%(asctime)s level=%(levelname)s %(message)s"


class LogLevel(str, Enum):
    """How much a process says on stderr."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


app = typer.Typer(
    name="fedsparse",
    help="Federated training of sparse models: each device pays for the density that it keeps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(report)
app.command()(emulate)
app.command()(devices)
app.command()(doctor)
app.add_typer(model_app, name="model", help="Models from torch or ONNX to plans.")
app.add_typer(data_app, name="data", help="Data sets: split among devices, fetch, describe.")
app.add_typer(profiles_app, name="profiles", help="Boards: list, show, make from measurements.")
app.add_typer(identity_app, name="identity", help="A fleet: its authority, who is in, who is out.")
app.add_typer(bench_app, name="bench", help="Measure: accuracy, time, memory, predictions.")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fedsparse {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Federated training of sparse models: each device pays for the density that it keeps."""


@app.command()
def aggregator(
    job: Annotated[Path, typer.Argument(help="The job: what is trained, how, and until when.")],
    log_level: Annotated[LogLevel, typer.Option(help="How much to say on stderr.")] = LogLevel.INFO,
) -> None:
    """Run a job on this gateway until it is done; run it again to go on after a stop.

    Exit codes: 0 the job is done, 2 a file or the broker is at fault, 3 stopped by a signal.
    """
    import logging

    from aggregator.cli import serve

    logging.basicConfig(level=log_level.value.upper(), format=LOG_FORMAT, stream=sys.stderr)
    raise typer.Exit(serve(job))


@app.command()
def broker(
    context: typer.Context,
    fleet: Annotated[
        Path | None,
        typer.Option(help="The fleet whose broker it is; the other options are for trials."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's needs a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 1883,
    username: Annotated[str, typer.Option(help="What clients must name themselves.")] = "",
    password_file: Annotated[
        Path | None, typer.Option(help="The password that clients must know, in a file.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where it keeps its state.")] = Path("out/broker"),
) -> None:
    """Run an MQTT broker in the foreground: a fleet's, or one for trials.

    A fleet's (`fedsparse identity init` makes one) lets in whoever has a certificate of that fleet;
    what runs out is renewed in time. The one for trials has no encryption.
    """
    if fleet is not None:
        from tools.identity.broker import run_fleet_broker

        given = [name for name in context.params if name != "fleet" and _is_given(context, name)]
        if given:
            raise ConfigError(f"--fleet decides about --{given[0].replace('_', '-')}: leave it out")
        run_fleet_broker(fleet)
        return
    from tools.broker_cli import run_broker

    run_broker(folder, host, port, username, password_file)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def main() -> None:
    """Run the command line; an error of the user or of a peer is one message on stderr."""
    try:
        app(prog_name="fedsparse")
    except FedSparseError as error:
        typer.echo(f"fedsparse: {error}", err=True)
        sys.exit(getattr(error, "exit_code", EXIT_FAULT))


if __name__ == "__main__":
    main()
