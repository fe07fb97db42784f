from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embedrt.bundle import Bundle
from embedrt.errors import (
    BundleError,
    BundleFormatError,
    BundleIntegrityError,
    FileFormatError,
    NonFiniteError,
    OptionError,
)
from embedrt.opening import open_bundle
from embedrt.parity.files import read_parity_files, write_parity_files
from embedrt.parity.loading import Make, ParityEmbedder
from embedrt.parity.report import ParityReport
from embedrt.parity.verify import save_report, verify_bundle
from tests.parity.conftest import TEXTS, MakeBundle
from tests.parity.fakes import NOISE, BatchDependentEmbedder, FakeEmbedder, make_fake, vectors_of


def making(cls: type[FakeEmbedder], **options: float) -> Make[ParityEmbedder]:
    def make(bundle: Bundle, *, variant: str, device: str, num_threads: int | None) -> FakeEmbedder:
        return cls(variant, bundle.manifest.max_tokens, **options)

    return make


def test_the_bundles_own_texts_and_vectors(make_bundle: MakeBundle) -> None:
    report = verify_bundle(make_bundle(), make_embedder=make_fake, num_threads=3)
    assert report.passed
    assert [v.variant for v in report.variants] == ["fp32", "fp16", "int8"]
    assert report.variants[0].deviation.max_abs_diff == 0
    assert report.variants[1].deviation.cosine.min < 1
    assert report.variants[2].deviation.cosine.min < report.variants[1].deviation.cosine.min
    assert report.variants[2].identity == "identity-int8"
    assert report.num_threads == 3
    assert report.reference.description.startswith("sentence-transformers 5.2.0, torch 2.13.0, fp32")
    assert not report.reference.normalized
    assert len(report.num_tokens) == len(report.variants[0].distances) == len(TEXTS)


def test_worst_texts_come_first(fake_bundle: Bundle) -> None:
    variant = verify_bundle(fake_bundle, variants=["int8"], make_embedder=make_fake).variants[0]
    cosines = [worst.cosine for worst in variant.worst]
    assert len(cosines) == 10
    assert cosines == sorted(cosines)
    assert cosines[0] == pytest.approx(variant.deviation.cosine.min, abs=1e-15)
    assert 1 - max(variant.distances) == cosines[0]


def test_buckets_cover_all_texts(fake_bundle: Bundle) -> None:
    variant = verify_bundle(fake_bundle, variants=["int8"], make_embedder=make_fake).variants[0]
    assert sum(b.deviation.num_texts for b in variant.buckets) == variant.deviation.num_texts
    assert variant.buckets[0].label == "1-8"
    assert variant.buckets[-1].label == "cut at 512"
    assert min(b.deviation.cosine.min for b in variant.buckets) == variant.deviation.cosine.min
    assert variant.buckets[0].deviation.spearman is not None
    assert variant.buckets[-1].deviation.spearman is None


def test_noise_fails_by_its_gate(fake_bundle: Bundle) -> None:
    report = verify_bundle(fake_bundle, variants=["fp32"], make_embedder=making(FakeEmbedder, noise=NOISE["int8"]))
    assert any("smallest cosine" in sentence for sentence in report.failures)
    assert any("largest difference" in sentence for sentence in report.failures)


def test_a_batch_dependent_embedder_fails(fake_bundle: Bundle) -> None:
    report = verify_bundle(fake_bundle, variants=["int8"], make_embedder=making(BatchDependentEmbedder))
    assert any("embedded alone" in sentence for sentence in report.failures)
    assert any("embedded in a batch" in sentence for sentence in report.failures)


def numbers_asked(report: ParityReport) -> dict[str, set[int]]:
    return {variant.variant: {found.num_texts for found in variant.invariances} for variant in report.variants}


def test_fp16_is_asked_little_where_fp32_kept_every_bit(fake_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedrt.parity.verify._FEW_TEXTS", 7)
    of_every_length = numbers_asked(verify_bundle(fake_bundle, variants=["fp16"], make_embedder=make_fake))["fp16"]
    asked = numbers_asked(verify_bundle(fake_bundle, make_embedder=make_fake))
    assert asked == {"fp32": of_every_length, "fp16": {7}, "int8": of_every_length}


@pytest.mark.parametrize("failing", [("fp16",), ("fp32", "fp16")])
def test_fp16_is_asked_in_full_where_a_bit_differs(fake_bundle: Bundle, failing: tuple[str, ...]) -> None:
    def make(bundle: Bundle, *, variant: str, device: str, num_threads: int | None) -> FakeEmbedder:
        return (BatchDependentEmbedder if variant in failing else FakeEmbedder)(variant, bundle.manifest.max_tokens)

    report = verify_bundle(fake_bundle, variants=["fp32", "fp16"], make_embedder=make)
    assert numbers_asked(report)["fp16"] == {len(TEXTS)}
    assert any(sentence.startswith("fp16") and "embedded alone" in sentence for sentence in report.failures)


def test_texts_of_ones_own(fake_bundle: Bundle) -> None:
    texts = ["one", "둘", "three"]
    report = verify_bundle(
        fake_bundle,
        texts=texts,
        reference=vectors_of(texts),
        reference_description="by hand",
        make_embedder=make_fake,
    )
    assert report.passed
    assert report.reference.description == "by hand"
    assert report.variants[0].deviation.num_texts == 3
    assert report.variants[0].deviation.spearman is None
    assert ParityReport.from_json(report.to_json()) == report
    assert verify_bundle(fake_bundle, texts=["x"], reference=vectors_of(["x"]), make_embedder=make_fake).passed


@pytest.mark.parametrize(
    ("texts", "reference", "message"),
    [
        (["one"], None, "--against MODEL"),
        (None, np.zeros((1, 16), np.float32), "needs the texts"),
        (["one"], np.zeros((2, 16), np.float32), "do not belong together"),
        ([], np.zeros((0, 16), np.float32), "do not belong together"),
        (["one"], np.ones((1, 5), np.float32), r"the reference is \(1, 5\)"),
    ],
)
def test_texts_and_reference_that_do_not_fit(
    fake_bundle: Bundle, texts: list[str] | None, reference: np.ndarray | None, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        verify_bundle(fake_bundle, texts=texts, reference=reference, make_embedder=make_fake)


def test_variants_that_are_not_there(fake_bundle: Bundle) -> None:
    with pytest.raises(OptionError, match="int4"):
        verify_bundle(fake_bundle, variants=["int4"], make_embedder=make_fake)
    with pytest.raises(OptionError, match="no variants were chosen"):
        verify_bundle(fake_bundle, variants=[], make_embedder=make_fake)


def refuse(bundle: Bundle, *, variant: str, device: str, num_threads: int | None) -> FakeEmbedder:
    raise AssertionError("hashes must be checked before a model is loaded")


@pytest.mark.parametrize("name", ["int8/model.onnx", "parity/vectors.npy", "parity/texts.json"])
def test_hashes_are_checked_first(make_bundle: MakeBundle, name: str) -> None:
    root = make_bundle()
    content = bytearray((root / name).read_bytes())
    content[-1] ^= 1
    (root / name).write_bytes(content)
    with pytest.raises(BundleIntegrityError, match=name):
        verify_bundle(root, make_embedder=refuse)


def test_only_the_chosen_variants_are_hashed(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    (root / "int8/model.onnx").write_bytes(b"GRAPH of int8")  # same size
    assert verify_bundle(root, variants=["fp32"], make_embedder=make_fake).passed


def test_embedders_are_closed_even_on_errors(fake_bundle: Bundle) -> None:
    made: list[FakeEmbedder] = []

    def make(bundle: Bundle, *, variant: str, device: str, num_threads: int | None) -> FakeEmbedder:
        made.append(FakeEmbedder(variant, noise=np.nan if variant == "fp16" else 0.0))
        return made[-1]

    with pytest.raises(NonFiniteError):
        verify_bundle(fake_bundle, make_embedder=make)
    assert [embedder.variant for embedder in made] == ["fp32", "fp16"]
    assert all(embedder.closed for embedder in made)


class Recorder:
    """A progress listener."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int | None, int]] = {}

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        done = 0

        def advance(units: int) -> None:
            nonlocal done
            done += units

        yield advance
        self.steps[title] = (total, done)


def test_progress_reaches_its_total(fake_bundle: Bundle) -> None:
    recorder = Recorder()
    verify_bundle(fake_bundle, make_embedder=make_fake, progress=recorder)
    count = 5 * len(TEXTS)
    assert recorder.steps.pop("Check hashes") == (None, 0)
    assert recorder.steps == {f"Verify {name}": (count, count) for name in NOISE}


def test_invariances_of_many_texts_are_sampled(fake_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedrt.parity.verify.MAX_INVARIANCE_TEXTS", 20)
    recorder = Recorder()
    report = verify_bundle(fake_bundle, variants=["fp32"], make_embedder=make_fake, progress=recorder)
    assert {found.num_texts for found in report.variants[0].invariances} == {20}
    total, done = recorder.steps["Verify fp32"]
    assert total == done
    assert "checked on 20 texts" in " ".join(report.notes())


def test_parity_files_round_trip(make_bundle: MakeBundle) -> None:
    files = read_parity_files(open_bundle(make_bundle()))
    assert files.texts == TEXTS
    assert np.array_equal(files.vectors, vectors_of(TEXTS))
    assert files.vectors.dtype == np.float32


def test_parity_files_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="do not belong together"):
        write_parity_files(tmp_path, ["one"], np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.json", b"["),
        ("texts.json", b'{"a": 1}'),
        ("texts.json", b'["a", 1]'),
        ("texts.json", b'["a"]'),
        ("texts.json", b"\xff"),
        ("vectors.npy", b""),
        ("vectors.npy", b"not numpy"),
        ("vectors.npy", b"\x93NUMPY\x01\x00"),
    ],
)
def test_broken_parity_files(fake_bundle: Bundle, name: str, content: bytes) -> None:
    fake_bundle.path(f"parity/{name}").write_bytes(content)
    with pytest.raises(BundleFormatError):
        read_parity_files(fake_bundle)


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((3, 2)), np.array([[None]])])
def test_vectors_of_another_kind(fake_bundle: Bundle, array: np.ndarray) -> None:
    np.save(fake_bundle.path("parity/vectors.npy"), array)
    with pytest.raises(BundleFormatError):
        read_parity_files(fake_bundle)


@pytest.mark.parametrize("name", ["texts.json", "vectors.npy"])
def test_missing_parity_files(fake_bundle: Bundle, name: str) -> None:
    fake_bundle.path(f"parity/{name}").unlink()
    with pytest.raises(BundleIntegrityError, match=f"lacks parity/{name}"):
        read_parity_files(fake_bundle)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        verify_bundle(tmp_path, make_embedder=make_fake)


def test_reports_are_saved(fake_bundle: Bundle, tmp_path: Path) -> None:
    report = verify_bundle(fake_bundle, variants=["fp32"], make_embedder=make_fake)
    as_json, as_html = save_report(report, tmp_path / "new" / "folder")
    assert (as_json.name, as_html.name) == ("report.json", "report.html")
    assert ParityReport.from_json(as_json.read_text(encoding="utf-8")) == report
    assert as_html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(as_json.read_text(encoding="utf-8"))["bundle"] == "fake"


def test_reports_that_cannot_be_saved(fake_bundle: Bundle, tmp_path: Path) -> None:
    report = verify_bundle(fake_bundle, variants=["fp32"], make_embedder=make_fake)
    (tmp_path / "file").touch()
    with pytest.raises(FileFormatError, match="cannot be written"):
        save_report(report, tmp_path / "file")


def test_verification_needs_numpy_only() -> None:
    code = (
        "import sys, embedrt.parity.verify, embedrt.parity.texts as t; t.builtin_texts();"
        "heavy = {'torch', 'transformers', 'onnx', 'scipy', 'rich', 'matplotlib', 'click'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
