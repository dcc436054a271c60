"""`python -m tools.bench.graph_export FOLDER...`: the training graph of cases of one plan.

A process of its own: torch is neither in the memory of the workers nor in that of their driver.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aggregator.models.training_graph import plan_graph
from edge_client.bench.case import GRAPH_FILE, read_case


def export(folders: list[Path]) -> None:
    """Export once and write the file into each folder."""
    plan, _ = read_case(folders[0])
    data = plan_graph(plan).to_bytes()
    for folder in folders:
        (folder / GRAPH_FILE).write_bytes(data)


if __name__ == "__main__":
    export([Path(argument) for argument in sys.argv[1:]])
