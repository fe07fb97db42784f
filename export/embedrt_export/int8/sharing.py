"""What products share: exporters write a weight that several layers use once, and give it to the others by Identity."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import NodeProto

from embedrt_export.roles import Tensors


def without_aliases(model: onnx.ModelProto) -> list[NodeProto]:
    """The model's nodes, each reading initializers by their own names instead of those that Identity gave them."""
    tensors = Tensors(model)
    own: dict[str, str] = {}
    nodes: list[NodeProto] = []
    kept = {output.name for output in model.graph.output}
    for node in model.graph.node:
        source = own.get(node.input[0], node.input[0]) if node.op_type == "Identity" else ""
        if source in tensors and node.output[0] not in kept:
            own[node.output[0]] = source
            continue
        if any(name in own for name in node.input):
            renamed = NodeProto()
            renamed.CopyFrom(node)
            renamed.input[:] = [own.get(name, name) for name in node.input]
            node = renamed
        nodes.append(node)
    return nodes


def tied(pairs: Mapping[str, tuple[str, str]]) -> list[list[str]]:
    """Products in groups, in order: two that read one value, or have one weight, are in one, and so are their friends.

    `pairs` has (value, weight) by product. A weight that is quantized once for all its uses needs one fold for all of
    them, and a value has one fold for all that read it.
    """
    group_of: dict[tuple[int, str], list[str]] = {}
    for product, pair in pairs.items():
        keys = list(enumerate(pair))
        found = [group_of[key] for key in keys if key in group_of]
        group = found[0] if found else []
        if len(found) == 2 and found[1] is not group:
            group.extend(found[1])
            for key, other in group_of.items():
                if other is found[1]:
                    group_of[key] = group
        group.append(product)
        group_of.update(dict.fromkeys(keys, group))
    order = {product: place for place, product in enumerate(pairs)}
    unique = {id(group): sorted(group, key=order.__getitem__) for group in group_of.values()}
    return sorted(unique.values(), key=lambda group: order[group[0]])
