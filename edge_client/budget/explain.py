"""`edge-client explain`: the last decision of a device, from its store; the agent need not run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from edge_client.budget.document import Document, damaged, read_document
from edge_client.budget.explain_table import lines
from edge_client.budget.policy import Moment, Verdict, judge
from edge_client.budget.policy_file import PolicyFile
from edge_client.config import ClientConfig
from edge_client.host import Host, open_host
from edge_client.probe.processes import running
from edge_client.store import decision_path
from fedsparse.config import load

EXIT_OK: Final = 0
EXIT_NO_OFFER: Final = 1


def run(options: argparse.Namespace) -> int:
    """Show the last decision of the device in `options.config`; returns 0, or 1 without one.

    Raises:
        ConfigError: `client.toml` or its policy is at fault.
        DataError: the decision in the store is damaged.
    """
    config = load(ClientConfig, options.config)
    now = datetime.now(tz=timezone.utc).astimezone()
    host = open_host(config.profile, folder=options.config.resolve().parent)
    verdict = _policy_now(PolicyFile(config.policy), host, now)
    path = decision_path(config.store)
    document = read_document(path)
    if options.json:
        sys.stdout.write(json.dumps(_for_programs(document, verdict), indent=2) + "\n")
    else:
        page = list(_no_offer(config)) if document is None else _page(path, document, now)
        page += _policy_lines(config, verdict)
        sys.stdout.write("".join(f"{line}\n" for line in page))
    return EXIT_NO_OFFER if document is None else EXIT_OK


def _page(path: Path, document: Document, now: datetime) -> list[str]:
    try:
        return list(lines(document, now))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, error) from error


def _for_programs(document: Document | None, verdict: Verdict) -> Document:
    policy = {
        "allows": verdict.allows,
        "rulings": [asdict(ruling) for ruling in verdict.rulings],
    }
    return {"decision": document, "policy_now": policy}


def _no_offer(config: ClientConfig) -> Iterator[str]:
    yield f"{config.device} has decided nothing yet: no round was offered to it."
    yield (
        f"Start it with `edge-client run`, and a job for the site '{config.site}' on the gateway "
        f"({config.broker.host}:{config.broker.port}) with `fedsparse aggregator`."
    )


def _policy_now(file: PolicyFile, host: Host, now: datetime) -> Verdict:
    policy = file.current()
    moment = Moment(
        now=now,
        heat=host.heat(),
        power=host.power(),
        running=running(policy.processes.forbid),
    )
    return judge(policy, moment)


def _policy_lines(config: ClientConfig, verdict: Verdict) -> Iterator[str]:
    if config.policy is None:
        return
    yield ""
    yield f"The policy {config.policy} {'allows' if verdict.allows else 'forbids'} training now:"
    if not verdict.rulings:
        yield "  it has no rules"
    for ruling in verdict.rulings:
        yield f"  {'yes' if ruling.allows else 'NO '} {ruling.rule}: {ruling.because}"
