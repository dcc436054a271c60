"""The pytest plugin: `@pytest.mark.device("raspberry-pi-zero-2w")` and the fixture `device`.

It costs nothing where no test has the mark: what emulates is imported with the first that has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from edge_client.emulation.device import Device, Mark

MARK: Final = "device"
DESCRIPTION: Final = (
    "device(board, *, require=(), scale=1.0, cores=1, memory=..., cpu=..., link=...): the fixture "
    "`device` of this test has the means of a board, by its name or the path of its profile; "
    'require="cgroup" (or "namespace") fails the test where that cannot be had (docs/emulation.md)'
)
NO_MARK: Final = (
    '{}: the fixture `device` needs to know the board: @pytest.mark.device("raspberry-pi-zero-2w")'
)
NO_FIXTURE: Final = (
    "{}: the mark `device` does nothing for a test without the fixture `device`: take it as an "
    "argument"
)
MARKS: Final = pytest.StashKey["Mark"]()
MISSING: Final = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", DESCRIPTION)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Read all marks before the first test runs: a board that nobody knows is a mistake."""
    for item in items:
        marker = item.get_closest_marker(MARK)
        if _uses_our_fixture(item):
            if marker is None:
                raise pytest.UsageError(NO_MARK.format(item.nodeid))
            item.stash[MARKS] = _read(item, marker)
        elif marker is not None and _names_a_board(marker) and not _has_fixture(item):
            raise pytest.UsageError(NO_FIXTURE.format(item.nodeid))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """A mechanism that a test requires and this machine lacks makes it fail, not skip."""
    missing = item.stash.get(MISSING, None)
    if missing is not None:
        pytest.fail(missing, pytrace=False)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A board of the mark `device`: run commands in it, see what they take and what held them."""
    from edge_client.emulation.device import Device
    from fedsparse.errors import FedSparseError

    mark = request.node.stash[MARKS]
    try:
        place = mark.open()
    except FedSparseError as error:
        pytest.fail(str(error), pytrace=False)
    with place:
        missing = mark.missing(place)
        if missing is not None:
            request.node.stash[MISSING] = missing
        yield Device(board=mark.board, place=place)


def _read(item: pytest.Item, marker: pytest.Mark) -> Mark:
    from edge_client.emulation.device import Mark
    from fedsparse.errors import FedSparseError

    try:
        return Mark.read(*marker.args, **marker.kwargs)
    except (FedSparseError, TypeError, ValueError) as error:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.device: {error}") from error


def _has_fixture(item: pytest.Item) -> bool:
    return "device" in getattr(item, "fixturenames", ())


def _uses_our_fixture(item: pytest.Item) -> bool:
    """Whether it is this plugin's: many a project has a fixture `device` of its own."""
    if not isinstance(item, pytest.Function) or not _has_fixture(item):
        return False
    definitions = item._fixtureinfo.name2fixturedefs.get("device", ())
    return bool(definitions) and definitions[-1].func.__module__ == __name__


def _names_a_board(marker: pytest.Mark) -> bool:
    """Whether the mark is meant for us: other projects may have one of this name."""
    from fedsparse.boards import board_names

    return bool(marker.args) and marker.args[0] in board_names()
