"""One offer and its task, as an agent goes about them; started by a test within a memory limit.

It measures its kernels first where that was not done, decides with what the machine has at that
moment, runs the trainer of what it accepted, and says how it went. `decide` ends with the decision;
`forced` trains the smallest level where it declines.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from edge_client.agent.choice import Answer, CalibrationMissing, Chooser
from edge_client.agent.ledger import Ledger
from edge_client.agent.process import Outcome, TrainerProcess
from edge_client.budget.policy_file import PolicyFile
from edge_client.config import ClientConfig
from edge_client.host import RealHost
from edge_client.store import Store
from edge_client.trainer.request import Request, TrainRequest
from fedsparse.config import load
from fedsparse.stored import load_message
from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Offer, Task, Update

POLL_S = 0.02


def main(folder: Path, mode: str) -> None:
    config = load(ClientConfig, folder / "client.toml")
    store = Store(config.store)
    ledger = Ledger(store)
    chooser = Chooser(
        config=config,
        store=store,
        host=RealHost(),
        policy=PolicyFile(None),
        ledger=ledger,
    )
    offer, _ = decode_message((folder / "offer.frame").read_bytes())
    assert isinstance(offer, Offer)
    answer = chooser.choose(offer)
    if isinstance(answer, CalibrationMissing):
        outcome = train(answer.request, store, offer.seconds_left)
        assert not outcome.reason, outcome.reason
        answer = chooser.choose(offer)
    assert isinstance(answer, Answer)
    assert answer.learner is not None, answer.ready.reason
    rows = answer.learner.decision.rows
    level = answer.ready.level
    row = rows[-1] if level is None else answer.learner.decision.row(level)
    assert row is not None
    result = {
        "level": level,
        "reason": answer.ready.reason,
        "predicted_bytes": row.peak_bytes,
        "budget_bytes": answer.ready.memory_budget_bytes,
        "agent_bytes": answer.learner.decision.means.agent_bytes,
        "predicted_s": row.round_s,
        "deadline_s": offer.seconds_left,
        "micro_batch": row.setup.micro_batch,
    }
    if mode != "decide" and (level is not None or mode == "forced"):
        request = TrainRequest(
            task=str(folder / f"task-{round(1000 * row.level)}.head"),
            plan=str(store.plan_path(offer.plan_digest)),
            masks=str(store.masks),
            data=str(config.data.path),
            holdout=config.data.holdout,
            output=str(store.outbox),
            setup=row.setup,
            agent_rss_bytes=0,
            residual=str(store.residual),
            lost=str(store.lost),
        )
        outcome = train(request, store, offer.seconds_left)
        result |= {"no_memory": outcome.no_memory, "failure": outcome.reason}
        result |= {"seconds": outcome.seconds}
        if not outcome.reason:
            update, _ = load_message(store.outbox)
            assert isinstance(update, Update)
            result |= {"trainer_bytes": update.peak_rss_bytes}
            learner, task = answer.learner, task_of(request)
            ledger.trained(learner, task, update, outcome.seconds)
        store.clear_outbox()
    sys.stdout.write(json.dumps(result))


def task_of(request: TrainRequest) -> Task:
    task, _ = load_message(Path(request.task))
    assert isinstance(task, Task)
    return task


def train(request: Request, store: Store, limit_s: float) -> Outcome:
    trainer = TrainerProcess(request, store.task, limit_s)
    while (outcome := trainer.poll()) is None:
        time.sleep(POLL_S)
    return outcome


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
