"""One way to run an ONNX model: few threads, no arena that keeps what it once took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import onnxruntime

from fedsparse.errors import EngineError
from fedsparse.types import Float32Array

FATAL_ONLY: Final = 4  # the rest comes as exceptions


def open_session(model: bytes | str, threads: int = 1) -> Any:  # noqa: ANN401 - it has no types
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        model: the serialised model, or the path of a file (which may have external data).
        threads: they sleep while there is nothing to do.

    Raises:
        EngineError: onnxruntime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = FATAL_ONLY
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions share no base class
        raise EngineError(f"onnxruntime cannot run the model: {error}") from error


def run(session: Any, inputs: Mapping[str, Float32Array]) -> Float32Array:  # noqa: ANN401
    """The only output of a session for these inputs.

    Raises:
        EngineError: the inputs do not fit the model.
    """
    try:
        output: Float32Array = session.run(None, dict(inputs))[0]
    except Exception as error:
        raise EngineError(f"onnxruntime cannot run the model: {error}") from error
    return output
