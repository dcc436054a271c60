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
    "the fixture `device` needs to know the board; mark the test with "
    '@pytest.mark.device("raspberry-pi-zero-2w")'
)
NO_FIXTURE: Final = "it does nothing without the fixture `device`: take it as an argument"
MISSING: Final = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", DESCRIPTION)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Read a test's mark when it is collected: a board that nobody knows is a mistake."""
    marker = metafunc.definition.get_closest_marker(MARK)
    if marker is None:
        return
    if _uses_our_fixture(metafunc.definition):
        try:
            _read(marker)
        except ValueError as error:
            raise pytest.Collector.CollectError(_told(metafunc.definition, error)) from error
    elif _names_a_board(marker) and not _has_fixture(metafunc.definition):
        raise pytest.Collector.CollectError(_told(metafunc.definition, NO_FIXTURE))


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

    marker = request.node.get_closest_marker(MARK)
    if marker is None:
        pytest.fail(_told(request.node, NO_MARK), pytrace=False)
    try:
        mark = _read(marker)  # a single parameter's mark is not read before
        place = mark.open()
    except (FedSparseError, ValueError) as error:
        pytest.fail(_told(request.node, error), pytrace=False)
    with place:
        missing = mark.missing(place)
        if missing is not None:
            request.node.stash[MISSING] = missing
        yield Device(board=mark.board, place=place)


def _read(marker: pytest.Mark) -> Mark:
    """What a mark asks for.

    Raises:
        ValueError: it cannot be; the message says why.
    """
    from edge_client.emulation.device import Mark
    from fedsparse.errors import FedSparseError

    try:
        return Mark.read(*marker.args, **marker.kwargs)
    except (FedSparseError, TypeError) as error:
        raise ValueError(str(error)) from error


def _told(item: pytest.Item, what: object) -> str:
    return f"{item.nodeid}: @pytest.mark.device: {what}"


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
