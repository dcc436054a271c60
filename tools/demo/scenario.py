"""What a demo runs: its options, the recipe of each data set, and the files it lays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aggregator.job import CohortConfig, JobConfig, MethodConfig, TrainingConfig
from edge_client.budget.correction import TRAINER_START_S
from edge_client.config import BudgetConfig, ClientConfig, DataConfig
from fedsparse.errors import ConfigError
from fedsparse.methods.method import METHODS
from fedsparse.plan.zoo import PLANS
from fedsparse.transport.config import BrokerConfig
from tools.datasets.prepare import prepare
from tools.demo.fleet import FLEET, Member, enlist
from tools.demo.toml_writer import to_toml

SITE: Final = "demo"
LEVELS: Final = (0.2, 0.1, 0.05)
GENEROUS_S: Final = 3600.0
GATHER_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a data set is trained in the demo.

    Attributes:
        rounds: training rounds.
        deadline_s: of a round of eight devices; it splits the boards over the levels.
        training: of a device, at the sparse levels.
        dense_rate: the learning rate of dense training, which bears less; it also ends at a tenth.
        sense_epochs: epochs of stage 1.
        alpha: unevenness of the classes, where the data have no natural owners.
        owned: whether they have: each device then has as many samples, however many there are.
    """

    rounds: int
    deadline_s: float
    training: TrainingConfig
    dense_rate: float
    sense_epochs: int = 5
    alpha: float = 1.0
    owned: bool = False

    def deadline_of(self, devices: int) -> float:
        """Seconds of a round: fewer devices have more samples each; more do not get less time."""
        more = 1.0 if self.owned else max(1.0, len(FLEET) / devices)
        return TRAINER_START_S + (self.deadline_s - TRAINER_START_S) * more

    def training_of(self, method: str) -> TrainingConfig:
        """What a device does under `method`."""
        if method != "dense":
            return self.training
        rate = self.dense_rate
        return replace(self.training, learning_rate=rate, learning_rate_end=rate / 10)


def _sgd(epochs: int, learning_rate: float = 0.05) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs,
        batch_size=32,
        learning_rate=learning_rate,
        learning_rate_end=learning_rate / 10,
        momentum=0.9,
    )


RECIPES: Final = {
    "watch": Recipe(
        rounds=30, deadline_s=7.2, training=_sgd(epochs=3), dense_rate=0.02, owned=True
    ),
    "digits": Recipe(rounds=15, deadline_s=4.6, training=_sgd(epochs=8), dense_rate=0.05),
    "mnist": Recipe(rounds=20, deadline_s=45.0, training=_sgd(epochs=1), dense_rate=0.05),
    "cifar10": Recipe(rounds=40, deadline_s=600.0, training=_sgd(epochs=1), dense_rate=0.05),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """End `device` with SIGKILL when it works on `round_id`, and start it again."""

    device: str
    round_id: int

    @classmethod
    def parse(cls, text: str) -> Kill:
        """From `DEVICE@ROUND`; raises `ConfigError`."""
        device, _, number = text.rpartition("@")
        if not device or not number.isdecimal():
            raise ConfigError(f"--kill takes DEVICE@ROUND, such as pi5@4, got '{text}'")
        return cls(device=device, round_id=int(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the user chose; None stands for the data set's recipe.

    Raises:
        ConfigError: an unknown data set, method or device, or a number out of range.
    """

    output: Path
    dataset: str = "watch"
    method: str = "spdst"
    seed: int = 0
    rounds: int | None = None
    devices: int = 8
    deadline_s: float | None = None
    evaluate_on_devices: bool = False
    kill: Kill | None = None

    def __post_init__(self) -> None:
        if self.dataset not in RECIPES:
            raise ConfigError(f"unknown data set '{self.dataset}'; known: {', '.join(RECIPES)}")
        if self.method not in METHODS:
            raise ConfigError(f"unknown method '{self.method}'; known: {', '.join(METHODS)}")
        if not 2 <= self.devices <= 64:
            raise ConfigError(f"--devices must be 2 to 64, got {self.devices}")
        if self.rounds is not None and self.rounds < 1:
            raise ConfigError(f"--rounds must be at least 1, got {self.rounds}")
        if self.deadline_s is not None and self.deadline_s <= 0:
            raise ConfigError(f"--deadline must be positive, got {self.deadline_s}")
        names = [member.device for member in self.members]
        if self.kill and self.kill.device not in names:
            raise ConfigError(
                f"--kill: no device '{self.kill.device}'; devices: {', '.join(names)}"
            )

    @property
    def recipe(self) -> Recipe:
        """The data set's settings."""
        return RECIPES[self.dataset]

    @property
    def is_dense(self) -> bool:
        """Whether everyone trains the whole model, for comparison."""
        return self.method == "dense"

    @property
    def members(self) -> tuple[Member, ...]:
        """The devices; a dense job needs every one of them, so nothing caps its memory."""
        return enlist(self.devices, capped=not self.is_dense)

    @property
    def round_deadline_s(self) -> float:
        """What `job.toml` sets: devices choose their level by it."""
        if self.deadline_s is not None:
            return self.deadline_s
        return GENEROUS_S if self.is_dense else self.recipe.deadline_of(self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files of a demo run, all below `output`."""

    output: Path
    job_file: Path
    client_files: dict[str, Path]
    events_file: Path
    logs: Path
    members: tuple[Member, ...]


def lay_out(options: DemoOptions, broker: BrokerConfig, say: Callable[[str], None]) -> Layout:
    """Prepare data, plan, `job.toml` and one `client.toml` a device in the empty output folder."""
    output = options.output.resolve()
    members = options.members
    say(f"preparing the data set '{options.dataset}' for {len(members)} devices")
    prepared = prepare(
        options.dataset,
        output / "data",
        devices=len(members),
        seed=options.seed,
        alpha=options.recipe.alpha,
    )
    plan_file = output / "plan.json"
    plan_file.write_text(PLANS[options.dataset]().to_json(), encoding="utf-8")
    test_data = None if options.evaluate_on_devices else prepared.test
    job_file = output / "job.toml"
    job = _job(options, output, plan_file, test_data, broker)
    job_file.write_text(to_toml(job), encoding="utf-8")
    client_files = {}
    for member, samples in zip(members, prepared.devices, strict=True):
        path = output / "devices" / member.device / "client.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        client = _client(member, path.parent, samples, broker)
        path.write_text(to_toml(client), encoding="utf-8")
        client_files[member.device] = path
    return Layout(
        output=output,
        job_file=job_file,
        client_files=client_files,
        events_file=output / "events.jsonl",
        logs=output / "logs",
        members=members,
    )


def _job(
    options: DemoOptions, output: Path, plan: Path, test_data: Path | None, broker: BrokerConfig
) -> JobConfig:
    recipe = options.recipe
    return JobConfig(
        name=f"{options.dataset}-{options.method}",
        site=SITE,
        plan=plan,
        output=output,
        rounds=options.rounds or recipe.rounds,
        seed=options.seed,
        test_data=test_data,
        broker=broker,
        method=MethodConfig(
            name=options.method,
            levels=(1.0,) if options.is_dense else LEVELS,
            sense_epochs=recipe.sense_epochs,
        ),
        training=recipe.training_of(options.method),
        cohort=CohortConfig(
            min_devices=max(2, options.devices // 2),
            expected_devices=options.devices,
            gather_s=GATHER_S,
            deadline_s=options.round_deadline_s,
        ),
    )


def _client(member: Member, folder: Path, samples: Path, broker: BrokerConfig) -> ClientConfig:
    return ClientConfig(
        device=member.device,
        site=SITE,
        store=folder / "store",
        profile=member.profile,
        data=DataConfig(path=samples),
        broker=broker,
        budget=BudgetConfig(memory_mib=member.memory_mib, engine="sparse"),  # reproducible
    )
