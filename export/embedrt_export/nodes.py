"""Short ways to write a graph: nodes and initializers of one model."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from embedrt_export.graph import set_opset

MICROSOFT = "com.microsoft"


class Nodes:
    """Nodes and initializers of one graph, with short ways to add them."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self._outputs: set[str] = set()

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        """One node, named by its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        self._outputs.add(output)
        return output

    def has(self, output: str) -> bool:
        """Whether a node that `add` made gives this value."""
        return output in self._outputs

    def tensor(self, name: str, value: NDArray[np.generic]) -> str:
        """An initializer, a scalar where the value is one."""
        whole = value if value.flags.c_contiguous else np.ascontiguousarray(value)  # which would give scalars an axis
        self.tensors[name] = numpy_helper.from_array(whole, name)
        return name

    def constant(self, kind: str, value: NDArray[np.generic], of: str) -> str:
        """A small initializer, made once for each `of`."""
        return self.once(f"{kind}.{of}", value)

    def scalar(self, name: str, value: np.generic) -> str:
        """A shared scalar initializer."""
        return self.once(name, np.asarray(value))

    def once(self, name: str, value: NDArray[np.generic]) -> str:
        """An initializer that several nodes read; made by the first of them."""
        return name if name in self.tensors else self.tensor(name, value)

    def axis(self) -> str:
        """The constant [-1], the axis of a row's numbers."""
        return self.once("const.axis", np.array([-1]))

    def model(self, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> onnx.ModelProto:
        """The model with these inputs and outputs. The initializers move into it, so that large ones are not there
        twice: nothing can be added after."""
        model = onnx.ModelProto()
        graph = model.graph
        graph.name = "encoder"
        graph.node.extend(self.nodes)
        graph.input.extend(inputs)
        graph.output.extend(outputs)
        for name in list(self.tensors):
            graph.initializer.append(self.tensors.pop(name))
        set_opset(model)
        return model
