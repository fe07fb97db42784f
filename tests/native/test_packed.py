"""Packed weights in a file: the same bits, written once, whole or not at all, and made anew when stale."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedrt import Embedder
from embedrt.bundle import Bundle
from embedrt.executors import library, native, packed
from embedrt.executors.native import NativeExecutor
from embedrt.executors.packed import PackedFile
from embedrt.opening import open_bundle
from tests.native import made
from tests.native.made import Shape

BATCH = made.random_batch([1, 30, 7], 80)


@pytest.fixture
def bundle(tmp_path: Path, native_isas: dict[str, bool]) -> Bundle:
    """A FFN that is no multiple of a panel, outlying neurons, and one product kept wide."""
    shape = Shape(hidden=96, layers=2, heads=3, ffn=208, vocabulary=80, wide=frozenset({"ffn_down"}))
    return made.write_bundle(tmp_path / "bundle", shape)


def run(
    bundle: Bundle, isa: str = "auto", *, packed_cache: bool | Path = True, threads: int = 2
) -> NDArray[np.float32]:
    executor = NativeExecutor(bundle, "int8", num_threads=threads, isa=isa, packed_cache=packed_cache)
    try:
        return executor.run(BATCH)
    finally:
        executor.close()


def reason(bundle: Bundle, *, check: bool = True) -> str:
    executor = NativeExecutor(bundle, "int8", num_threads=1, packed_cache=True, check_packed=check)
    executor.close()
    return executor.packed_reason


def only_file(bundle: Bundle) -> Path:
    (path,) = (bundle.root / packed.FOLDER).glob("*.bin")
    return path


def test_the_same_bits_from_the_file(bundle: Bundle, isa: str) -> None:
    wanted = run(bundle, isa, packed_cache=False)
    assert not (bundle.root / packed.FOLDER).exists(), "nothing is kept unless asked for"
    np.testing.assert_array_equal(run(bundle, isa), wanted)
    written = only_file(bundle)
    before = (written.stat().st_ino, written.read_bytes())
    assert written.name == f"int8-{isa}.bin"
    np.testing.assert_array_equal(run(bundle, isa, threads=1), wanted)
    assert (written.stat().st_ino, written.read_bytes()) == before, "the second load uses it as it is"
    written.unlink()
    run(bundle, isa)
    assert written.read_bytes() == before[1], "packing gives the same bytes each time"
    assert open_bundle(bundle.root).manifest == bundle.manifest, "a bundle is as valid with it"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data[64:],
        lambda data: data + b"\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-80] + bytes(80),
    ],
    ids=["empty", "short", "cut", "beginning lost", "longer", "a bit", "no footer"],
)
def test_a_damaged_file_is_made_anew(bundle: Bundle, damage) -> None:
    wanted = run(bundle)
    path = only_file(bundle)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    np.testing.assert_array_equal(run(bundle), wanted)
    assert path.read_bytes() == good


def test_without_checking_only_the_footer_is_read(bundle: Bundle) -> None:
    run(bundle)
    path = only_file(bundle)
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert "mapped" in reason(bundle, check=False)
    assert path.read_bytes() != good
    assert "mapped" in reason(bundle)
    assert path.read_bytes() == good


def test_other_weights_and_another_module_make_it_anew(bundle: Bundle, tmp_path: Path, monkeypatch) -> None:
    run(bundle)
    path = only_file(bundle)
    first = path.read_bytes()
    other = made.write_bundle(tmp_path / "other", Shape(hidden=96, layers=2, heads=3, ffn=208, vocabulary=80), seed=1)
    wanted = run(other)
    only_file(other).write_bytes(first)  # as if the bundle had been exported over an older one
    np.testing.assert_array_equal(run(other), wanted)
    rebuilt = tmp_path / "rebuilt.so"
    load = native.load_library
    rebuilt.write_bytes(Path(load()._name).read_bytes() + b"\0")
    monkeypatch.setattr(native, "load_library", lambda: load(rebuilt))
    inode = path.stat().st_ino
    run(bundle)
    assert path.stat().st_ino != inode


def test_another_encoder_has_another_key(bundle: Bundle) -> None:
    """Q's factor is packed into its weight."""
    spec = native.encoder_of(bundle, "int8")
    attention = dataclasses.replace(spec.blocks[0].attention, scale=0.5)
    other = dataclasses.replace(
        spec, blocks=(dataclasses.replace(spec.blocks[0], attention=attention), *spec.blocks[1:])
    )
    bundles = (
        dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, encoder=one))
        for one in (None, spec, other)
    )
    keys = [packed.packed_file(one, "int8", "avx2", library._find_library()).key for one in bundles]
    assert len(set(keys)) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_bundle_still_works(bundle: Bundle) -> None:
    wanted = run(bundle, packed_cache=False)
    bundle.root.chmod(0o555)
    try:
        np.testing.assert_array_equal(run(bundle), wanted)
        assert "cannot be written" in reason(bundle)
    finally:
        bundle.root.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_no_error(bundle: Bundle) -> None:
    wanted = run(bundle, packed_cache=False)
    (bundle.root / packed.FOLDER).write_text("a file where the folder would be")
    np.testing.assert_array_equal(run(bundle), wanted)
    assert "cannot be written" in reason(bundle)


def test_a_full_disk_is_no_error(bundle: Bundle, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    wanted = run(bundle, packed_cache=False)
    monkeypatch.setattr(packed.os, "fsync", full)
    np.testing.assert_array_equal(run(bundle), wanted)
    assert "No space left" in reason(bundle)
    assert not [path for path in (bundle.root / packed.FOLDER).iterdir() if path.suffix != ".lock"]


def test_another_folder(bundle: Bundle, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDRT_PACKED_DIR", str(tmp_path / "of the environment"))  # is the commands' to read
    folder = tmp_path / "kept" / "here"
    wanted = run(bundle, packed_cache=folder)
    assert not (bundle.root / packed.FOLDER).exists()
    assert not (tmp_path / "of the environment").exists()
    assert len(list(folder.glob("*.bin"))) == 1
    np.testing.assert_array_equal(run(bundle, packed_cache=folder), wanted)


def test_several_processes_write_it_once(bundle: Bundle) -> None:
    program = (
        "import sys; from embedrt.opening import open_bundle; from embedrt.executors.native import NativeExecutor\n"
        "e = NativeExecutor(open_bundle(sys.argv[1]), 'int8', num_threads=1, packed_cache=True)\n"
        "print(e.packed_reason)"
    )
    command = [sys.executable, "-c", program, str(bundle.root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert all("mapped from" in process.communicate()[0] for process in running)
    assert sorted(path.suffix for path in (bundle.root / packed.FOLDER).iterdir()) == [".bin", ".lock"]


def test_a_process_that_is_killed_while_it_writes_leaves_no_file(bundle: Bundle, tmp_path: Path) -> None:
    """It is killed between the data and the rename; the next one is not kept waiting, and writes the file."""
    program = (
        "import os, pathlib, sys, time; from embedrt.executors import library, native, packed\n"
        "from embedrt.opening import open_bundle\n"
        "library.LIBRARY = pathlib.Path(sys.argv[3])\n"
        "packed.os.fsync = lambda _: (open(sys.argv[2], 'w').close(), time.sleep(60))\n"
        "native.NativeExecutor(open_bundle(sys.argv[1]), 'int8', num_threads=1, packed_cache=True)\n"
    )
    reached = tmp_path / "reached"
    arguments = [str(bundle.root), str(reached), str(library.LIBRARY)]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments])
    try:
        deadline = time.monotonic() + 60
        while not reached.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert reached.exists()
    assert not list((bundle.root / packed.FOLDER).glob("*.bin"))
    np.testing.assert_array_equal(run(bundle), run(bundle, packed_cache=False))
    assert not list((bundle.root / packed.FOLDER).glob("*.partial"))


def test_the_embedder_keeps_it_where_asked(tiny_bundle: Path, native_isas: dict[str, bool], tmp_path: Path) -> None:
    with Embedder(tiny_bundle, variant="int8", executor="native") as embedder:
        wanted = embedder.encode("why is the sky blue?")
    assert not (tmp_path / "kept").exists()
    for folder in (tmp_path / "kept", str(tmp_path / "kept")):
        with Embedder(tiny_bundle, variant="int8", executor="native", packed_cache=folder) as embedder:
            np.testing.assert_array_equal(embedder.encode("why is the sky blue?"), wanted)
    assert len(list((tmp_path / "kept").glob("*.bin"))) == 1


def test_a_file_is_mapped_only_by_its_own_key(tmp_path: Path) -> None:
    one, other = PackedFile(tmp_path / "a.bin", "1" * 64), PackedFile(tmp_path / "a.bin", "2" * 64)
    assert one.map(check=True) is None
    with one.lock():
        one.write(memoryview(b"x" * 1000))
    assert other.map(check=True) is None
    mapped = one.map(check=True)
    assert mapped is not None
    assert mapped[: packed.data_size(mapped)] == b"x" * 1000
