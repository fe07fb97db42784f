"""Weights beside the graph: one page-aligned file that a reader can map without protobuf.

Every tensor of `EXTERNAL_BYTES` or more, and every one named by its role in the encoder (see `embedrt_export.roles`),
goes to the weights file at an offset that is a multiple of `ALIGNMENT`, the page size that mmap needs. The others
(shapes, axes, constants) stay in the graph.
The bytes are the tensor's, little-endian and C-ordered, with no header. Large tensors that are equal lie there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from embedrt.manifest import TensorEntry

ALIGNMENT = 4096  # bytes
EXTERNAL_BYTES = 1024
_FIRST_BYTES = 256  # in which tensors that differ almost always do
SHARED_BYTES = 1 << 14  # equal tensors of this size lie in the file once; smaller ones are not worth looking for
_Alike = dict[tuple[object, ...], list[TensorEntry]]
"""Large tensors of a file by type, shape and first bytes."""
ROLES = ("embeddings.", "layers.", "attention.", "rotary.", "final_norm.", "output_norm.")


def save_graph(
    model: onnx.ModelProto,
    graph_path: Path,
    weights_path: Path,
    *,
    nodes: Sequence[NodeProto] | None = None,
    reuse: Mapping[str, TensorEntry] | None = None,
    rows: Mapping[str, NDArray[np.int64]] | None = None,
) -> tuple[TensorEntry, ...]:
    """Write `model` to `graph_path` and its large tensors to `weights_path` (same directory).

    `nodes` stand in the graph instead of the model's own, so that its weights need not be copied to change them.

    `reuse` names tensors that already lie in `weights_path` (from an earlier call): they are referred to, not written
    again, so two graphs share one file. `rows` are those to write of the tensors that it names. `model` itself is not
    changed.

    Returns:
        Where each large tensor of this graph lies, in the file's order.

    Raises:
        OSError: the disk is full or not writable.
    """
    known = dict(reuse or {})
    written: _Alike = {}
    entries: list[TensorEntry] = []
    slim = onnx.ModelProto()
    slim.CopyFrom(_without_initializers(model, model.graph.node if nodes is None else nodes))
    with weights_path.open("ab+" if known else "wb+") as stream:
        for whole in model.graph.initializer:
            entry = known.get(whole.name)
            if entry is None:
                tensor = _select(whole, (rows or {}).get(whole.name))
                data = _raw_bytes(tensor)
                if len(data) < EXTERNAL_BYTES and not tensor.name.startswith(ROLES):
                    slim.graph.initializer.add().CopyFrom(tensor)
                    continue
                entry = _write_once(stream, weights_path.name, tensor, data, written)
            entries.append(entry)
            slim.graph.initializer.append(_external(whole.data_type, entry))
    graph_path.write_bytes(slim.SerializeToString())
    return tuple(sorted(entries, key=lambda entry: entry.offset))


def read_tensor(root: Path, entry: TensorEntry) -> np.memmap:
    """The tensor of an entry as a read-only map of its file under `root`."""
    return np.memmap(root / entry.path, np.dtype(entry.dtype), "r", entry.offset, entry.shape)


def _without_initializers(model: onnx.ModelProto, nodes: Iterable[NodeProto]) -> onnx.ModelProto:
    """Everything but the weights, without copying them first."""
    slim = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(slim, field.name).extend(value)
        elif field.message_type is not None:
            getattr(slim, field.name).CopyFrom(value)
        else:
            setattr(slim, field.name, value)
    graph = model.graph
    slim.graph.name = graph.name
    slim.graph.node.extend(nodes)
    slim.graph.input.extend(graph.input)
    slim.graph.output.extend(graph.output)
    return slim


def _select(tensor: TensorProto, rows: NDArray[np.int64] | None) -> TensorProto:
    if rows is None:
        return tensor
    return numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(tensor)[rows]), tensor.name)


def _raw_bytes(tensor: TensorProto) -> bytes:
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return np.ascontiguousarray(numpy_helper.to_array(tensor)).tobytes()


def _write_once(stream: BinaryIO, file_name: str, tensor: TensorProto, data: bytes, known: _Alike) -> TensorEntry:
    """Append the tensor's bytes, but for a large one that lies there already."""
    alike = known.setdefault((tensor.data_type, *tensor.dims, data[:_FIRST_BYTES]), [])
    for entry in alike:
        stream.seek(entry.offset)
        if stream.read(entry.size) == data:
            return replace(entry, name=tensor.name)
    stream.seek(0, 2)
    stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
    entry = _entry(tensor, file_name, stream.tell(), len(data))
    stream.write(data)
    if len(data) >= SHARED_BYTES:
        alike.append(entry)
    return entry


def _entry(tensor: TensorProto, file_name: str, offset: int, size: int) -> TensorEntry:
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).name
    return TensorEntry(tensor.name, dtype, tuple(tensor.dims), file_name, offset, size)


def _external(data_type: int, entry: TensorEntry) -> TensorProto:
    """A tensor that points into the weights file."""
    out = TensorProto(name=entry.name, data_type=data_type, dims=entry.shape)
    out.data_location = TensorProto.EXTERNAL
    for key, value in (("location", entry.path), ("offset", entry.offset), ("length", entry.size)):
        out.external_data.add(key=key, value=str(value))
    return out
