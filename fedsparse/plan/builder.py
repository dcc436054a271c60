"""Build a plan node by node: what the model zoo and the importers write."""

from __future__ import annotations

from fedsparse.errors import PlanError
from fedsparse.plan.activations import Relu
from fedsparse.plan.joins import Flatten
from fedsparse.plan.loss import Loss
from fedsparse.plan.norms import BatchNorm
from fedsparse.plan.operator import Operator, Shape
from fedsparse.plan.plan import INPUT, Node, Plan, check_arity
from fedsparse.plan.resampling import GlobalAvgPool, MaxPool
from fedsparse.plan.weighted import Conv, Linear


class PlanBuilder:
    """A plan under construction; a node reads the node before it unless told otherwise.

    Nodes without a name are called after their operator (`relu`, `relu_1`, ...), as the importers
    call them.

    Attributes:
        last: the name of the node added last.
        shapes: the output shape of every node so far, and of the input.
    """

    def __init__(self, name: str, input_shape: Shape) -> None:
        self.name = name
        self.last = INPUT
        self.shapes: dict[str, Shape] = {INPUT: input_shape}
        self._nodes: list[Node] = []

    def add(self, operator: Operator, *inputs: str, name: str = "") -> str:
        """Append a node and return its name.

        Args:
            operator: what the node does.
            inputs: names of earlier nodes; none = the node added last.
            name: wanted name; a number is appended where it is taken.

        Raises:
            PlanError: an input that does not exist, or shapes that do not fit.
        """
        node = Node(
            name=self._unused(name or operator.kind),
            operator=operator,
            inputs=inputs or (self.last,),
        )
        if missing := [source for source in node.inputs if source not in self.shapes]:
            raise PlanError(
                f"node '{node.name}' reads '{missing[0]}', which no earlier node yields"
            )
        check_arity(node)
        shapes = tuple(self.shapes[source] for source in node.inputs)
        try:
            self.shapes[node.name] = operator.output_shape(shapes)
        except PlanError as error:
            raise PlanError(f"node '{node.name}': {error}") from error
        self._nodes.append(node)
        self.last = node.name
        return node.name

    def conv(
        self,
        name: str,
        out_channels: int,
        kernel: int | Shape,
        *,
        stride: int | Shape = 1,
        pad: int | Shape = 0,
        dilation: int | Shape = 1,
        groups: int = 1,
        bias: bool = True,
        prunable: bool = True,
        source: str = "",
    ) -> str:
        """A convolution; a single kernel size, stride, ... holds for every spatial axis."""
        source = source or self.last
        axes = self._spatial_axes(source)
        operator = Conv(
            out_channels=out_channels,
            kernel=_each(kernel, axes),
            stride=_each(stride, axes),
            pads=tuple((size, size) for size in _each(pad, axes)),
            dilation=_each(dilation, axes),
            groups=groups,
            bias=bias,
            prunable=prunable,
        )
        return self.add(operator, source, name=name)

    def depthwise(
        self, name: str, kernel: int | Shape, *, stride: int | Shape = 1, pad: int | Shape = 0
    ) -> str:
        """A convolution of every channel by itself, dense and without bias: it has few weights."""
        channels = self.shapes[self.last][0]
        return self.conv(
            name, channels, kernel, stride=stride, pad=pad, groups=channels, bias=False,
            prunable=False,
        )  # fmt: skip

    def max_pool(self, kernel: int, *, stride: int | None = None, name: str = "") -> str:
        """Max pooling without padding; the stride is the kernel size by default."""
        axes = self._spatial_axes(self.last)
        operator = MaxPool(
            kernel=(kernel,) * axes, stride=(stride or kernel,) * axes, pads=((0, 0),) * axes
        )
        return self.add(operator, name=name)

    def batch_norm(self, name: str) -> str:
        """Batch normalisation with torch's defaults."""
        return self.add(BatchNorm(), name=name)

    def relu(self, name: str = "") -> str:
        """`max(x, 0)`."""
        return self.add(Relu(), name=name)

    def global_avg_pool(self, name: str = "") -> str:
        """The mean of every channel."""
        return self.add(GlobalAvgPool(), name=name)

    def flatten(self, name: str = "") -> str:
        """A feature map as a vector."""
        return self.add(Flatten(), name=name)

    def linear(self, name: str, out_features: int, *, prunable: bool = True) -> str:
        """A fully connected layer with bias."""
        return self.add(Linear(out_features=out_features, prunable=prunable), name=name)

    def build(self, output: str = "", *, loss: Loss = Loss.CROSS_ENTROPY) -> Plan:
        """The plan of all nodes that `output` (default: the last node) needs, in the order added.

        Raises:
            PlanError: as `Plan`.
        """
        needed = {output or self.last}
        for node in reversed(self._nodes):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = tuple(node for node in self._nodes if node.name in needed)
        return Plan(name=self.name, input_shape=self.shapes[INPUT], nodes=nodes, loss=loss)

    def node(self, name: str) -> Node | None:
        """The node of this name; None for the input, and where there is none."""
        return next((node for node in self._nodes if node.name == name), None)

    def _spatial_axes(self, source: str) -> int:
        return len(self.shapes.get(source, ())) - 1

    def _unused(self, name: str) -> str:
        candidate, count = name, 0
        while candidate in self.shapes:
            count += 1
            candidate = f"{name}_{count}"
        return candidate


def _each(value: int | Shape, axes: int) -> Shape:
    """One value for each axis."""
    return value if isinstance(value, tuple) else (value,) * axes
