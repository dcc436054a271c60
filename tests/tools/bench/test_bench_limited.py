"""`fedsparse bench limited`: a large model in little memory."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from edge_client.bench.case import Case, kept_at
from fedsparse.errors import EngineError
from fedsparse.plan.finding import find_plan
from tools.bench.limited import fitting_case, run_limited
from tools.cli import app

MB = 10**6
RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def resnet(density: float) -> Case:
    return Case(kept=kept_at(find_plan("resnet"), density), batch_size=32)


def test_less_memory_means_smaller_micro_batches() -> None:
    plan = find_plan("resnet")
    sizes = [
        fitting_case(plan, resnet(0.1), limit)[0].micro_batch
        for limit in (200 * MB, 70 * MB, 55 * MB)
    ]
    assert sizes[0] == 32
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_a_limit_that_nothing_fits_is_refused_with_the_figures() -> None:
    with pytest.raises(EngineError, match=r"needs \d+ MB .* the limit is 20 MB: lower the density"):
        fitting_case(find_plan("resnet"), resnet(0.1), 20 * MB)


def test_training_in_micro_batches_stays_within_what_was_predicted() -> None:
    plan = find_plan("resnet")
    result = run_limited("resnet", plan, resnet(0.1), 60 * MB, steps=1)
    assert result.micro_batch < 32
    assert result.predicted_mb <= result.limit_mb == 60
    if result.group_peak_mb is not None:
        assert result.group_peak_mb <= 60
    assert result.peak_rss_mb <= 1.1 * result.predicted_mb  # libraries of others count, too


@pytest.mark.e2e
def test_resnet18_trains_at_density_0_05_in_512_megabytes() -> None:
    result = RUNNER.invoke(app, ["bench", "limited", "resnet18", "--steps", "3", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["parameters"] > 11_000_000
    assert (figures["batch_size"], figures["density"]) == (32, pytest.approx(0.05, rel=1e-3))
    assert figures["peak_rss_mb"] < 512
    assert (figures["group_peak_mb"] or 0) < 512
