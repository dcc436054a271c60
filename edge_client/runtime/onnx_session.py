"""onnxruntime with little memory, and its errors as ours; nothing else imports it on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedsparse.errors import EngineError

FATAL_ONLY: Final = 4  # the rest comes as exceptions

Array = npt.NDArray[Any]


class OnnxSession:
    """One model, run node by node in the order of its file.

    The file's order frees what it can as it goes, and it is what the gateway priced: neither
    optimisers nor a plan of reused buffers may change it. What is freed goes to an arena that lives
    as long as the session; the C library's own heap would keep three times as much in fragments.

    Args:
        model: serialised ONNX.
        threads: of one operator; they sleep while there is nothing to do.

    Raises:
        EngineError: onnxruntime is not installed, or refuses the model.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.enable_mem_pattern = options.enable_mem_reuse = False
        options.log_severity_level = FATAL_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own exceptions share no base class
            raise EngineError(
                f"onnxruntime cannot open the training graph: {_first_line(error)}"
            ) from error
        self.inputs = {item.name: (item.type, item.shape) for item in self._session.get_inputs()}
        self.outputs = tuple(item.name for item in self._session.get_outputs())

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> dict[str, Array]:
        """The named outputs; contiguous inputs are read where they are, outputs are copied.

        Raises:
            EngineError: the model fails, or memory runs out.
        """
        try:
            found = self._session.run(list(names), dict(feed))
        except Exception as error:
            raise EngineError(f"the training graph failed: {_first_line(error)}") from error
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}


def load_onnxruntime() -> Any:  # noqa: ANN401 - it has no types
    """The package; raises `EngineError` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            "the graph engine needs onnxruntime: pip install 'fedsparse[onnx]'"
        ) from error
    return onnxruntime


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
