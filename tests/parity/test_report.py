from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from embedrt.bundle import Bundle
from embedrt.errors import FileFormatError, OptionError
from embedrt.manifest import ParitySummary
from embedrt.parity.report import ParityReport, render_table
from embedrt.parity.verify import verify_bundle
from tests.parity.fakes import BatchDependentEmbedder


@pytest.fixture
def failed(fake_bundle: Bundle) -> ParityReport:
    return verify_bundle(
        fake_bundle,
        variants=["fp32"],
        make_embedder=lambda bundle, *, variant, device, num_threads: BatchDependentEmbedder(variant),
    )


def test_json_round_trip(report: ParityReport) -> None:
    assert ParityReport.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["passed"] is True


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(FileFormatError, match="not a parity report"):
        ParityReport.from_json(text)


def test_json_is_strict(report: ParityReport) -> None:
    data = json.loads(report.to_json())
    data["variants"][0]["deviation"]["cosine"]["mean"] = "high"
    with pytest.raises(FileFormatError, match=r"variants\[0\].deviation.cosine.mean"):
        ParityReport.from_json(json.dumps(data))


def test_summary_for_the_manifest(report: ParityReport) -> None:
    deviation = report.variants[2].deviation
    assert deviation.centered is not None
    assert report.summary("int8") == ParitySummary(
        num_texts=deviation.num_texts,
        cosine_mean=deviation.cosine.mean,
        cosine_p01=deviation.cosine.p01,
        cosine_min=deviation.cosine.min,
        centered_min=deviation.centered.min,
        max_abs_diff=deviation.max_abs_diff,
        spearman=deviation.spearman or 0,
        top10_overlap=deviation.top10_overlap or 0,
        passed=True,
    )
    with pytest.raises(OptionError, match="bf16"):
        report.summary("bf16")


def test_no_summary_of_too_few_texts(report: ParityReport) -> None:
    variant = report.variants[0]
    few = replace(variant, deviation=replace(variant.deviation, spearman=None))
    with pytest.raises(OptionError, match="too few"):
        few.summary()


def test_failures_of_all_variants(failed: ParityReport) -> None:
    assert not failed.passed
    assert failed.failures == failed.variants[0].failures
    assert not failed.summary("fp32").passed


def rendered(report: ParityReport) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render_table(report))
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_table(report: ParityReport, failed: ParityReport) -> None:
    shown = rendered(report)
    for word in ("fp32", "fp16", "int8", "passed", "Spearman", "copies at length 1"):
        assert word in shown
    assert "FAILED" not in shown
    assert "FAILED" in rendered(failed)


def test_table_survives_markup_in_names(report: ParityReport) -> None:
    assert "[/red]" in rendered(replace(report, bundle="[/red]"))


def test_notes_say_what_limits_the_numbers(report: ParityReport) -> None:
    collapsed = replace(report.variants[2].gates, name="collapsed", reason="they have collapsed")
    variants = (*report.variants[:2], replace(report.variants[2], gates=collapsed))
    longer = replace(report, variants=variants, num_tokens=(*report.num_tokens, 3))
    notes = " ".join(longer.notes())
    checked = report.variants[0].invariances[0].num_texts
    assert 32 <= checked < len(report.num_tokens)
    for words in (
        "int8: they have collapsed.",
        "copies at length 1",
        f"fp32: invariances were checked on {checked} texts",
    ):
        assert words in notes
