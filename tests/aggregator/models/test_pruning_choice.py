import pytest

from aggregator.models.pruning import choose_prunable
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Mul, Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.plan.zoo import PLANS


def plan() -> Plan:
    model = PlanBuilder("m", (4, 20))
    model.conv("stem", 8, 3, pad=1)  # 96 weights
    model.conv("body.conv1", 64, 3, pad=1)  # 1,536
    model.conv("body.conv2", 64, 3, pad=1, prunable=False)  # 12,288
    model.flatten()
    model.linear("fc1", 10)  # 12,800
    model.linear("fc2", 200)  # 2,000, the classifier
    return model.build()


def pruned(prune: tuple[str, ...] = (), dense: tuple[str, ...] = ()) -> list[str]:
    chosen = choose_prunable(plan(), prune=prune, dense=dense)
    return [tensor.name.removesuffix(".weight") for tensor in chosen.prunable]


def test_by_default_small_layers_and_the_classifier_stay_dense() -> None:
    assert pruned() == ["body.conv1", "body.conv2", "fc1"]


def test_layers_can_be_added_and_taken_away_by_pattern() -> None:
    assert pruned(dense=("body.*",)) == ["fc1"]
    assert pruned(prune=("stem", "fc*")) == ["stem", "body.conv1", "body.conv2", "fc1", "fc2"]
    assert pruned(prune=("*",), dense=("fc2", "stem")) == pruned()


def test_depthwise_layers_stay_dense_unless_named() -> None:
    model = PlanBuilder("m", (200, 20))
    model.depthwise("depth", 9, pad=4)  # 1,800
    model.conv("grouped", 200, 3, groups=2)  # 60,000
    model.global_avg_pool()
    model.linear("fc", 10)
    wide = model.build()
    assert [tensor.name for tensor in choose_prunable(wide).prunable] == ["grouped.weight"]
    named = choose_prunable(wide, prune=("depth",))
    assert [tensor.name for tensor in named.prunable] == ["depth.weight", "grouped.weight"]


def test_a_linear_layer_that_is_not_the_last_layer_is_no_classifier() -> None:
    model = PlanBuilder("m", (100, 20))
    start = model.conv("first", 100, 3, pad=1)
    model.global_avg_pool()
    model.linear("gate", 100)
    model.add(Mul(), start, "gate")
    model.conv("logits", 12, 1)
    model.global_avg_pool()
    prunable = [tensor.name for tensor in choose_prunable(model.build()).prunable]
    assert prunable == ["first.weight", "gate.weight", "logits.weight"]


def test_nothing_else_of_the_plan_changes() -> None:
    chosen = choose_prunable(plan(), prune=("stem",))
    assert [node.name for node in chosen.nodes] == [node.name for node in plan().nodes]
    assert chosen.shapes == plan().shapes


@pytest.mark.parametrize("name", ["watch", "digits", "mnist", "dscnn", "mobilenet"])
def test_the_zoo_follows_the_default(name: str) -> None:
    assert choose_prunable(PLANS[name]()) == PLANS[name]()


def test_a_pattern_without_a_layer_is_refused_with_the_layers() -> None:
    with pytest.raises(ConfigError, match="--dense 'flatten' matches no layer; layers: stem, body"):
        pruned(dense=("flatten",))
    with pytest.raises(ConfigError, match="--prune 'x\\*'"):
        pruned(prune=("x*",))


def test_a_plan_with_nothing_left_to_prune_is_refused() -> None:
    with pytest.raises(PlanError, match="--prune"):
        pruned(dense=("*",))
