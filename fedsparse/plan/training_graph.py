"""The file of a training graph: two ONNX models, and what a device must know before it opens them.

A JSON line, then both models deflated. The device reads the line without numpy or onnxruntime; its
budget prices the model from it. The SHA-256 of the whole file is the graph's digest.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field, fields
from typing import Any, Final

from fedsparse.errors import EngineError

FORMAT: Final = "fedsparse.graph"
VERSION: Final = 1
MAX_HEADER_BYTES: Final = 1 << 20
MAX_MODEL_BYTES: Final = 256 << 20

Line = tuple[int, int]  # bytes of a batch: the first, plus the second for each sample


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingGraph:
    """One training step and the inference of a model, as ONNX of standard operators (opset 18).

    `training`: inputs `samples` float32, `targets`, every tensor under its name, `draw:<i>`
    `(batch, draws[i])` uniform in [0, 1), `kept:<name>` int32 `(nnz,)` into each flat prunable
    tensor. Outputs `loss` (mean over the batch), `gradient:<name>` of every trained tensor
    (`(nnz,)` of a prunable one), `new:<name>` of running statistics.
    `inference`: inputs `samples` and the tensors; output `outputs` `(batch, outputs)`.

    Attributes:
        tensors: names of all tensors that are inputs, as in the plan.
        prunable: those that masks apply to, in plan order.
        draws: random numbers that each dropout takes for one sample.
        least_batch: 2 where a batch-norm needs two samples at least, else 1.
        multiply_adds: of one sample's training step, forward and backward.
        live_bytes: what is alive at the worst moment of a training step, as the largest of these
            lines; inputs and outputs are not part of it.
        inference_bytes: likewise of inference.
        nodes: of the training model.
        training, inference: the models.
        digest: SHA-256 of the file, hexadecimal.
    """

    tensors: tuple[str, ...]
    prunable: tuple[str, ...]
    draws: tuple[int, ...]
    least_batch: int
    multiply_adds: int
    live_bytes: tuple[Line, ...]
    inference_bytes: tuple[Line, ...]
    nodes: int
    training: bytes = field(repr=False)
    inference: bytes = field(repr=False)
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.to_bytes()).hexdigest())

    def to_bytes(self) -> bytes:
        """The file; the same graph always gives the same bytes."""
        parts = [zlib.compress(model, 9) for model in (self.training, self.inference)]
        header = {
            "format": FORMAT,
            "version": VERSION,
            "sizes": [[len(self.training), len(parts[0])], [len(self.inference), len(parts[1])]],
            **{name: getattr(self, name) for name in _DESCRIBED},
        }
        line = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
        return b"".join([line, b"\n", *parts])

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainingGraph:
        """Read a file; raises `EngineError` where it is damaged."""
        line, newline, body = data[: MAX_HEADER_BYTES + 1].partition(b"\n")
        try:
            header = json.loads(line) if newline else None
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise EngineError("not a training graph, or a damaged one: ask for it again")
        if header.get("version") != VERSION:
            raise EngineError(
                f"training graph version {header.get('version')!r}: this build reads {VERSION}"
            )
        try:
            body = data[len(line) + 1 :]
            described = {name: _parsed(name, header[name]) for name in _DESCRIBED}
            training, inference = _models(header["sizes"], body)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise EngineError(f"a damaged training graph ({error}): ask for it again") from error
        return cls(**described, training=training, inference=inference)


def bytes_at(lines: tuple[Line, ...], batch: int) -> int:
    """The largest of the lines at a batch size."""
    return max((fixed + batch * each for fixed, each in lines), default=0)


_DESCRIBED: Final = tuple(
    item.name
    for item in fields(TrainingGraph)
    if item.name not in ("training", "inference", "digest")
)


def _parsed(name: str, value: Any) -> Any:  # noqa: ANN401
    """A field of the header in its own type; raises `ValueError` where it is of another."""
    if name in ("tensors", "prunable"):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif name == "draws":
        if isinstance(value, list) and all(_is_count(item) for item in value):
            return tuple(value)
    elif name in ("live_bytes", "inference_bytes"):
        if isinstance(value, list) and all(_is_line(item) for item in value):
            return tuple((item[0], item[1]) for item in value)
    elif _is_count(value):
        return value
    raise ValueError(f"{name} = {str(value)[:60]}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_line(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(item) for item in value)


def _models(sizes: Any, body: bytes) -> tuple[bytes, bytes]:  # noqa: ANN401
    (first, packed), (second, rest) = sizes
    if not all(_is_count(n) and n <= MAX_MODEL_BYTES for n in (first, packed, second, rest)):
        raise ValueError("sizes out of range")
    if packed + rest != len(body):
        raise ValueError(f"{len(body)} bytes, {packed + rest} announced")
    return _inflated(body[:packed], first), _inflated(body[packed:], second)


def _inflated(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    model = inflater.decompress(data, size)
    if len(model) != size or inflater.unconsumed_tail or not inflater.eof:
        raise ValueError(f"a model of {size} bytes is not there")
    return model
