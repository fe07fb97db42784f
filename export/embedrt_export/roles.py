"""Names by role for the fused graph of a known family, and the way back from a name to its weight.

Nodes and initializers of layer i are called::

    layers.{i}.attention           Attention          .qkv.weight (H, 3H)  .qkv.bias (3H,)
    layers.{i}.attention_output    MatMul             .weight (H, H)       .bias (H,), added by the norm below
    layers.{i}.attention_norm      SkipLayerNorm.     .gamma (H,)          .beta (H,)
    layers.{i}.ffn_up              MatMul             .weight (H, F)
    layers.{i}.activation          BiasGelu, ...      layers.{i}.ffn_up.bias (F,)
    layers.{i}.ffn_down            MatMul             .weight (F, H)       .bias (H,)
    layers.{i}.ffn_norm            SkipLayerNorm.     .gamma (H,)          .beta (H,)

and before the layers `embeddings.word`, `embeddings.position`, `embeddings.token_type`, `embeddings.norm.gamma`,
`embeddings.norm.beta`. A node's output has the node's name with ".output", but for the graph's own output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from embedrt.errors import UnsupportedModelError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LayerNodes:
    """The seven nodes of one fused layer; `relu` layers have bias and activation as two nodes, not kept here."""

    attention: NodeProto
    attention_output: NodeProto
    attention_norm: NodeProto
    ffn_up: NodeProto
    activation: NodeProto
    ffn_down: NodeProto
    ffn_norm: NodeProto


class Tensors:
    """The initializers of a model by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.by_name: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def array(self, name: str) -> Array:
        """A copy-free view where the tensor has raw data."""
        tensor = self.by_name[name]
        if tensor.HasField("raw_data") and tensor.data_type == TensorProto.FLOAT:
            return np.frombuffer(tensor.raw_data, np.float32).reshape(tuple(tensor.dims))
        return np.asarray(numpy_helper.to_array(tensor))


def put(model: onnx.ModelProto, name: str, array: Array) -> None:
    """Give the initializer `name` another value."""
    Tensors(model).by_name[name].CopyFrom(numpy_helper.from_array(array, name))


def name_by_role(model: onnx.ModelProto, num_layers: int) -> None:
    """Rename nodes, values and initializers of a fused graph in place.

    Raises:
        UnsupportedModelError: the nodes are not connected the way a fused encoder's are.
    """
    tensors = Tensors(model)
    nodes = model.graph.node
    inner: dict[str, str] = {}
    norm = _embedding_norm(model)
    norm.name = "embeddings.norm"
    _rename_tensor(tensors, norm, 1, "embeddings.norm.gamma")
    _rename_tensor(tensors, norm, 2, "embeddings.norm.beta")
    inner[norm.output[0]] = "embeddings.output"
    _name_embeddings(model, tensors)
    for index, layer in enumerate(_walk(model, norm.output[0], num_layers)):
        _name_layer(tensors, layer, f"layers.{index}", inner)
    keep = {output.name for output in model.graph.output}
    for node in nodes:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name in inner and name not in keep:
                    names[position] = inner[name]


def _name_layer(tensors: Tensors, layer: LayerNodes, prefix: str, inner: dict[str, str]) -> None:
    for field in LayerNodes.__dataclass_fields__:
        node = getattr(layer, field)
        node.name = f"{prefix}.{field}"
        inner[node.output[0]] = f"{node.name}.output"
    _rename_tensor(tensors, layer.attention, 1, f"{prefix}.qkv.weight")
    _rename_tensor(tensors, layer.attention, 2, f"{prefix}.qkv.bias")
    for product, norm in (("attention_output", "attention_norm"), ("ffn_down", "ffn_norm")):
        node, after = getattr(layer, product), getattr(layer, norm)
        _rename_tensor(tensors, node, 1, f"{prefix}.{product}.weight")
        _rename_tensor(tensors, after, 2, f"{prefix}.{norm}.gamma")
        _rename_tensor(tensors, after, 3, f"{prefix}.{norm}.beta")
        _rename_tensor(tensors, after, 4, f"{prefix}.{product}.bias")
    _rename_tensor(tensors, layer.ffn_up, 1, f"{prefix}.ffn_up.weight")
    bias = layer.activation if len(layer.activation.input) > 1 else None
    if bias is not None:
        _rename_tensor(tensors, bias, 1, f"{prefix}.ffn_up.bias")


def _rename_tensor(tensors: Tensors, node: NodeProto, position: int, name: str) -> None:
    """Give the initializer at `position` a name of its own; one that several nodes share is copied."""
    old = node.input[position] if position < len(node.input) else ""
    if old not in tensors:
        raise UnsupportedModelError(f"{node.name} ({node.op_type}): input {position} is not a weight of the model")
    tensor = tensors.by_name[old]
    uses = sum(list(other.input).count(old) for other in tensors.model.graph.node)
    if uses > 1:
        copy = tensors.model.graph.initializer.add()
        copy.CopyFrom(tensor)
        tensor = copy
    tensor.name = name
    tensors.by_name[name] = tensor
    node.input[position] = name


def _name_embeddings(model: onnx.ModelProto, tensors: Tensors) -> None:
    """Name the tables by what they are looked up with, as the exporter's own names say."""
    table = {"word_embeddings": "word", "position_embeddings": "position", "token_type_embeddings": "token_type"}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in tensors:
            for part, role in table.items():
                if part in node.input[0] or part in node.name:
                    _rename_tensor(tensors, node, 0, f"embeddings.{role}")
                    node.name = f"embeddings.{role}"
                    break


def _embedding_norm(model: onnx.ModelProto) -> NodeProto:
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    if len(norms) != 1:
        raise UnsupportedModelError(f"expected one LayerNormalization after the embeddings, found {len(norms)}")
    return norms[0]


def _walk(model: onnx.ModelProto, value: str, num_layers: int) -> Iterator[LayerNodes]:
    consumers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    def follow(name: str, *operators: str) -> NodeProto:
        found = [node for node in consumers.get(name, ()) if node.op_type in operators]
        if len(found) != 1:
            raise UnsupportedModelError(f"expected one {' or '.join(operators)} after {name}, found {len(found)}")
        return found[0]

    for _ in range(num_layers):
        attention = follow(value, "Attention")
        attention_output = follow(attention.output[0], "MatMul")
        attention_norm = follow(attention_output.output[0], "SkipLayerNormalization")
        ffn_up = follow(attention_norm.output[0], "MatMul")
        activation = follow(ffn_up.output[0], "BiasGelu", "FastGelu", "Add")
        last = activation
        if activation.op_type == "Add":  # relu has no fused operator: the bias is added before it, from either side
            last = follow(activation.output[0], "Relu")
            activation.input[:] = sorted(activation.input, key=lambda name: name != ffn_up.output[0])
        ffn_down = follow(last.output[0], "MatMul")
        ffn_norm = follow(ffn_down.output[0], "SkipLayerNormalization")
        _check_skip(attention_norm, attention_output.output[0], value)
        _check_skip(ffn_norm, ffn_down.output[0], attention_norm.output[0])
        yield LayerNodes(attention, attention_output, attention_norm, ffn_up, activation, ffn_down, ffn_norm)
        value = ffn_norm.output[0]


def _check_skip(norm: NodeProto, product: str, residual: str) -> None:
    if set(norm.input[:2]) != {product, residual} or len(norm.input) < 5:
        raise UnsupportedModelError(f"{norm.name}: inputs are not a product, its residual and a bias")
