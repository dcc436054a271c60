import builtins
from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import nn

from aggregator.models.importing import import_model
from aggregator.models.torch_source import load_module
from fedsparse.errors import ConfigError, PlanError

SOURCE = """
import dataclasses
from torch import nn
from sibling_of_my_model import CLASSES

@dataclasses.dataclass
class Settings:
    width: int = 40

class Net(nn.Sequential):
    def __init__(self, width=Settings().width):
        super().__init__(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, CLASSES))

class Sized(Net):
    def __init__(self, width):
        super().__init__(width)

def small():
    return Sized(35)

def broken():
    return 1 / 0

ready = Net(50)
number = 3

def text():
    return "no module"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "sibling_of_my_model.py").write_text("CLASSES = 4\n")
    path = tmp_path / "my_model.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(("name", "width"), [("Net", 40), ("small", 35), ("ready", 50)])
def test_a_class_a_function_and_a_module_can_be_named(file: Path, name: str, width: int) -> None:
    module = load_module(file, name)
    assert isinstance(module, nn.Module)
    assert module[0].out_features == width


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Nett", "there is no 'Nett'; classes and functions in it: Settings, Net, Sized, small"),
        ("Sized", "'Sized' cannot be called without arguments.*'width'"),
        ("broken", r"broken\(\) failed: ZeroDivisionError"),
        ("text", "'text' makes str, not a torch.nn.Module"),
        ("number", "cannot be called"),
    ],
)
def test_a_name_that_makes_no_module_is_refused(file: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load_module(file, name)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("import nothing_of_this_name", "ModuleNotFoundError"), ("def (", "SyntaxError")],
)
def test_a_file_that_fails_is_refused_with_its_error(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "bad_model.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"bad_model.py: {reason}"):
        load_module(path, "Net")


def test_without_torch_the_error_says_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.__import__

    def without_torch(
        name: str,
        scope: Mapping[str, object] | None = None,
        outer: Mapping[str, object] | None = None,
        wanted: tuple[str, ...] = (),
        level: int = 0,
    ) -> object:
        if name == "torch":
            raise ImportError(name)
        return plain(name, scope, outer, wanted, level)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(ConfigError, match=r"pip install 'fedsparse\[torch\]'"):
        load_module(file, "Net")


def test_a_source_is_imported_with_its_name_and_its_choice_of_layers(file: Path) -> None:
    imported = import_model(f"{file}:Net", input_shape=(30,), prune=("2",), dense=("0",))
    assert imported.plan.name == "Net"
    assert [tensor.name for tensor in imported.plan.prunable] == ["2.weight"]
    assert imported.values.keys() == {tensor.name for tensor in imported.plan.tensors}
    assert import_model(f"{file}:Net", input_shape=(30,), name="mine").plan.name == "mine"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("model", "expected model.onnx, or my_model.py:Net"),
        ("my_model.py", "expected model.onnx, or my_model.py:Net"),
        ("my_model.py:", "expected model.onnx, or my_model.py:Net"),
        ("nowhere.py:Net", "nowhere.py: no such file"),
        ("nowhere.onnx", "nowhere.onnx: no such file"),
    ],
)
def test_a_source_that_is_neither_is_refused(source: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        import_model(source, input_shape=(30,))


def test_a_torch_model_needs_the_shape_of_a_sample(file: Path) -> None:
    with pytest.raises(ConfigError, match="--input 3,32,32"):
        import_model(f"{file}:Net")
    with pytest.raises(PlanError, match=r"Net does not accept samples of shape \(31,\)"):
        import_model(f"{file}:Net", input_shape=(31,))
