"""Messages to headers and back (docs/wire.md, section 3).

The fields of a message class are the contract: their names map to the short keys of `KEYS`, their
type hints to CBOR types. A field that equals its default is left out; unknown keys are ignored.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from fedsparse.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from fedsparse.wire.frame import Absent, Frame, decode_frame, encode_frame, encode_head
from fedsparse.wire.messages import (
    Evaluation,
    Failure,
    LastDecision,
    Message,
    Need,
    Offer,
    Part,
    Ready,
    Receipt,
    Status,
    Task,
    Update,
    is_digest,
)

T = TypeVar("T")
Convert = Callable[[Any], Any]

KINDS: Final[dict[int, type[Message]]] = {
    kind.KIND: kind for kind in (Status, Offer, Ready, Task, Update, Failure, Receipt, Need)
}

KEYS: Final = {
    # which round of which job
    "job": "j", "round_id": "r", "attempt": "a", "stage": "s", "seconds_left": "t",
    # which model, which mask
    "plan_digest": "pd", "mask_digest": "md", "mask_digests": "ms", "held": "hd", "level": "l",
    "levels": "ls", "kept": "k", "parts": "p",
    # a device and its choice
    "device": "d", "online": "on", "board": "bo", "version": "v", "session": "se", "decision": "dc",
    "has_plan": "hp", "num_examples": "n", "engine": "en", "reason": "re",
    "predicted_peak_bytes": "pp", "memory_budget_bytes": "mb", "predicted_round_s": "pr",
    # how to train
    "seed": "sd", "epochs": "e", "batch_size": "b", "learning_rate": "lr", "momentum": "mo",
    "weight_decay": "wd", "evolve": "ev", "evaluate": "el", "prune_rate": "q",
    "power": "pw", "probe": "po", "steps": "ns",
    "values_codec": "vc", "down_codec": "cd", "up_codec": "cu", "error_feedback": "ef",
    # what came of it
    "loss": "lo", "evaluation": "x", "step_ms": "st", "train_s": "tt", "trainer_s": "tr",
    "peak_rss_bytes": "pk", "agent_rss_bytes": "ar", "update_digest": "ud", "verdict": "vd",
    # who says so
    "run": "ru", "signer": "ky", "signature": "sg",
    # what is missing
    "what": "w", "transfer": "id", "first": "f", "missing": "mi",
    # a part
    "name": "na", "codec": "c", "size": "z", "base": "ba",
    # an evaluation
    "correct": "co", "count": "ct", "loss_sum": "lm",
}  # fmt: skip

DIGESTS: Final = frozenset(  # hexadecimal in a message, 32 raw bytes (or none) in a header
    {"plan_digest", "mask_digest", "mask_digests", "held", "update_digest", "base", "transfer"}
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    key: str
    default: Any
    write: Convert
    read: Convert


def encode_message(message: Message, body: bytes | memoryview = b"") -> bytes:
    """A message and the bytes of its parts as one frame.

    Raises:
        LocalProtocolError: the parts and the body do not fit, or the header grew too large.
    """
    return encode_frame(message.KIND, _checked_header(message, len(body)), body)


def encode_message_head(message: Message, absent: Absent) -> bytes:
    """A message whose body comes apart, as a head.

    Raises:
        LocalProtocolError: the parts and the body do not fit, or the header grew too large.
    """
    return encode_head(message.KIND, _checked_header(message, absent.size), absent)


def decode_message(data: bytes | memoryview) -> tuple[Message, memoryview]:
    """A whole frame as its message and its body (not copied).

    Raises:
        RemoteProtocolError: whatever is wrong with it.
    """
    message, body = decode_envelope(data)
    if isinstance(body, Absent):
        raise RemoteProtocolError(f"a {type(message).__name__} without its body")
    return message, body


def decode_envelope(data: bytes | memoryview) -> tuple[Message, memoryview | Absent]:
    """A frame as its message and its body (not copied), or what is said of a body that is not here.

    Raises:
        RemoteProtocolError: whatever is wrong with it.
    """
    frame = decode_frame(data)
    return read_message(frame), frame.absent or frame.body


def read_message(frame: Frame) -> Message:
    """The message that is a frame's header.

    Raises:
        RemoteProtocolError: whatever is wrong with it.
    """
    if frame.kind not in KINDS:
        raise RemoteProtocolError(f"no message has the kind {frame.kind}")
    message = from_header(KINDS[frame.kind], frame.header)
    size = frame.absent.size if frame.absent is not None else len(frame.body)
    if complaint := _parts_complaint(parts_of(message), size):
        raise RemoteProtocolError(f"{type(message).__name__}: {complaint}")
    return message


def split_parts(
    parts: tuple[Part, ...], body: memoryview | bytes
) -> dict[str, tuple[Part, memoryview]]:
    """The pieces of a message's body by name (not copied).

    Raises:
        RemoteProtocolError: parts and body do not fit; `decode_message` has checked that already.
    """
    if complaint := _parts_complaint(parts, len(body)):
        raise RemoteProtocolError(complaint)
    view, pieces, offset = memoryview(body), {}, 0
    for part in parts:
        pieces[part.name] = (part, view[offset : offset + part.size])
        offset += part.size
    return pieces


def parts_of(message: Message) -> tuple[Part, ...]:
    """The parts of a message; most kinds have none."""
    return message.parts if isinstance(message, Task | Update) else ()


def to_header(message: Message) -> dict[str, Any]:
    """The header's map of a message."""
    return _write(message)


def from_header(kind: type[T], header: Mapping[str, Any]) -> T:
    """Build a message from a header's map.

    Raises:
        RemoteProtocolError: a field is missing, mistyped or out of range; it is named.
    """
    values: dict[str, Any] = {}
    for field in _FIELDS[kind]:
        if field.key in header:
            try:
                values[field.name] = field.read(header[field.key])
            except RemoteProtocolError as error:
                raise RemoteProtocolError(f"{kind.__name__}.{field.name}: {error}") from error
        elif field.default is dataclasses.MISSING:
            raise RemoteProtocolError(f"{kind.__name__} without '{field.name}' ({field.key})")
    try:
        return kind(**values)
    except ProtocolError as error:
        raise RemoteProtocolError(f"{kind.__name__}: {error}") from error


def _checked_header(message: Message, size: int) -> dict[str, Any]:
    if complaint := _parts_complaint(parts_of(message), size):
        raise LocalProtocolError(f"{type(message).__name__}: {complaint}")
    return to_header(message)


def _parts_complaint(parts: tuple[Part, ...], size: int) -> str:
    if len({part.name for part in parts}) != len(parts):
        return "two parts of one name"
    if (total := sum(part.size for part in parts)) != size:
        return f"parts of {total} bytes in a body of {size}"
    return ""


def _write(value: Any) -> dict[str, Any]:  # noqa: ANN401
    header = {}
    for field in _FIELDS[type(value)]:
        content = getattr(value, field.name)
        if field.default is dataclasses.MISSING or content != field.default:
            header[field.key] = field.write(content)
    return header


def _scalar(kind: type) -> Convert:
    def read(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not kind:
            raise RemoteProtocolError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return read


def _read_digest(value: Any) -> str:  # noqa: ANN401
    if type(value) is not bytes or len(value) not in (0, 32):
        raise RemoteProtocolError("expected the 32 bytes of a SHA-256, or none")
    return value.hex()


def _write_digest(text: str) -> bytes:
    if text and not is_digest(text):
        raise LocalProtocolError(f"{text!r} is no SHA-256")
    return bytes.fromhex(text)


def _enumeration(kind: type[Enum]) -> Convert:
    def read(value: Any) -> Enum:  # noqa: ANN401
        try:
            return kind(_scalar(str)(value))
        except ValueError as error:
            raise RemoteProtocolError(f"no {kind.__name__} is called {value[:32]!r}") from error

    return read


def _sequence(read_item: Convert) -> Convert:
    def read(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
        if type(value) is not list:
            raise RemoteProtocolError(f"expected an array, got {type(value).__name__}")
        return tuple(map(read_item, value))

    return read


def _nested(kind: type[Any]) -> Convert:
    def read(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not dict:
            raise RemoteProtocolError(f"expected a map, got {type(value).__name__}")
        return from_header(kind, value)

    return read


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _converters(hint: Any, *, digest: bool) -> tuple[Convert, Convert]:  # noqa: ANN401
    """How a value of this type is written, and how it is read and checked."""
    if typing.get_origin(hint) is types.UnionType:
        write, read = _converters(typing.get_args(hint)[0], digest=digest)
        return _optional(write), _optional(read)
    if typing.get_origin(hint) is tuple:
        write, read = _converters(typing.get_args(hint)[0], digest=digest)
        return lambda values: [write(value) for value in values], _sequence(read)
    if digest:
        return _write_digest, _read_digest
    if dataclasses.is_dataclass(hint):
        return _write, _nested(typing.cast("type[Any]", hint))
    if issubclass(hint, Enum):
        return lambda value: value.value, _enumeration(hint)
    return lambda value: value, _scalar(hint)


def _fields(kind: type[Any]) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(kind)
    fields = []
    for field in dataclasses.fields(kind):
        write, read = _converters(hints[field.name], digest=field.name in DIGESTS)
        fields.append(
            _Field(name=field.name, key=KEYS[field.name], default=field.default,
                   write=write, read=read)
        )  # fmt: skip
    return tuple(fields)


_FIELDS: Final[dict[type[Any], tuple[_Field, ...]]] = {
    kind: _fields(kind) for kind in (*KINDS.values(), Part, Evaluation, LastDecision)
}
