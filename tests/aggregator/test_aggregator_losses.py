"""Jobs of every loss from end to end: real aggregator, real trainer, in one process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from job_world import Device, World, build_world

from aggregator.job import MethodConfig, TrainingConfig
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.request import EXIT_OK, TrainRequest
from edge_client.trainer.train import run_task
from fedsparse.body import Bytes
from fedsparse.errors import DataError
from fedsparse.plan import Loss, Plan, Tanh
from fedsparse.plan.builder import PlanBuilder
from fedsparse.stored import read_message, save_message
from fedsparse.types import Float32Array
from fedsparse.wire.messages import Task, Update

# The loss of a model that always says the same: of two classes, of bits, of numbers around 0.
CHANCE = {Loss.CROSS_ENTROPY: np.log(2), Loss.BCE: np.log(2), Loss.MSE: 0.6}


def plan_of(loss: Loss) -> Plan:
    model = PlanBuilder("small", (6,))
    model.linear("first", 40)
    model.add(Tanh())
    model.linear("last", 2, prunable=False)
    return model.build(loss=loss)


def data_of(loss: Loss, count: int, seed: int) -> tuple[Float32Array, np.ndarray]:
    """Samples whose targets a small network can learn."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 6), np.float32)
    sums = np.stack([x[:, :3].sum(1), x[:, 3:].sum(1)], axis=1)
    if loss is Loss.CROSS_ENTROPY:
        return x, sums.argmax(1)
    return x, np.tanh(sums) if loss is Loss.MSE else (sums > 0).astype(np.uint8)


@dataclass
class TrainerDevice(Device):
    """A device of the world that trains with the trainer itself, on samples of its own."""

    def __init__(self, world: World, name: str, folder: Path) -> None:
        super().__init__(world, name, 0.2, 160)
        self.folder = folder

    def make_update(self, task: Task, body: bytes) -> tuple[Update, bytes]:
        save_message(self.folder / "task.head", task, Bytes(body))
        (self.folder / "plan").write_text(self.world.plan.to_json())
        request = TrainRequest(
            task=str(self.folder / "task.head"),
            plan=str(self.folder / "plan"),
            masks=str(self.folder / "masks"),
            data=str(self.folder / "data.npz"),
            holdout=0.2,
            output=str(self.folder / "update.head"),
            setup=EngineSetup(micro_batch=task.batch_size),
            agent_rss_bytes=0,
            residual=str(self.folder / "residual"),
            lost=str(self.folder / "update.residual"),
        )
        assert run_task(request) == EXIT_OK
        update, content = read_message(self.folder / "update.head")
        assert isinstance(update, Update)
        return update, content


def learning_world(tmp_path: Path, loss: Loss, *, on_gateway: bool) -> World:
    test_data = None
    if on_gateway:
        test_data = tmp_path / "test.npz"
        x, y = data_of(loss, 400, seed=99)
        np.savez(test_data, x=x, y=y)
    world = build_world(
        tmp_path,
        rounds=6,
        method=MethodConfig(name="pdst", levels=(0.5, 0.2)),
        training=TrainingConfig(learning_rate=0.3, learning_rate_end=0.1, epochs=3, batch_size=16),
        test_data=test_data,
    )
    world.plan = plan_of(loss)
    for index, level in enumerate((0.5, 0.2, 0.2)):
        folder = tmp_path / f"device-{index}"
        (folder / "masks").mkdir(parents=True)
        x, y = data_of(loss, 160, seed=index)
        np.savez(folder / "data.npz", x=x, y=y)
        device = TrainerDevice(world, folder.name, folder)
        device.level = level
        world.devices.append(device)
    return world


@pytest.mark.parametrize("on_gateway", [False, True])
@pytest.mark.parametrize("loss", list(Loss))
def test_a_job_of_every_loss_learns_and_is_scored_by_it(
    tmp_path: Path, loss: Loss, on_gateway: bool
) -> None:
    world = learning_world(tmp_path, loss, on_gateway=on_gateway)
    aggregator = world.run()
    assert aggregator.done
    scored = [event for event in world.events("round_scored") if event["test_loss"]]
    last = scored[-1]["test_loss"]
    assert last.keys() == {"0.5", "0.2"}
    assert max(last.values()) < 0.5 * CHANCE[loss]
    if loss is Loss.MSE:
        assert aggregator.scores.accuracy == {}
        assert all(event["accuracy"] == {} for event in world.events("round_scored"))
    else:
        assert min(aggregator.scores.accuracy.values()) > 0.8


def test_a_device_with_labels_for_a_model_of_numbers_reports_what_is_wrong(tmp_path: Path) -> None:
    world = learning_world(tmp_path, Loss.MSE, on_gateway=False)
    x, y = data_of(Loss.CROSS_ENTROPY, 160, seed=0)
    np.savez(tmp_path / "device-0" / "data.npz", x=x, y=y)
    with pytest.raises(DataError, match=r"data\.npz: 160 samples in x but y has the shape"):
        world.run()


def test_scores_of_devices_are_pooled_by_their_counts(tmp_path: Path) -> None:
    world = learning_world(tmp_path, Loss.MSE, on_gateway=False)
    reported: dict[float, list[tuple[float, int]]] = {}
    x, y = data_of(Loss.MSE, 60, seed=2)
    np.savez(tmp_path / "device-2" / "data.npz", x=x, y=y)  # a level of unequal hold-outs

    for device in world.devices:
        real = device.make_update

        def noted(task: Task, body: bytes, real: object = real) -> tuple[Update, bytes]:
            assert callable(real)
            update, content = real(task, body)
            if task.round_id == 3:
                found = update.evaluation
                reported.setdefault(update.level, []).append((found.loss_sum, found.count))
            return replace(update), content

        device.make_update = noted  # type: ignore[method-assign]
    world.run()
    event = next(one for one in world.events("round_scored") if one["round"] == 3)
    assert any(len({count for _, count in pairs}) > 1 for pairs in reported.values())
    assert event["test_loss"].keys() == {f"{level:g}" for level in reported}
    for level, pairs in reported.items():
        mean = sum(one for one, _ in pairs) / sum(count for _, count in pairs)
        assert event["test_loss"][f"{level:g}"] == pytest.approx(mean, abs=1e-5)
