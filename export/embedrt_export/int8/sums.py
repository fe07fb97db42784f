"""Products of two computed values whose sums ONNX Runtime orders by the padded length, and what is done about it.

MLAS adds up 128 terms at a time, but 256 or more where the product has 64 columns or fewer (`MlasSgemmOperation` lets
the strides follow the shape). Q K^T has a column for each token of the batch's longest text, so with heads wider than
128 a text alone and the same text beside a longer one get sums that differ in their last bits. In float32 nobody sees
it; an 8-bit rounding behind it may fall the other way, and move the vector by up to 3e-5 of cosine (seeded Gemma 3, 6
layers, heads of 256). In pieces of 128 terms the order is the same for every shape. Weights are constants, which MLAS
packs and always adds up in one order.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import NodeProto

from embedrt_export.int8.calibration import Session
from embedrt_export.roles import Tensors
from embedrt_export.sums import BLOCK


def long_sums(model: onnx.ModelProto, nodes: Iterable[NodeProto], token: int) -> dict[str, int]:
    """Node name -> number of terms, of each product of computed values with more than `BLOCK` at every text's length.

    Seen by running texts of two lengths, made of `token`: shapes are computed in the graph, and not all are inferred.
    """
    tensors = Tensors(model)
    lefts = {
        node.name: node.input[0]
        for node in nodes
        if node.op_type == "MatMul" and not any(name in tensors for name in node.input)
    }
    if not lefts:
        return {}
    session = Session(model, list(dict.fromkeys(lefts.values())))
    widths = []
    for length in (2, 3):
        outputs, _mask = session.run([[token] * length])
        widths.append({name: outputs[value].shape[-1] for name, value in lefts.items()})
    return {name: width for name, width in widths[0].items() if width == widths[1][name] and width > BLOCK}
