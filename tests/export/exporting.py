"""The exporter as most tests want it: fp32 alone, on one thread, because these models are tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedrt.parity.report import ParityReport
from embedrt_export import export as export_on_all_cores


def export(model: str | Path, out: Path, **options: Any) -> ParityReport:
    return export_on_all_cores(model, out, **{"variants": ["fp32"], "num_threads": 1, **options})
