"""An encoder's fp32 graph by the way that its family is known for: emitted from a specification, or traced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from embedrt_export.emit.encoder import emit_encoder
from embedrt_export.families import own_code_of
from embedrt_export.graph import EncoderGraph, build_fp32
from embedrt_export.source import ModelSource


def build_graph(encoder: Any, source: ModelSource, work: Path) -> EncoderGraph:
    """The fp32 graph of a loaded encoder: emitted where a family's file reads the config, else traced."""
    found = emit_encoder(source.config, encoder, source.name)
    if isinstance(found, EncoderGraph):
        return found
    graph = build_fp32(encoder, work, own_code=own_code_of(source.config) is not None)
    return replace(graph, notes=(*graph.notes, found)) if found else graph
