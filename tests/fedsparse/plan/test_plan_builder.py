import pytest

from fedsparse.errors import PlanError
from fedsparse.plan import INPUT, Add, Conv, Flatten, Linear, MaxPool, Relu
from fedsparse.plan.builder import PlanBuilder


def test_a_node_reads_the_one_before_it() -> None:
    model = PlanBuilder("m", (2, 9))
    model.conv("conv", 4, 3, stride=2, pad=1)
    model.max_pool(2)
    model.flatten()
    model.linear("fc", 3)
    plan = model.build()
    assert [(node.name, node.inputs) for node in plan.nodes] == [
        ("conv", (INPUT,)),
        ("max_pool", ("conv",)),
        ("flatten", ("max_pool",)),
        ("fc", ("flatten",)),
    ]
    assert plan.nodes[0].operator == Conv(out_channels=4, kernel=(3,), stride=(2,), pads=((1, 1),))
    assert plan.nodes[1].operator == MaxPool(kernel=(2,), stride=(2,), pads=((0, 0),))
    assert plan.shapes == model.shapes


def test_a_name_that_is_taken_gets_a_number() -> None:
    model = PlanBuilder("m", (4,))
    names = [model.relu(), model.relu(), model.relu("input"), model.linear("relu_1", 3)]
    assert names == ["relu", "relu_1", "input_1", "relu_1_1"]
    assert model.build().tensors[0].name == "relu_1_1.weight"


def test_branches_are_named_explicitly() -> None:
    model = PlanBuilder("m", (4,))
    start = model.linear("a", 4)
    end = model.relu()
    model.add(Add(), start, end)
    assert model.build().nodes[-1].inputs == ("a", "relu")


def test_nodes_that_the_output_does_not_need_are_left_out() -> None:
    model = PlanBuilder("m", (4,))
    output = model.linear("a", 4)
    model.linear("spare", 5)
    assert [node.name for node in model.build(output).nodes] == ["a"]


def test_what_does_not_fit_is_refused_with_the_nodes_name() -> None:
    model = PlanBuilder("m", (2, 9))
    with pytest.raises(PlanError, match="node 'fc': linear needs a flat input"):
        model.linear("fc", 3)
    with pytest.raises(PlanError, match="node 'x' reads 'nothing', which no earlier node yields"):
        model.add(Relu(), "nothing", name="x")
    with pytest.raises(PlanError, match="node 'add': add reads 2 inputs, it is given 1"):
        model.add(Add(), INPUT)
    with pytest.raises(PlanError, match="node 'conv'"):
        model.conv("conv", 3, 11)
    assert model.last == INPUT
    model.add(Flatten())
    assert model.add(Linear(out_features=3)) == "linear"  # the refused ones left nothing behind
