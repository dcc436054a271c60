"""Every error that fedsparse raises on purpose.

FedSparseError               caught at a process boundary, nowhere else
├── ConfigError              a file of the user is invalid; names the file, the key and the way out
├── DataError                samples are missing, of the wrong shape, or out of range
├── PlanError                a model cannot be planned: an operator, a shape, a cycle
├── EngineError              a training engine cannot run, or training diverged
├── TransportError           the broker cannot be reached or refuses us
├── StoreError               the fleet's store cannot be read or written; says what to do
└── ProtocolError            a message broke the wire contract
    ├── RemoteProtocolError  the peer broke it: drop, count, keep running
    └── LocalProtocolError   we were about to break it: a bug here, fail loudly
"""


class FedSparseError(Exception):
    """Root: caught at a process boundary, nowhere else."""


class ConfigError(FedSparseError):
    """A file is invalid; the message names file, key and what to do."""


class DataError(FedSparseError):
    """Samples are missing, of the wrong shape, or out of range."""


class PlanError(FedSparseError):
    """A model cannot be planned; the message names the node."""


class EngineError(FedSparseError):
    """A training engine cannot run, or the training diverged."""


class TransportError(FedSparseError):
    """The broker cannot be reached, or it refuses us."""


class StoreError(FedSparseError):
    """The fleet's store cannot be read or written; the message says what to do."""


class ProtocolError(FedSparseError):
    """A message broke the wire contract."""


class RemoteProtocolError(ProtocolError):
    """The peer broke it: drop, count, keep running."""


class LocalProtocolError(ProtocolError):
    """We were about to break it: a bug here, fail loudly."""
