"""What a simulated training consists of; a file of it in a run's folder names the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig, ValuesConfig
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError, FedSparseError
from fedsparse.plan import Plan
from fedsparse.plan.finding import find_plan
from tools.datasets.registry import find_dataset
from tools.simulation.cohort import divide_clients

ENGINES: Final = ("sparse", "torch", "torch_softmax")
# What a run leaves in its folder.
SPEC: Final = "spec.json"
RECORDS: Final = "rounds.jsonl"  # a line a closed round
RESULT: Final = "result.json"  # once it is done
FORMAT: Final = 1  # of the files that experiments and their runs leave behind


class SimulationError(FedSparseError):
    """A simulation broke off; the message says how to go on."""

    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One federated training among virtual clients.

    Attributes:
        dataset: a name of `tools/datasets`.
        plan: a model of the zoo, or a path of a `plan.json`.
        clients: how many there are; each holds a part of the data.
        cohort: how many of them work in a round.
        alpha: unevenness of the classes (Dirichlet), where the data have no natural owners.
        samples: at most so many a client; None deals all.
        method, training, values: as in `job.toml`.
        shares: relative numbers of clients at each of the method's levels; empty: all at the first.
        rounds: training rounds, after stage 1.
        seed: of the split, of masks and weights, of who works when, and of every batch.
        evaluate_every: the model is scored in every so many rounds, and in the last.
        engine: `sparse` (what devices run), `torch` (masked dense; CPU or CUDA), or `torch_softmax`
            (with a softmax before the cross-entropy, as the reference code's MNISTNet has it).

    Raises:
        ConfigError: a number out of range; an unknown data set or engine; a level without a client.
    """

    dataset: str
    plan: str
    clients: int
    cohort: int
    alpha: float = 1.0
    samples: int | None = None
    method: MethodConfig = field(default_factory=MethodConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)
    shares: tuple[int, ...] = ()
    rounds: int = 100
    seed: int = 0
    evaluate_every: int = 10
    engine: str = "sparse"

    def __post_init__(self) -> None:
        find_dataset(self.dataset)
        if not 1 <= self.cohort <= self.clients:
            raise ConfigError(f"a cohort of {self.cohort} of {self.clients} clients")
        if self.rounds < 1 or self.evaluate_every < 1:
            raise ConfigError("rounds and evaluate_every must be at least 1")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be 0 to 2**31 - 1, got {self.seed}")
        if self.engine not in ENGINES:
            raise ConfigError(f"engine '{self.engine}' is none of {', '.join(ENGINES)}")
        levels = len(self.method.levels)
        if self.shares and (len(self.shares) != levels or min(self.shares) < 1):
            raise ConfigError(
                f"shares {list(self.shares)} for {levels} levels: a positive number for each"
            )
        divide_clients(self.clients, self.method.levels, self.shares)

    @property
    def data_key(self) -> str:
        """Names the split: runs of one key train on the same files."""
        samples = "all" if self.samples is None else str(self.samples)
        return f"{self.dataset}-{self.clients}x{samples}-a{self.alpha:g}-s{self.seed}"

    def load_plan(self) -> Plan:
        """The model."""
        return find_plan(self.plan)

    def job(self, plan: Path, output: Path) -> JobConfig:
        """The job as an aggregator runs it; every client of a cohort takes part."""
        return JobConfig(
            name="simulation",
            site="simulation",
            plan=plan,
            output=output,
            rounds=self.rounds,
            seed=self.seed,
            method=self.method,
            training=self.training,
            values=self.values,
            cohort=CohortConfig(
                min_devices=self.cohort,
                expected_devices=self.cohort,
                gather_s=1e6,
                deadline_s=1e6,
                bound_norms=False,  # a virtual client is not an attacker
            ),
        )

    def to_document(self) -> dict[str, Any]:
        """For JSON: its keys, what is in the plan by that name, and the format of a run's files."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"format": FORMAT, **document, "plan_digest": self.load_plan().digest}


def claim(folder: Path, spec: RunSpec) -> None:
    """Make `folder` the one of `spec`.

    Raises:
        ConfigError: it is that of another run, or holds something else; nothing is changed then.
    """
    path = folder / SPEC
    wanted = spec.to_document()
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} holds files that no simulation wrote: choose another")
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, (json.dumps(wanted, indent=2) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no table")
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): move {folder} away") from error
    if changed := differences(found, wanted):
        raise ConfigError(
            f"{folder} holds another run ({'; '.join(changed)}): choose another folder, or "
            "move it away"
        )


def differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """How a document on the disk differs from the one that is wanted: `key is this, not that`."""
    changed = []
    for key in wanted | found:
        there, here = found.get(key), wanted.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            changed += differences(there, here, f"{prefix}{key}.")
        elif there != here or (key in found) != (key in wanted):
            values = [f"{one[key]}" if key in one else "missing" for one in (found, wanted)]
            changed.append(f"{prefix}{key} is {values[0]}, not {values[1]}")
    return changed
