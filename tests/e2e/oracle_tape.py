"""A pytest plugin: the engine's tests where there is no torch.

    pytest -p oracle_tape --record-tape FILE ...   with torch: keep what the oracle answers
    pytest -p oracle_tape --replay-tape FILE ...   without: the oracle answers from the tape

The tests are the same files. On the tape is, for each test, what every `TorchOracle` was asked and
what it said, and the examples that hypothesis tried: the replayed test is given those. The tape
answers only the question that was recorded; one that differs by more than rounding fails, and so
does a test that asks less.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis.errors import HypothesisDeprecationWarning

from edge_client.runtime.native.library import Library

ORACLE_FOLDER = Path(__file__).parents[1] / "edge_client" / "runtime"
SAME = 1e-4  # a question may hold the engine's own results, which differ by rounding


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call of an oracle."""

    method: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    answer: Any = None


@dataclass(slots=True)
class Scene:
    """What one test needs: its oracles' exchanges, in order, and its hypothesis examples."""

    oracles: list[list[bytes]] = field(default_factory=list)
    examples: list[bytes] = field(default_factory=list)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oracle tape")
    group.addoption("--record-tape", type=Path, metavar="FILE")
    group.addoption("--replay-tape", type=Path, metavar="FILE")
    group.addoption("--share", default="0/1", metavar="I/N", help="only every N-th test, from I on")


def pytest_configure(config: pytest.Config) -> None:
    copyreg.pickle(Library, _named)
    record, replay = config.option.record_tape, config.option.replay_tape
    if record:
        config.pluginmanager.register(Recorder(record))
    elif replay:
        config.pluginmanager.register(Player(replay))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    start, step = map(int, config.option.share.split("/"))
    items[:] = items[start::step]


def _named(library: Library) -> tuple[Callable[..., Library], tuple[tuple[str, ...]]]:
    return _library, (library.variants,)


@functools.cache
def _library(variants: tuple[str, ...]) -> Library:
    """Those variants of the kernels, as far as this processor has them."""
    shared = [name for name in variants if name in Library().variants]
    return Library(variant=shared[0]) if len(shared) == len(variants) == 1 else Library()


class Recorder:
    """Notes what the oracle is asked and answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scenes: dict[str, Scene] = {}
        self.scene = Scene()
        sys.path.insert(0, str(ORACLE_FOLDER))
        import torch_oracle

        torch_oracle.TorchOracle = functools.partial(Recorded, self, torch_oracle.TorchOracle)

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[None]:
        self.scene = self.scenes[pyfuncitem.nodeid] = Scene()
        if getattr(pyfuncitem.obj, "is_hypothesis_test", False):
            handle = pyfuncitem.obj.hypothesis
            handle.inner_test = self._noting(handle.inner_test, set(pyfuncitem.funcargs))
        return (yield)

    def _noting(self, test: Callable[..., None], given: set[str]) -> Callable[..., None]:
        @functools.wraps(test)
        def noted(**arguments: Any) -> None:  # noqa: ANN401
            before = len(self.scene.oracles)
            drawn = {name: value for name, value in arguments.items() if name not in given}
            example = pickle.dumps(drawn)
            try:
                test(**arguments)
            except BaseException:  # an assumption that does not hold: no example at all
                del self.scene.oracles[before:]
                raise
            self.scene.examples.append(example)

        return noted

    def pytest_sessionfinish(self) -> None:
        self.path.write_bytes(pickle.dumps(self.scenes))


class Recorded:
    """The real oracle, whose exchanges are noted."""

    def __init__(self, recorder: Recorder, oracle: type, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401
        self._exchanges: list[bytes] = []
        recorder.scene.oracles.append(self._exchanges)
        self._note(Exchange("__init__", arguments, keywords))
        self._oracle = oracle(*arguments, **keywords)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def asked(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
            question = pickle.dumps((arguments, keywords))  # the oracle may change them
            answer = getattr(self._oracle, method)(*arguments, **keywords)
            self._note(Exchange(method, *pickle.loads(question), answer))  # noqa: S301
            return answer

        return asked

    def _note(self, exchange: Exchange) -> None:
        self._exchanges.append(pickle.dumps(exchange))


class Player:
    """Gives each test its scene; `torch_oracle` is a module that answers from it."""

    def __init__(self, path: Path) -> None:
        self.scenes: Mapping[str, Scene] = pickle.loads(path.read_bytes())  # noqa: S301
        module = types.ModuleType("torch_oracle")
        module.TorchOracle = Replayed  # type: ignore[attr-defined]
        sys.modules |= {"torch_oracle": module, "torch": None}  # here, too, it is not to be had

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        oracles = self.scenes.get(item.nodeid, Scene()).oracles
        Replayed.waiting = [list(exchanges) for exchanges in oracles]
        result = yield
        assert not any(Replayed.waiting), "this test asks the oracle less than when it was recorded"
        return result

    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """A hypothesis test is run on the examples of the tape, any other as ever."""
        if not getattr(pyfuncitem.obj, "is_hypothesis_test", False):
            return None
        examples = self.scenes[pyfuncitem.nodeid].examples
        assert examples, "the tape has no example for this test"
        given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        with warnings.catch_warnings():  # `assume`, which held for each of them
            warnings.simplefilter("ignore", HypothesisDeprecationWarning)
            for example in examples:
                pyfuncitem.obj.hypothesis.inner_test(**given, **pickle.loads(example))  # noqa: S301
        return True


class Replayed:
    """An oracle that was asked all this before."""

    waiting: ClassVar[list[list[bytes]]] = []  # of the test that runs; the next oracle's is first

    def __init__(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401
        assert self.waiting, "the tape has no oracle for this test: record it again"
        self._exchanges = self.waiting[0]
        self._answer("__init__", arguments, keywords)
        Replayed.waiting = [*self.waiting[1:], self._exchanges]

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: self._answer(method, arguments, keywords)

    def _answer(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:  # noqa: ANN401
        assert self._exchanges, f"the tape ends before {method}: record it again"
        recorded: Exchange = pickle.loads(self._exchanges.pop(0))  # noqa: S301
        assert recorded.method == method
        assert_same(arguments, recorded.arguments)
        assert_same(keywords, recorded.keywords)
        return recorded.answer


def assert_same(actual: Any, recorded: Any) -> None:  # noqa: ANN401
    """Equal, but for rounding."""
    assert type(actual) is type(recorded)
    if isinstance(actual, np.ndarray | np.floating | float):
        exact = np.asarray(actual).dtype.kind != "f"
        np.testing.assert_allclose(actual, recorded, *((0, 0) if exact else (SAME, SAME)))
    elif isinstance(actual, tuple | list):
        for one, other in zip(actual, recorded, strict=True):
            assert_same(one, other)
    elif isinstance(actual, dict):
        assert_same(list(actual.items()), list(recorded.items()))
    elif is_dataclass(actual):
        for part in fields(actual):
            assert_same(getattr(actual, part.name), getattr(recorded, part.name))
    else:
        assert actual == recorded
