"""The tensors of a graph that have a row for each token."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

_ALIKE = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")  # ids stay ids


def token_tables(nodes: Iterable[NodeProto], initializers: Iterable[str]) -> frozenset[str]:
    """Names of the initializers that are looked up by input_ids."""
    known = frozenset(initializers)
    ids = {"input_ids"}
    tables = set()
    for node in nodes:
        if node.op_type in _ALIKE and node.input[0] in ids:
            ids.update(node.output)
        elif node.op_type == "Gather" and node.input[1] in ids and node.input[0] in known:
            tables.add(node.input[0])
    return frozenset(tables)
