"""The report's headline figures and its table of devices, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from tools.demo.charts import kilobytes
from tools.demo.state import level_key, score_texts


def tiles(summary: dict[str, Any]) -> str:
    """The headline figures."""
    devices = summary["devices"]
    scores = list(score_texts(summary["accuracy"], summary["test_loss"]).items())
    name = "accuracy, " if summary["accuracy"] else ""
    cells = [
        (f"Density {level}", text, f"{name}{_kept(summary, level)}")
        for level, text in scores[:1] + scores[1:][-1:]  # the largest and the smallest
    ]
    peak = max((one["peak_rss_mb"] for one in devices), default=0.0)
    idle = max((one["idle_rss_mb"] for one in devices), default=0.0)
    cells += [
        ("Bytes over MQTT", *_saving(summary)),
        ("Memory of a device", f"{peak:.0f} MB", f"at most, training; idle {idle:.0f} MB"),
        ("Round overhead", f"{summary['round_overhead_s']:.2f} s", "beside training, median"),
        (
            "The whole run",
            f"{summary['wall_s']:.0f} s",
            f"{summary['rounds']} rounds of {summary['round_s']:.1f} s",
        ),
    ]
    return f'<dl class="tiles">{"".join(_tile(*cell) for cell in cells)}</dl>'


def device_table(summary: dict[str, Any], levels: Sequence[str]) -> str:
    """One row a device: what it chose, why, and what it cost."""
    heads = (
        ("Device", ""), ("Density", ""), ("Why", ""), ("Step", "num"), ("Memory", "num"),
        ("Up", "num"), ("Down", "num"), ("Masks", "num"),
    )  # fmt: skip
    head = "".join(f'<th class="{kind}">{name}</th>' for name, kind in heads)
    order = sorted(summary["devices"], key=lambda one: (one["level"] or 0, one["id"]))
    rows = "".join(_device_row(one, levels) for one in order)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _device_row(device: dict[str, Any], levels: Sequence[str]) -> str:
    note = f'<span class="small">{escape(device["note"])}</span>' if device["note"] else ""
    return (
        f'<tr><td><b>{escape(device["id"])}</b><span class="board">{escape(device["profile"])}'
        f"</span>{note}</td><td>{_chip(device['level'], levels)}"
        f'<span class="small">{escape(device["engine"])}</span></td>'
        f'<td class="why">{escape(device["why"])}</td>'
        f'<td class="num">{device["step_ms"]:.2f} ms</td>'
        f'<td class="num">{device["peak_rss_mb"]:.0f} MB'
        f'<span class="small">idle {device["idle_rss_mb"]:.0f} MB</span></td>'
        f"{_bytes(device['up_bytes_per_round'], device['up_overhead'])}"
        f"{_bytes(device['down_bytes_per_round'], device['down_overhead'])}"
        f'<td class="num">{kilobytes(device["mask_bytes"])}</td></tr>'
    )


def _chip(level: float | None, levels: Sequence[str]) -> str:
    if level is None:
        return "none"
    key = level_key(level)
    colour = levels.index(key) % 4 if key in levels else 3
    return f'<span class="chip bc{colour}">{key}</span>'


def _bytes(size: int, overhead: float | None) -> str:
    ratio = f'<span class="small">{overhead:.3f} × values</span>' if overhead else ""  # noqa: RUF001
    return f'<td class="num">{kilobytes(size)}{ratio}</td>'


def _tile(name: str, value: str, note: str) -> str:
    return (
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}</dd>'
        f"<p>{escape(note)}</p></div>"
    )


def _kept(summary: dict[str, Any], level: str) -> str:
    kept = round(float(level) * summary["prunable_parameters"])
    dense = summary["dense_parameters"] - summary["prunable_parameters"]
    return f"{(kept + dense) / 1000:,.0f} k of {summary['dense_parameters'] / 1000:,.0f} k weights"


def _saving(summary: dict[str, Any]) -> tuple[str, str]:
    """Dense bytes over those of a device, all in all: with masks, the plan and every message."""
    sent = sum(one["total_bytes"] for one in summary["devices"])
    dense = 2 * summary["dense_bytes"] * summary["device_rounds"]
    if not sent or not dense:
        return "none", "nobody trained"
    return f"1/{dense / sent:.1f}", "of dense float32, masks and all"
