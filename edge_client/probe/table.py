"""The page of `edge-client profile`: plain text, a fact a line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 100
NAMES: Final = 12  # characters of the first column
UNKNOWN: Final = "unknown"
EMULATED: Final = "EMULATED PROCESSOR: no time below says anything about a board."
GIGA, MEGA = 1e9, 1e6


def page(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a document (edge_client/probe/report.py)."""
    if document["board"]["emulated"]:
        yield EMULATED
    for name, facts in _facts(document):
        for number, fact in enumerate(facts or [UNKNOWN]):
            yield from _wrapped(name if number == 0 else "", fact)


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield "board", [_board(document)]
    yield "system", [f"{document['architecture']}, kernel {document['kernel']}, "
                     f"Python {document['python']}"]  # fmt: skip
    yield "processor", list(_cores(document["cores"]))
    yield "vectors", [" ".join(document["simd"]) or UNKNOWN]
    yield "memory", [_memory(document["memory"])]
    yield "storage", [_storage(document["storage"])]
    yield "network", [_link(document["link"])]
    yield "heat", [_heat(document["heat"])]
    yield "power", [_power(document["power"])]
    yield "bandwidth", [_bandwidth(document["memory_bandwidth"])]
    yield "kernels", list(_kernels(document["kernel_speed"]))
    yield "unknown", list(document["unknown"]) or ["nothing"]
    yield "measured", [_origin(document)]


def _board(document: Mapping[str, Any]) -> str:
    board = document["board"]
    if board["model"] is None:
        return UNKNOWN
    release = f", Jetson Linux {board['jetson_release']}" if board["jetson_release"] else ""
    return f"{board['model']} (named by the {board['source']}){release}"


def _cores(cores: Mapping[str, Any]) -> Iterator[str]:
    quota = "no quota" if cores["quota"] is None else f"quota of {cores['quota']:g} cores"
    yield f"{_or_unknown(cores['present'])} cores, {_or_unknown(cores['usable'])} usable, {quota}"
    for cluster in cores["clusters"]:
        clock = cluster["max_mhz"]
        speed = "clock unknown" if clock is None else f"up to {clock:.0f} MHz"
        yield f"{ranges(cluster['cpus'])}: {cluster['part'] or UNKNOWN}, {speed}"


def _memory(memory: Mapping[str, Any]) -> str:
    swap = f"swap {_bytes(memory['swap_bytes'])}, of zram {_bytes(memory['zram_bytes'])}"
    if memory["total_bytes"] is None:
        return f"{UNKNOWN}; {swap}"
    available, total = _bytes(memory["available_bytes"]), _bytes(memory["total_bytes"])
    return f"{available} of {total} available (limited by: {memory['source']}); {swap}"


def _storage(storage: Mapping[str, Any]) -> str:
    speed = _rate(storage["write_bytes_per_s"])
    written = f" ({_bytes(storage['written_bytes'])} synced)" if speed != UNKNOWN else ""
    return f"{storage['path']}: {_bytes(storage['free_bytes'])} free; writes {speed}{written}"


def _link(link: Mapping[str, Any]) -> str:
    up, down = _rate(link["up_bytes_per_s"]), _rate(link["down_bytes_per_s"])
    return f"up {up}, down {down} (of {link['transfers']} transfers)"


def _heat(heat: Mapping[str, Any]) -> str:
    celsius = heat["celsius"]
    warm = UNKNOWN if celsius is None else f"{celsius:.1f} Celsius ({heat['zone']})"
    words = {None: "slowed down: unknown", True: "SLOWED DOWN", False: "not slowed down"}
    reasons = f" ({'; '.join(heat['reasons'])})" if heat["reasons"] else ""
    return f"{warm}; {words[heat['throttled']]}{reasons}"


def _power(power: Mapping[str, Any]) -> str:
    percent = power["battery_percent"]
    battery = "" if percent is None else f", battery at {percent} %"
    return f"{_or_unknown(power['source'])}{battery}"


def _bandwidth(bandwidth: Mapping[str, Any]) -> str:
    copy, fill = bandwidth["copy_bytes_per_s"], bandwidth["set_bytes_per_s"]
    if copy is None:
        return UNKNOWN
    return f"copy {_rate(copy)}, set {_rate(fill)} (blocks of {_bytes(bandwidth['block_bytes'])})"


def _kernels(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line a model, a column a density."""
    if not rows:
        return
    densities = sorted({row["density"] for row in rows})
    speeds = {(row["model"], row["density"]): row["multiply_adds_per_s"] for row in rows}
    yield _columns("1e9 multiply-adds/s at density", (f"{density:g}" for density in densities))
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = (speeds.get((model, density)) for density in densities)
        yield _columns(model, ("-" if cell is None else f"{cell / GIGA:.3g}" for cell in cells))


def _columns(name: str, cells: Iterable[str]) -> str:
    return " ".join([f"{name:30}", *(f"{cell:>8}" for cell in cells)])


def _origin(document: Mapping[str, Any]) -> str:
    origin = document["origin"]
    what = "kernels, bandwidth and write speed"
    when = f"{document['measured_at']}, earlier" if origin["reused"] else "just now"
    again = "; --again measures anew" if origin["reused"] else ""
    return f"{what}: {when}: {origin['why']}{again}"


def ranges(cpus: Sequence[int]) -> str:
    """Processors as the kernel writes them: `0-3,5`."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts)


def _bytes(size: int | None) -> str:
    if size is None:
        return UNKNOWN
    if size == 0:
        return "0"
    return f"{size / GIGA:.1f} GB" if size >= 10 * GIGA else f"{size / MEGA:.0f} MB"


def _rate(rate: float | None) -> str:
    if rate is None:
        return UNKNOWN
    return f"{rate / GIGA:.1f} GB/s" if rate >= GIGA else f"{rate / MEGA:.3g} MB/s"


def _or_unknown(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def _wrapped(name: str, fact: str) -> Iterator[str]:
    if "  " in fact:  # a row of columns
        yield f"{name:{NAMES}}{fact}"
        return
    blank = " " * NAMES
    yield from textwrap.wrap(
        fact,
        WIDTH,
        initial_indent=f"{name:{NAMES}}",
        subsequent_indent=blank,
        break_long_words=False,
        break_on_hyphens=False,
    )
