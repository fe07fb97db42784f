from __future__ import annotations

from pathlib import Path

import pytest

from embedrt.errors import DependencyError, OptionError
from embedrt.executors import devices
from embedrt.executors.devices import choose_device


@pytest.fixture
def gpu_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where onnxruntime-gpu is installed."""
    monkeypatch.setattr(devices, "_may_have_cuda", lambda: True)
    monkeypatch.setattr(devices, "available_providers", lambda: ("CUDAExecutionProvider", "CPUExecutionProvider"))


def test_a_cpu_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[str, ...]:
        raise AssertionError("onnxruntime was asked")

    monkeypatch.setattr(devices, "available_providers", refuse)
    monkeypatch.setattr(devices, "_may_have_cuda", lambda: False)
    assert choose_device("cpu") == choose_device("auto") == "cpu"


@pytest.mark.usefixtures("gpu_wheel")
def test_auto_is_cuda_where_there_is_one() -> None:
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_a_gpu_wheel_whose_provider_does_not_load_leaves_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_may_have_cuda", lambda: True)
    monkeypatch.setattr(devices, "available_providers", lambda: ("CPUExecutionProvider",))
    assert choose_device("auto") == "cpu"
    with pytest.raises(DependencyError, match=r"needs onnxruntime's CUDAExecutionProvider, this one has CPU"):
        choose_device("cuda")


def test_there_are_no_other_devices() -> None:
    with pytest.raises(OptionError, match="must be one of auto, cpu, cuda, not 'tpu'"):
        choose_device("tpu")


def test_the_provider_is_found_by_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(devices, "find_spec", lambda name: Spec())
    assert not devices._may_have_cuda()
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").touch()
    assert devices._may_have_cuda()
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    assert not devices._may_have_cuda()
