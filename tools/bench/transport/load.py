"""A thousand clients, a broker and an aggregator on one machine: is every update counted once?

Devices are connections that keep the contract and train nothing; broker and aggregator are the
real ones. What came of a round is computed again from what its clients sent.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_client.bench.race import WorkerError
from fedsparse.wire.messages import Stage
from tools.bench.devices.rows import read_events
from tools.bench.transport.load_broker import LoadBroker, make_certificates, start_load_broker
from tools.bench.transport.load_job import LoadClient, load_config, load_plan, mean_of
from tools.bench.transport.load_result import LoadResult, LoadRound, slope
from tools.bench.transport.process_usage import cpu_s, memory_mb
from tools.bench.transport.words import Listener
from tools.demo.processes import Children, last_lines, python_module
from tools.demo.toml_writer import to_toml

AGGREGATOR: Final = "aggregator"
PROFILE: Final = "profile.out"
INFLIGHT: Final = 256  # updates that the gateway may have unacknowledged: it stores many at once
AGAIN_S: Final = 30.0  # after so long a device sends its update again
PATIENCE_S: Final = 600.0
STEADY_FROM: Final = 5  # rounds before it are left out of medians and of the slope
NEAR: Final = 1e-6  # of a mean in float32; one update more or less moves it by 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """How much.

    Attributes:
        clients, processes: that many devices, in so many processes.
        tls: so many of them with TLS and certificates of their own.
        rounds: of training.
        profile: whether the aggregator runs under cProfile (slower; `profile.out` has it).
    """

    clients: int = 1000
    processes: int = 4
    tls: int = 200
    rounds: int = 20
    profile: bool = False


@dataclass(slots=True, kw_only=True)
class _Fleet:
    """What runs."""

    broker: LoadBroker
    aggregator: subprocess.Popen[bytes]
    swarms: list[subprocess.Popen[bytes]]
    words: Listener
    rounds: list[LoadRound] = field(default_factory=list)

    def cpu(self) -> dict[str, float]:
        return {
            "broker": cpu_s(self.broker.process.pid),
            "aggregator": cpu_s(self.aggregator.pid),
            "clients": sum(cpu_s(one.pid) for one in self.swarms),
        }


def measure_load(
    request: LoadRequest, folder: Path, tell: Callable[[str, float], None]
) -> LoadResult:
    """Run all rounds and count.

    Args:
        request: how much.
        folder: empty; for everything that is written.
        tell: is told what is being done, and which share of all is.

    Raises:
        WorkerError: a process ended or fell silent.
        ConfigError, TransportError: mosquitto is missing, or does not start.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the broker inherits it
    tell("certificates", 0.0)
    certificates = folder / "certificates"
    make_certificates(certificates, tuple(LoadClient(one).name for one in _with_tls(request)))
    with _running(request, folder, certificates) as fleet:
        tell("connecting", 0.0)
        fleet.words.all_say("online", True)
        _drive(request, fleet, tell)
    return _result(request, folder, fleet.rounds)


def _shares(request: LoadRequest) -> list[tuple[int, int, int]]:
    """Of each process: its first client, how many, how many of those with TLS."""
    found = []
    for index in range(request.processes):
        first = request.clients * index // request.processes
        end = request.clients * (index + 1) // request.processes
        tls = request.tls * (index + 1) // request.processes - (
            request.tls * index // request.processes
        )
        found.append((first, end - first, min(tls, end - first)))
    return found


def _with_tls(request: LoadRequest) -> Iterator[int]:
    for first, _, tls in _shares(request):
        yield from range(first, first + tls)


@contextmanager
def _running(request: LoadRequest, folder: Path, certificates: Path) -> Iterator[_Fleet]:
    """Broker, aggregator and clients; all have ended when the block is left."""
    with ExitStack() as stack:
        broker = start_load_broker(folder / "broker", certificates, INFLIGHT)
        stack.callback(broker.stop)
        children = stack.enter_context(Children(folder, folder / "logs"))
        aggregator = children.start(AGGREGATOR, _aggregator(request, folder, broker.port))
        (folder / "models").mkdir()
        swarms = [
            _start_swarm(stack, folder, certificates, broker, index, share)
            for index, share in enumerate(_shares(request))
        ]
        words = Listener(swarms)
        yield _Fleet(broker=broker, aggregator=aggregator.process, swarms=swarms, words=words)
        if aggregator.process.wait(PATIENCE_S):
            raise WorkerError(f"the aggregator ended early:\n{last_lines(aggregator.log)}")


def _aggregator(request: LoadRequest, folder: Path, port: int) -> tuple[str, ...]:
    plan = folder.resolve() / "plan.json"
    plan.write_text(load_plan().to_json(), encoding="utf-8")
    job = load_config(folder.resolve() / "job", plan, port, request.clients, request.rounds)
    path = folder.resolve() / "job.toml"
    path.write_text(to_toml(job), encoding="utf-8")
    command = ("tools.cli", "aggregator", str(path), "--log-level", "warning")
    if request.profile:
        return python_module("cProfile", "-o", str(folder.resolve() / PROFILE), "-m", *command)
    return python_module(*command)


def _start_swarm(
    stack: ExitStack,
    folder: Path,
    certificates: Path,
    broker: LoadBroker,
    index: int,
    share: tuple[int, int, int],
) -> subprocess.Popen[bytes]:
    path = (folder / f"swarm-{index}.json").resolve()
    first, count, tls = share
    path.write_text(
        json.dumps(
            {
                "host": "localhost",
                "port": broker.port,
                "tls_port": broker.tls_port,
                "first": first,
                "count": count,
                "tls": tls,
                "certificates": str(certificates.resolve()),
                "journal": str(path.with_name(f"receipts-{index}.jsonl")),
                "models": str(path.with_name("models")),
            }
        ),
        encoding="utf-8",
    )
    with (folder / "logs" / f"swarm-{index}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            [sys.executable, "-m", "tools.bench.transport.client_process", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def _drive(request: LoadRequest, fleet: _Fleet, tell: Callable[[str, float], None]) -> None:
    """Round by round: wait until all hold an update, let them send, wait for all receipts."""
    steps = request.rounds + 1  # the last one scores, and sends no values
    for number in range(1, steps + 1):
        tell(f"round {number} of {steps}", (number - 1) / steps)
        held = fleet.words.all_say("held", number)
        before, rss_mb = fleet.cpu(), memory_mb(fleet.aggregator.pid)["Rss"]
        sent_s = fleet.words.tell({"send": number})
        done = fleet.words.all_say("done", number, or_again=({"again": number}, AGAIN_S))
        after = fleet.cpu()
        if held[0]["stage"] == Stage.TRAIN.value:
            fleet.rounds.append(
                LoadRound(
                    number=number,
                    sent_s=sent_s,
                    took_s=max(one["last_s"] for one in done) - sent_s,
                    rss_mb=rss_mb,
                    cpu_s={name: after[name] - before[name] for name in after},
                )
            )
    fleet.words.tell({"end": True})


def _result(request: LoadRequest, folder: Path, rounds: list[LoadRound]) -> LoadResult:
    receipts = Counter(_accepted(folder))
    events = read_events(folder / "job")
    trained = {one.number for one in rounds}
    folded = {
        one["round"]: one["updates"]
        for one in events
        if one["event"] == "round_closed" and one["round"] in trained
    }
    per_round = Counter(number for number, _ in receipts if number in trained)
    steady = [one for one in rounds if one.number >= STEADY_FROM] or rounds
    wall_s = rounds[-1].sent_s + rounds[-1].took_s - rounds[0].sent_s
    return LoadResult(
        clients=request.clients,
        tls=request.tls,
        rounds=len(rounds),
        updates=sum(folded.values()),
        updates_per_s=float(np.median([request.clients / one.took_s for one in steady])),
        whole_updates_per_s=request.clients * (len(rounds) - 1) / wall_s if wall_s else 0.0,
        lost=sum(max(0, per_round[one] - folded.get(one, 0)) for one in trained),
        duplicated=sum(max(0, folded.get(one, 0) - per_round[one]) for one in trained),
        unanswered=request.clients * len(rounds) - sum(per_round.values()),
        wrong_means=tuple(_wrong_means(request, folder, rounds)),
        rss_slope_mb=slope([one.number for one in steady], [one.rss_mb for one in steady]),
        rss_mb=max(one.rss_mb for one in rounds),
        cpu_s={name: sum(one.cpu_s[name] for one in steady) for name in rounds[0].cpu_s},
        cpu_wall_s=sum(one.took_s for one in steady),
        each=tuple(asdict(one) for one in rounds),
    )


def _accepted(folder: Path) -> Iterator[tuple[int, str]]:
    """Round and device of each acceptance that a client has, each once."""
    seen: set[tuple[int, str]] = set()
    for path in folder.glob("receipts-*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry: dict[str, Any] = json.loads(line)
            key = entry["round"], entry["device"]
            if entry["verdict"] == "accepted" and entry["ours"] and key not in seen:
                seen.add(key)
                yield key


def _wrong_means(request: LoadRequest, folder: Path, rounds: list[LoadRound]) -> Iterator[int]:
    """Rounds whose model is not the mean of what all clients sent."""
    for one in rounds:
        path = folder / "models" / f"{one.number + 1}.f32"
        found = np.fromfile(path, np.float32) if path.is_file() else np.zeros(0, np.float32)
        wanted = mean_of(request.clients, one.number, found.size)
        if not found.size or np.abs(found - wanted).max() > NEAR:
            yield one.number
