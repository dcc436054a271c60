"""A job's files, and what the gateway's doctor says."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from fedsparse.plan.builder import PlanBuilder
from tools.cli import app


class Report:
    """What a doctor said."""

    def __init__(self, code: int, text: str) -> None:
        document = json.loads(text)
        self.code, self.checks = code, document["checks"]
        assert document["exit_code"] == code

    def all(self, name: str) -> list[dict[str, str]]:
        return [one for one in self.checks if one["name"] == name]

    def says(self, name: str, verdict: str, value: str, fix: str = "", *, at: int = 0) -> None:
        """Whether a check has this verdict, and these parts in its value and its fix."""
        found = self.all(name)[at]
        assert found["verdict"] == verdict, found
        assert value in found["value"]
        assert fix in found["fix"]
        assert bool(found["fix"]) == (verdict != "ok")


def write_job(folder: Path, *, site: str = "lab", more: str = "") -> Path:
    """A job with its plan; `more` goes behind the keys."""
    builder = PlanBuilder("p", (4,))
    builder.linear("last", 3)
    (folder / "plan.json").write_text(builder.build().to_json())
    path = folder / "job.toml"
    path.write_text(
        f'name = "digits"\nsite = "{site}"\nplan = "plan.json"\noutput = "job"\nrounds = 2\n{more}'
    )
    return path


def examined(place: Path) -> Report:
    result = CliRunner().invoke(app, ["doctor", str(place), "--json"], catch_exceptions=False)
    return Report(result.exit_code, result.stdout)
