"""Short ways to write a graph, and the quantization of rows in standard operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from embedrt_export import roles
from embedrt_export.int8.linear import CENTRE, TINY, activation_floor
from embedrt_export.int8.weights import Int8Weight, quantize_rows
from embedrt_export.nodes import MICROSOFT, Nodes


class Builder(Nodes):
    """Nodes and initializers of the int8 form of a source graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.source = roles.Tensors(model)

    def rows8(self, x: str, width: int, prefix: str, of: str = "tokens") -> tuple[str, str]:
        """u8 rows around 128, and their scales (T, 1); `of` names what there are T of."""
        magnitude = self.add("Abs", [x], f"{prefix}.magnitude")
        high = self.add("ReduceMax", [magnitude, self.axis()], f"{prefix}.high", keepdims=1)
        largest = self.add("Max", [high, self.scalar("const.tiny", TINY)], f"{prefix}.largest")
        return self._rows(x, largest, width, prefix, CENTRE, of)

    def rest8(self, x: str, width: int, prefix: str, of: str) -> tuple[str, str]:
        """What the rows of `rows8` leave of x, as such rows."""
        rows, scale = self.rows8(x, width, prefix, of)
        inputs = [rows, scale, self._zero_points(scale, CENTRE, of)]
        known = self.add("DequantizeLinear", inputs, f"{prefix}.known", axis=-1, block_size=width)
        return self.rows8(self.add("Sub", [x, known], f"{prefix}.rest"), width, f"{prefix}.rest", of)

    def rows8_activation(self, x: str, width: int, prefix: str, zero: int) -> tuple[str, str]:
        """u8 rows around `zero`, and their scales (T, 1), for values of `ACTIVATION_LOW` and over."""
        high = self.add("ReduceMax", [x, self.axis()], f"{prefix}.high", keepdims=1)
        floor = self.scalar("const.activation_floor", activation_floor(zero))
        largest = self.add("Max", [high, floor], f"{prefix}.largest")
        return self._rows(x, largest, width, prefix, zero, "tokens")

    def look_up8(self, table: str, ids: str, name: str, output: str) -> str:
        """Rows of the source's `table` (V, H), stored as int8 with a scale for each row."""
        rows, scales = quantize_rows(self.source.array(table))
        self.add("Gather", [self.once(table, rows), ids], f"{name}.rows")
        self.add("Cast", [f"{name}.rows"], f"{name}.float", to=TensorProto.FLOAT)
        self.add("Gather", [self.once(f"{table}.scale", scales), ids], f"{name}.row_scale")
        return self.add("Mul", [f"{name}.float", f"{name}.row_scale"], output)

    def product(
        self, rows: str, row_scale: str, weight: Int8Weight, zero: int, name: str, tensors: str | None = None
    ) -> str:
        """row_scale * ((rows - zero) @ weight * scale): float32 (T, N); its tensors have its name, or `tensors`.

        Each product has a tensor of its own, also where weights are equal (the file then has one of them): ONNX Runtime
        1.32 cannot load a graph with `session.x64quantprecision` in which several products read one int8 tensor.
        """
        inputs = [
            rows,
            self.tensor(f"{tensors or name}.weight", weight.weight),
            self.scalar("const.one", np.float32(1)),
            self.tensor(f"{tensors or name}.scale", weight.scale),
            self.scalar(f"const.zero_{zero}", np.uint8(zero)),
        ]
        columns = self.add("MatMulIntegerToFloat", inputs, f"{name}.columns", MICROSOFT)
        return self.add("Mul", [columns, row_scale], f"{name}.output")

    def _rows(self, x: str, largest: str, width: int, prefix: str, zero: int, of: str) -> tuple[str, str]:
        share = self.scalar(f"const.step_{zero}", np.float32(1 / (255 - zero)))
        scale = self.add("Mul", [largest, share], f"{prefix}.row_scale")
        inputs = [x, scale, self._zero_points(scale, zero, of)]
        return self.add("QuantizeLinear", inputs, f"{prefix}.rows", axis=-1, block_size=width), scale

    def _zero_points(self, scale: str, zero: int, of: str) -> str:
        """The zero point in the shape of the row scales, as the operator wants it; made once for each `of`."""
        name = f"zero_points_{zero}.{of}"
        if self.has(name):
            return name
        shape = self.add("Shape", [scale], f"{name}.shape")
        return self.add("Expand", [self.scalar(f"const.zero_{zero}", np.uint8(zero)), shape], name)

    def copy(self, node: NodeProto) -> None:
        """A node of the source graph, with the initializers it reads."""
        self.nodes.append(node)
        for name in node.input:
            if name in self.source:
                self.tensors[name] = self.source.by_name[name]

    def finish(self) -> onnx.ModelProto:
        """The model, with the source's inputs and outputs."""
        source = self.source.model.graph
        return self.model(list(source.input), list(source.output))
