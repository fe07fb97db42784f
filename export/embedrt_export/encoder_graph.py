"""An encoder's fp32 graph by the way that its family is known for: emitted from a specification, or traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedrt_export.emit.encoder import emit_encoder
from embedrt_export.graph import EncoderGraph
from embedrt_export.tracing import trace_encoder


def build_graph(encoder: Any, config: Mapping[str, Any], name: str, work: Path) -> EncoderGraph:
    """The fp32 graph of a loaded encoder with this config.json: emitted where a family's file reads it, else traced.

    `work` must exist and have room for the weights once.

    Raises:
        UnsupportedModelError: a setting is not known, and the architecture cannot be traced either.
        SourceError: its tensors are not those of the family.
        ExportError: tracing failed; which architectures can be traced was asked long before.
    """
    found = emit_encoder(config, encoder, name)
    if isinstance(found, EncoderGraph):
        return found
    graph = trace_encoder(encoder, work)
    return replace(graph, notes=(*graph.notes, found)) if found else graph
