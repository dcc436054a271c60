"""What is run: which boards train which models, and how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.job import MethodConfig, TrainingConfig
from fedsparse.errors import ConfigError
from tools.emulate.fleet_file import MEASURED, Fleet, Group, Job, LinkTable

BOARDS: Final = (
    "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4b-1gb",
    "raspberry-pi-4b-4gb",
    "raspberry-pi-5-8gb",
    "jetson-nano",
    "jetson-xavier-nx",
    "jetson-orin-nano",
)
LEVELS: Final = (1.0, 0.5, 0.2, 0.1, 0.05)
DEVICE: Final = "board"
MBIT_PER_S: Final = 1.0
BAD_LINK: Final = LinkTable(
    up_bytes_per_s=MBIT_PER_S * 1e6 / 8,
    down_bytes_per_s=MBIT_PER_S * 1e6 / 8,
    delay_s=0.02,
    loss=0.05,
    cut_every_s=20.0,
    cut_for_s=2.0,
)
BAD_LINK_TEXT: Final = (
    f"{MBIT_PER_S:g} Mbit/s, {BAD_LINK.loss:.0%} loss, cut every {BAD_LINK.cut_every_s:g} s"
)
TEST_SAMPLES: Final = 200  # accuracy is not the question


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a device has to do in a round: some 20 s of a Raspberry Pi 5 at density 1.

    Attributes:
        dataset: it also names the model.
        samples: that a device has.
        epochs: of a round.
        deadline_s: of a round, the board's seconds.
    """

    dataset: str
    samples: int
    epochs: int
    deadline_s: float = 150.0


MODELS: Final[Mapping[str, Work]] = {
    "mnist": Work(dataset="mnist", samples=1000, epochs=20),
    "har": Work(dataset="watch", samples=500, epochs=32),
    "resnet": Work(dataset="cifar10", samples=267, epochs=4),
}


def work_of(model: str) -> Work:
    """What is trained of a model.

    Raises:
        ConfigError: there is no such one.
    """
    try:
        return MODELS[model]
    except KeyError:
        raise ConfigError(f"unknown model '{model}'; there are {', '.join(MODELS)}") from None


def one_board(board: str, model: str, rounds: int) -> Fleet:
    """A fleet of one board that measures itself, and trains at the level that it chooses."""
    return Fleet(
        name=f"{board}-{model}",
        groups=(Group(name=DEVICE, board=board),),
        job=_job(work_of(model), rounds),
        figures=MEASURED,
    )


def small_board(model: str, memory_mib: float, memory_fraction: float) -> Fleet:
    """A board with little memory, and one that keeps the job going where the small one declines."""
    groups = (
        Group(
            name=DEVICE, board="raspberry-pi-zero-2w", memory_mib=memory_mib,
            memory_fraction=memory_fraction,
        ),
        Group(name="other", board="raspberry-pi-4b-4gb"),
    )  # fmt: skip
    return Fleet(
        name=f"{memory_mib:.0f}-mib-{model}-{memory_fraction:g}",
        groups=groups,
        job=_job(work_of(model), rounds=2, min_devices=1),
        figures=MEASURED,
    )


def bad_link(rounds: int) -> Fleet:
    """All weights of a model through a link that is slow, loses packets and is cut."""
    return Fleet(
        name="bad-link",
        groups=(Group(name=DEVICE, board="raspberry-pi-4b-1gb", link=BAD_LINK),),
        job=Job(
            dataset="mnist",
            rounds=rounds,
            deadline_s=300.0,
            samples=200,
            test_samples=TEST_SAMPLES,
            method=MethodConfig(name="dense", levels=(1.0,)),
            training=_training(1),
        ),
        time_scale=1.0,
        figures=MEASURED,
    )


def idle_fleet(count: int) -> Fleet:
    """Boards that wait for a job."""
    return Fleet(
        name="idle",
        groups=(Group(name=DEVICE, board="raspberry-pi-zero-2w", count=count),),
        job=Job(dataset="digits", rounds=1, deadline_s=60.0),
    )


def _job(work: Work, rounds: int, min_devices: int | None = None) -> Job:
    return Job(
        dataset=work.dataset,
        rounds=rounds,
        deadline_s=work.deadline_s,
        min_devices=min_devices,
        samples=work.samples,
        test_samples=TEST_SAMPLES,
        method=MethodConfig(levels=LEVELS, rotate_levels=False, sense_epochs=1),
        training=_training(work.epochs),
    )


def _training(epochs: int) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs,
        batch_size=32,
        learning_rate=0.02,
        learning_rate_end=0.005,
        momentum=0.9,
    )
