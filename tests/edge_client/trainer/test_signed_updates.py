"""A trainer's process turns into one that signs; what is not signed is never in the outbox."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trainer_runs import Job, calibrate, run_trainer, write_task

from aggregator.identity.keys import key_pem, new_service_key
from edge_client.agent.process import ENVIRONMENT
from edge_client.identity.sign import EXIT_REFUSED
from edge_client.trainer.request import TrainRequest
from fedsparse.body import NO_BODY, Bytes
from fedsparse.durable import write_secret
from fedsparse.plan.zoo import PLANS
from fedsparse.stored import load_message, save_message
from fedsparse.wire.frame import decode_frame
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Failure, Part, Stage, Update
from fedsparse.wire.signing import SignatureError, Trusted

TOPIC = "fl/v1/plant/up/cam-01/message"
MB = 1e6
PEAK = """
import sys
from edge_client.identity.sign import main
from edge_client.memory import peak_rss_bytes
code = main()
print(peak_rss_bytes())
sys.exit(code)
"""


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def request_of_an_enrolled_device(tmp_path: Path, key: Ed25519PrivateKey) -> TrainRequest:
    request = write_task(tmp_path, Job(plan=PLANS["watch"](), batch_size=4, examples=8))
    identity, outbox = tmp_path / "identity" / "device.pem", tmp_path / "outbox"
    outbox.mkdir()
    write_secret(identity, b"-----not a key, but beside one-----\n" + key_pem(key))
    return replace(
        request, output=str(outbox / "update.head"), lost=str(outbox / "update.residual"),
        identity=str(identity), topic=TOPIC,
    )  # fmt: skip


def check(path: Path, key: Ed25519PrivateKey, topic: str = TOPIC) -> Update:
    """The update at `path`, as a gateway sees it that knows this key."""
    update, body = load_message(path)
    assert isinstance(update, Update)
    frame = decode_frame(encode_message(update, body.read()))
    Trusted([key.public_key().public_bytes_raw()]).check_frame(topic, frame)
    return update


def test_what_a_trainer_made_is_signed_by_the_device_and_for_its_topic(
    request_of_an_enrolled_device: TrainRequest, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    request = request_of_an_enrolled_device
    done = run_trainer(tmp_path, request)
    assert (done.returncode, done.stderr) == (0, "")
    update = check(Path(request.output), key)
    assert (update.stage, update.round_id) == (Stage.TRAIN, 1)
    with pytest.raises(SignatureError, match="wrong signature"):
        check(Path(request.output), key, TOPIC.replace("cam-01", "cam-02"))
    assert not request.trained.exists()


def test_what_is_stored_is_signed_once_and_for_good(
    request_of_an_enrolled_device: TrainRequest, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    """It is read from the disk and sent after a restart, when nobody has the key."""
    request = request_of_an_enrolled_device
    run_trainer(tmp_path, request)
    Path(request.identity).unlink()
    first, again = check(Path(request.output), key), check(Path(request.output), key)
    assert first == again


@pytest.mark.parametrize("damage", ["gone", "no key", "of another kind"])
def test_without_its_key_nothing_is_in_the_outbox_and_the_reason_is_told(
    request_of_an_enrolled_device: TrainRequest, tmp_path: Path, damage: str
) -> None:
    request = request_of_an_enrolled_device
    identity = Path(request.identity)
    identity.unlink()
    if damage == "no key":
        write_secret(identity, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    elif damage == "of another kind":
        write_secret(identity, key_pem(new_service_key()))
    done = run_trainer(tmp_path, request)
    assert done.returncode == EXIT_REFUSED
    assert "the update cannot be signed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not Path(request.output).exists()


def test_an_update_that_cannot_be_kept_is_told(
    request_of_an_enrolled_device: TrainRequest, tmp_path: Path
) -> None:
    request = request_of_an_enrolled_device
    Path(request.output).parent.rmdir()
    Path(request.output).parent.write_bytes(b"")  # a file where a folder is to be
    request = replace(request, lost=str(tmp_path / "lost"))
    done = run_trainer(tmp_path, request)
    assert done.returncode == EXIT_REFUSED
    assert "the update cannot be signed" in done.stderr.splitlines()[-1]


def test_only_updates_are_signed(
    request_of_an_enrolled_device: TrainRequest, tmp_path: Path
) -> None:
    unsigned, output = tmp_path / "made.head", tmp_path / "outbox" / "update.head"
    save_message(unsigned, Failure(job="job", round_id=1, reason="x"), NO_BODY)
    done = signing(unsigned, output, request_of_an_enrolled_device, "edge_client.identity.sign")
    assert done.returncode == EXIT_REFUSED
    assert "a Failure in place of an update" in done.stderr
    assert not output.exists()


def test_signing_takes_less_memory_than_any_training_is_foretold_to(
    request_of_an_enrolled_device: TrainRequest, tmp_path: Path
) -> None:
    """A trainer's forecast begins at what its interpreter takes before there is a plan.

    And it does not grow with the update: its values are not read.
    """
    for name in ("first", "again"):  # the first process compiles the modules, in its memory
        foretold = calibrate(tmp_path / name, Job(plan=PLANS["digits"](), batch_size=4))
    peaks = []
    for size in (1_000, 20_000_000):
        part = Part(name="values", codec="f32", size=size)
        update = replace(some_update(), parts=(part,))
        body = Bytes(bytes(size))
        save_message(tmp_path / "made.head", update, body)
        output = tmp_path / "outbox" / "update.head"
        for _ in range(2):
            save_message(tmp_path / "made.head", update, body)
            done = signing(tmp_path / "made.head", output, request_of_an_enrolled_device, "")
            assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert max(peaks) < foretold.baseline_bytes, (peaks, foretold.baseline_bytes)
    assert abs(peaks[1] - peaks[0]) < MB


def some_update() -> Update:
    return Update(
        job="job", round_id=1, stage=Stage.TRAIN, level=0.2, num_examples=15,
        mask_digest="ab" * 32, parts=(),
    )  # fmt: skip


def signing(
    unsigned: Path, output: Path, request: TrainRequest, module: str
) -> subprocess.CompletedProcess[str]:
    """The process that signs; without a module it prints its peak memory afterwards."""
    program = ["-m", module] if module else ["-c", PEAK]
    arguments = [str(unsigned), str(output), request.identity, request.topic]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT,
    )  # fmt: skip
