"""`fedsparse identity`: a fleet's own authority, and who is in the fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="A fleet of one's own: its authority, its brokers' files, who is in and who is out.",
)

FleetOption = Annotated[
    Path,
    typer.Option("--fleet", "-f", envvar="FEDSPARSE_FLEET", help="The fleet's folder."),
]
HERE = Path("fleet")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="For the fleet; made, its owner's alone.")] = HERE,
    *,
    site: Annotated[str, typer.Option(help="The fleet's name: `site` of jobs and clients.")],
    host: Annotated[
        list[str],
        typer.Option(help="Name or address by which devices reach the broker; may be repeated."),
    ],
    port: Annotated[int, typer.Option(help="Of the broker.")] = 8883,
    enrolment_port: Annotated[int, typer.Option(help="Where devices enrol.")] = 8884,
    service_port: Annotated[
        int, typer.Option(help="Of the identity service, on this machine only.")
    ] = 8885,
) -> None:
    """Make a fleet: its authority, and everything that its brokers read."""
    from aggregator.identity.fleet import Fleet
    from aggregator.identity.moment import utc_now
    from aggregator.identity.names import Duty, Role
    from aggregator.identity.upkeep import add_role, keep_fresh
    from tools.identity.views import told_of_a_new_fleet

    ports = (port, enrolment_port, service_port)
    with Fleet.create(folder, site, host, utc_now(), ports=ports) as fleet:
        add_role(fleet, Role(duty=Duty.IDENTITY), utc_now())
        keep_fresh(fleet, utc_now())
        for line in told_of_a_new_fleet(fleet, folder):
            typer.echo(line)


@app.command()
def serve(fleet: FleetOption = HERE) -> None:
    """Let devices enrol and renew, until Ctrl-C: with a broker and a port of its own.

    It must run whenever a device is to come in or to renew its certificate. Who was refused, and
    why, is in its log and in events.jsonl in the fleet's folder.
    """
    from tools.identity.enrolment import run_service

    run_service(fleet)


@app.command()
def token(
    device: Annotated[str, typer.Argument(help="The device's name, as in its client.toml.")],
    fleet: FleetOption = HERE,
    hours: Annotated[float, typer.Option(help="How long the code is good; at most 720.")] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a document for programs.")] = False,
) -> None:
    """Make a code that lets one device in, once; older unused codes of it are void.

    The code is shown here and kept nowhere: bring it to the device by a way that you trust.
    """
    from tools.identity import enrolment

    document = enrolment.new_code(fleet, device, hours)
    if as_json:
        typer.echo(enrolment.as_json(document))
        return
    for line in enrolment.code_lines(document):
        typer.echo(line)
    if not document["served"]:
        typer.echo(f"devices can enrol while this runs: {document['serve']}", err=True)


@app.command("list")
def list_everyone(
    fleet: FleetOption = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="Print a document for programs.")] = False,
) -> None:
    """Show who is in the fleet, until when, and what ends soon."""
    from aggregator.identity.fleet import Fleet
    from aggregator.identity.moment import utc_now
    from tools.identity.views import fleet_document, fleet_lines

    with Fleet.open(fleet) as opened:
        document = fleet_document(opened, utc_now())
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    for line in fleet_lines(document):
        typer.echo(line.rstrip())


@app.command()
def issue(
    role: Annotated[str, typer.Argument(help="gateway.JOB (an aggregator), identity, or doctor.")],
    fleet: FleetOption = HERE,
) -> None:
    """Give a process of the gateway a certificate, and print what its configuration needs."""
    from aggregator.identity.fleet import Fleet
    from aggregator.identity.moment import utc_now
    from aggregator.identity.names import parse_role
    from aggregator.identity.upkeep import add_role
    from tools.identity.views import broker_table

    wanted = parse_role(role)
    with Fleet.open(fleet) as opened:
        path = add_role(opened, wanted, utc_now())
        for line in broker_table(opened, path):
            typer.echo(line)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="A device; with --role a role, such as gateway.JOB.")],
    fleet: FleetOption = HERE,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    role: Annotated[bool, typer.Option("--role", help="The name is a role's.")] = False,
) -> None:
    """Throw a device out, now: its certificates, its tokens, and its connection.

    It may be done again, after a crash or when the broker was down. Exit code 2: the broker still
    lets it in; the message says why.
    """
    from aggregator.identity.fleet import Fleet
    from aggregator.identity.moment import utc_now
    from aggregator.identity.names import parse_role
    from aggregator.identity.revocation import revoke_device, revoke_role

    with Fleet.open(fleet) as opened:
        if role:
            outcome = revoke_role(opened, parse_role(name), reason, utc_now())
        else:
            outcome = revoke_device(opened, name, reason, utc_now())
    typer.echo(f"{name} is out; certificates revoked: {outcome.certificates}")
    if outcome.in_force:
        typer.echo("the broker refuses it, and its connection is ended")
    else:
        typer.echo("no broker runs here: it will refuse it from its start on", err=True)


@app.command()
def crl(fleet: FleetOption = HERE) -> None:
    """Write the revocation list and the brokers' rules anew, and tell the broker.

    `fedsparse broker --fleet` does this daily. Without it nobody is let in after 14 days.
    """
    from aggregator.identity.fleet import Fleet
    from aggregator.identity.moment import utc_now
    from aggregator.identity.publishing import publish
    from aggregator.identity.running import reload_brokers
    from tools.identity.views import list_line

    with Fleet.open(fleet) as opened:
        with opened.alone():
            publish(opened, utc_now())
            told = reload_brokers(opened)
        typer.echo(list_line(opened))
    _say_whether_told(told)


@app.command()
def renew_broker(fleet: FleetOption = HERE) -> None:
    """Give the brokers a new key and certificate, with the hosts that fleet.toml names now.

    `fedsparse broker --fleet` does this by itself when two thirds of a certificate's life are over.
    """
    from aggregator.identity.fleet import Fleet
    from aggregator.identity.moment import utc_now
    from aggregator.identity.upkeep import renew_broker as renew

    with Fleet.open(fleet) as opened:
        told = renew(opened, utc_now())
        hosts = ", ".join(opened.config.certified_hosts)
    typer.echo(f"the broker's new certificate is for {hosts}")
    _say_whether_told(told)


def _say_whether_told(told: bool) -> None:
    if not told:
        typer.echo("no broker runs here: it will read this when it starts", err=True)
