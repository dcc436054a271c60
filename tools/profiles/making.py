"""From what a board said of itself to its profile: every figure measured, the unknown left out."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from edge_client.probe.measured import DENSITY
from fedsparse.boards import MAX_TEXT, MEASURED, Board, Compute, Figure, Memory, Network, Storage
from fedsparse.errors import ConfigError
from tools.profiles.document import Section

MIB: Final = 2**20
MHZ: Final = 1e6
DIGITS: Final = 4  # more of a measured rate are noise
FIRST_DAY: Final = date(2000, 1, 1)  # a clock that was never set is before it
ZONES: Final = timedelta(days=1)  # where the board is, it may be tomorrow already
# How the reasons begin that a board gives for what it does not know, of what a profile can hold.
OF_PROFILES: Final = ("board", "clock", "memory", "kernel speed", "writing", "link")
SYSTEM: Final = "system"  # what sets the memory of a board that nothing else limits


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBoard:
    """A profile, and what its reader should know of it.

    Attributes:
        notes: sentences: what was unknown, what limited the board while it was measured.
    """

    board: Board
    notes: tuple[str, ...]


def make_board(document: Section, today: date, *, name: str = "", day: str = "") -> MadeBoard:
    """Make a profile of what `edge-client profile --json` measured.

    Args:
        document: of the board.
        today: here.
        name: of the profile; by default from the board's model.
        day: when it was measured, `YYYY-MM-DD`; by default as the document says.

    Raises:
        ConfigError: a figure is absurd, or one without which there is no profile is unknown.
    """
    machine = document.section("board")
    if machine.flag("emulated"):
        raise ConfigError(
            f"{document.where}: a program plays this board's processor: what is measured there "
            "says nothing of the board"
        )
    model = machine.text("model")
    title = model or f"unnamed {document.text('architecture') or 'machine'}"
    maker = _FigureMaker(
        where=document.where,
        model=title,
        date=day or _measured_on(document, today),
    )
    try:
        board = Board(
            name=name or _name(document, model),
            title=title[:MAX_TEXT],
            cpu=_cpu(document)[:MAX_TEXT],
            cores=maker.needed("cores", _cores(document), "processors that it may use"),
            memory=_memory(document, maker),
            compute=_compute(document, maker),
            storage=Storage(
                write_bytes_per_s=maker.rate(document.section("storage"), "write_bytes_per_s")
            ),
            network=_network(document.section("link"), maker),
        )
    except ValueError as error:
        raise ConfigError(f"{document.where}: {error}") from error
    notes = (*_circumstances(document), *_lacks(board), *_reasons(document))
    return MadeBoard(board=board, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FigureMaker:
    """Figures that say which command measured them, on what, and when."""

    where: str
    model: str
    date: str

    def make(self, key: str, value: float | None, what: str = "") -> Figure | None:
        if value is None:
            return None
        source = f"edge-client profile on {self.model}"
        try:
            return Figure(
                value=value,
                basis=MEASURED,
                source=f"{source}: {what}" if what else source,
                date=self.date,
            )
        except ValueError as error:
            raise ConfigError(f"{self.where}: {key}: {error}") from error

    def needed(self, key: str, value: float | None, what: str) -> Figure:
        figure = self.make(key, value, what)
        if figure is None:
            raise ConfigError(f"{self.where}: {key} is unknown: without it there is no profile")
        return figure

    def rate(self, section: Section, key: str, what: str = "") -> Figure | None:
        value = section.number(key)
        return self.make(key, None if value is None else _rounded(value), what)


def _measured_on(document: Section, today: date) -> str:
    """The day that the board's clock said: boards without a battery may not know it."""
    text = document.text("measured_at") or "nothing"
    try:
        day = date.fromisoformat(text[: len("2026-11-23")])
    except ValueError:
        day = date.min
    if not FIRST_DAY <= day <= today + ZONES:
        raise ConfigError(
            f"{document.where}: measured_at says {text}, which cannot be: was the board's clock "
            "not set? Give the day with --date"
        )
    return day.isoformat()


def _name(document: Section, model: str | None) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", (model or "").lower()).strip("-")[:48].rstrip("-")
    if not slug:
        raise ConfigError(f"{document.where}: the board does not name itself; give it a --name")
    return slug


def _cpu(document: Section) -> str:
    """Cores and clocks in words: `4x Cortex-A72, 1.8 GHz`."""
    kinds = []
    for cluster in document.section("cores").sections("clusters"):
        cpus = cluster.values.get("cpus")
        count = f"{len(cpus)}x " if isinstance(cpus, list) else ""
        mhz = cluster.number("max_mhz")
        clock = "" if mhz is None else f", {mhz / 1e3:.3g} GHz"
        kinds.append(f"{count}{cluster.text('part') or 'unknown core'}{clock}")
    return " + ".join(kinds) or document.text("architecture") or "unknown"


def _cores(document: Section) -> float | None:
    cores = document.section("cores")
    usable = cores.number("usable")
    return cores.number("present") if usable is None else usable


def _memory(document: Section, maker: _FigureMaker) -> Memory:
    memory, bandwidth = document.section("memory"), document.section("memory_bandwidth")
    limit = memory.text("source") or SYSTEM
    what = "as the system says" if limit == SYSTEM else f"as limited by {limit}"
    available = _mib(memory.number("available_bytes"))
    return Memory(
        total_mib=maker.needed("memory: total_bytes", _mib(memory.number("total_bytes")), what),
        available_mib=maker.make("memory: available_bytes", available, what),
        memcpy_bytes_per_s=maker.rate(bandwidth, "copy_bytes_per_s"),
        memset_bytes_per_s=maker.rate(bandwidth, "set_bytes_per_s"),
    )


def _compute(document: Section, maker: _FigureMaker) -> Compute:
    """The geometric mean over models, as a host that emulates the board is measured."""
    rows = [row for row in document.sections("kernel_speed") if row.number("density") == DENSITY]
    known = [rate for row in rows if (rate := row.number("multiply_adds_per_s")) is not None]
    if any(rate <= 0 for rate in known):
        raise ConfigError(f"{document.where}: kernel_speed: a rate is not positive")
    return Compute(
        multiply_adds_per_s=maker.make(
            "kernel_speed",
            _rounded(statistics.geometric_mean(known)) if known else None,
            f"geometric mean of {len(known)} models at density {DENSITY:g}, one thread",
        ),
        clock_hz=maker.make("max_mhz", _clock_hz(document), "the highest that the kernel allows"),
    )


def _clock_hz(document: Section) -> float | None:
    """Of the slowest kind of core, at which all of them run."""
    clusters = document.section("cores").sections("clusters")
    clocks = [mhz for one in clusters if (mhz := one.number("max_mhz")) is not None]
    return min(clocks) * MHZ if clocks else None


def _network(link: Section, maker: _FigureMaker) -> Network:
    transfers = link.number("transfers")
    what = "" if transfers is None else f"median of {transfers:g} transfers"
    return Network(
        up_bytes_per_s=maker.rate(link, "up_bytes_per_s", what),
        down_bytes_per_s=maker.rate(link, "down_bytes_per_s", what),
    )


def _circumstances(document: Section) -> list[str]:
    """What kept the board from its best while it was measured."""
    notes = []
    cores, memory = document.section("cores"), document.section("memory")
    present, usable, quota = (cores.number(key) for key in ("present", "usable", "quota"))
    if present is not None and usable is not None and usable < present:
        notes.append(f"{usable:g} of {present:g} cores were usable")
    if quota is not None and usable is not None and quota < usable:
        notes.append(f"a quota of {quota:g} processors was in force")
    if (source := memory.text("source") or SYSTEM) != SYSTEM:
        notes.append(f"memory was limited by {source}")
    heat = document.section("heat")
    if heat.flag("throttled"):
        why = ", ".join(heat.texts("reasons")) or "for reasons unknown"
        notes.append(f"the processor was slowed down meanwhile ({why})")
    return notes


def _reasons(document: Section) -> list[str]:
    """Why the board did not know what a profile has room for."""
    reasons = document.texts("unknown")
    return [f"the board says: {reason}" for reason in reasons if reason.startswith(OF_PROFILES)]


def _lacks(board: Board) -> list[str]:
    """What the probe did not know, of what a profile can say of a measured board."""
    wanted = {
        "memory.available_mib": board.memory.available_mib,
        "memory.memcpy_bytes_per_s": board.memory.memcpy_bytes_per_s,
        "compute.multiply_adds_per_s": board.compute.multiply_adds_per_s,
        "storage.write_bytes_per_s": board.storage.write_bytes_per_s,
        "network.up_bytes_per_s": board.network.up_bytes_per_s,
        "network.down_bytes_per_s": board.network.down_bytes_per_s,
    }
    missing = [key for key, figure in wanted.items() if figure is None]
    notes = [f"unknown and left out: {', '.join(missing)}"] if missing else []
    if board.memory.available_mib is None or board.speed is None:
        notes.append("without available memory and speed, the board cannot be emulated")
    return notes


def _mib(size_bytes: float | None) -> float | None:
    return None if size_bytes is None else float(int(size_bytes / MIB))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")
