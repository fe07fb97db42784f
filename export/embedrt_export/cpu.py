"""What a fused graph becomes for ONNX Runtime's CPU provider: the same function in the operators that it runs fastest.

The fused graph is counted, checked and kept for CUDA and as the source of the other variants; this is the last step
before a CPU graph is written.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto, helper

REWRITES = {"SkipLayerNormalization": "Add, Add, LayerNormalization"}
"""Fused operator -> what stands for it, for the manifest."""


def for_cpu(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """The nodes, with each SkipLayerNormalization taken apart; no node given is changed."""
    out: list[NodeProto] = []
    for node in nodes:
        out += _split_norm(node) if node.op_type == "SkipLayerNormalization" else [node]
    return out


def rewritten(nodes: Iterable[NodeProto]) -> dict[str, str]:
    """Those of `REWRITES` that `for_cpu` does to the nodes."""
    found = {node.op_type for node in nodes}
    return {operator: parts for operator, parts in REWRITES.items() if operator in found}


def _split_norm(node: NodeProto) -> list[NodeProto]:
    """layernorm(x + bias + skip); the norm keeps the node's name and output."""
    value, skip, gamma, beta = node.input[:4]
    nodes = []
    if len(node.input) > 4 and node.input[4]:
        nodes.append(_add(value, node.input[4], f"{node.name}.biased"))
        value = nodes[-1].output[0]
    nodes.append(_add(value, skip, f"{node.name}.input"))
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-12)  # 1e-12 is the operator's own default
    norm = helper.make_node(
        "LayerNormalization", [nodes[-1].output[0], gamma, beta], [node.output[0]], node.name, epsilon=epsilon, axis=-1
    )
    return [*nodes, norm]


def _add(a: str, b: str, output: str) -> NodeProto:
    return helper.make_node("Add", [a, b], [output], output)
