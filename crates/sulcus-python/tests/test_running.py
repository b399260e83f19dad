"""GIL, threads, progress and Ctrl-C during a segmentation; and which ONNX Runtime is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import MODEL, named

import sulcus


@pytest.fixture(scope="module")
def long(case: tuple) -> tuple[np.ndarray, np.ndarray]:
    """A scan of many tiles."""
    array, affine = case
    return np.tile(array, (3, 2, 3)), affine


def test_other_threads_run_during_a_segmentation(segmenter: sulcus.Segmenter, long: tuple) -> None:
    beats: list[float] = []
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.002):
            beats.append(time.perf_counter())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        began = time.perf_counter()
        segmenter.segment(*long)
        ended = time.perf_counter()
    finally:
        over.set()
        thread.join()
    during = [at for at in beats if began < at < ended]
    gaps = np.diff([began, *during, ended])
    # If the GIL were held, there would be one gap as long as the segmentation.
    assert gaps.max() < (ended - began) / 2, (gaps.max(), ended - began)
    assert len(during) > 10


def test_threads_that_share_a_segmenter_get_their_own_masks(segmenter: sulcus.Segmenter, case: tuple) -> None:
    array, affine = case
    scans = [array[i:, : array.shape[1] - i, :: 1 + i % 2] for i in range(6)]
    expected = [segmenter.segment(scan, affine).labels for scan in scans]
    assert len({labels.tobytes() for labels in expected}) == len(scans)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda scan: segmenter.segment(scan, affine).labels, scans * 3))
    for labels, right in zip(found, expected * 3, strict=True):
        assert np.array_equal(labels, right)


def test_progress_counts_every_tile(tract: sulcus.Segmenter, long: tuple) -> None:
    seen: list[tuple[int, int]] = []
    found = tract.segment(*long, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, found.tiles) for i in range(found.tiles)]
    assert found.tiles > 1


class Enough(Exception):
    pass


def test_exception_from_progress_stops_the_segmentation_and_is_raised(segmenter: sulcus.Segmenter, long: tuple) -> None:
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise Enough("two are enough")

    with pytest.raises(Enough, match="two are enough") as caught:
        segmenter.segment(*long, progress=progress)
    assert caught.value.__cause__ is None
    assert len(seen) == 2 < seen[0][1]
    # A function with a wrong signature raises Python's own error.
    with pytest.raises(TypeError):
        segmenter.segment(*long, progress=lambda: None)
    with pytest.raises(TypeError):
        segmenter.segment(*long, progress=5)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_ctrl_c_stops_only_the_segmentation(tract: sulcus.Segmenter, case: tuple) -> None:
    array, affine = case
    # Would take minutes.
    endless = np.tile(array, (10, 8, 10))
    # A shell ignores SIGINT for background jobs, and Python keeps that setting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            tract.segment(endless, affine)
        assert time.monotonic() - began < 30
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert tract.segment(array, affine).labels.any()


WHICH = """
import sulcus, sys
try:
    s = sulcus.Segmenter(sys.argv[1], engine='ort', device='cpu')
except sulcus.SulcusError:
    s = sulcus.Segmenter(sys.argv[1], device='cpu')
s.replay_golden()
print(s.engine if s.engine == 'ort' else 'none', len(s.notes))
"""


def which(environment: dict[str, str], code: str = WHICH) -> str:
    """Whether a new Python process finds ONNX Runtime."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "XDG_DATA_HOME", "HOME")}
    command = [sys.executable, "-B", "-c", code, str(MODEL)]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def with_library(folder: Path) -> Path:
    library = named("SULCUS_ORT_LIB")
    folder.mkdir(parents=True)
    (folder / library.name).symlink_to(library.resolve())
    return folder


@pytest.fixture()
def alone() -> None:
    """Skips the test if this machine has another ONNX Runtime, which would hide a failure."""
    if which({"HOME": "/nonexistent"}) != "none 0":
        pytest.skip("this machine has an ONNX Runtime of its own")


def test_onnxruntime_package_of_the_environment_is_found(alone: None, tmp_path: Path) -> None:
    with_library(tmp_path / "onnxruntime" / "capi")
    # The package is found without an import, which would take longer than the segmentation.
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise SystemExit('imported')")
    assert which({"PYTHONPATH": str(tmp_path), "HOME": "/nonexistent"}) == "ort 0"


def test_library_installed_by_the_command_line_is_found(alone: None, tmp_path: Path) -> None:
    with_library(tmp_path / "sulcus" / "onnxruntime")
    assert which({"XDG_DATA_HOME": str(tmp_path), "HOME": "/nonexistent"}) == "ort 0"
    assert which({"XDG_DATA_HOME": "relative", "HOME": "/nonexistent"}) == "none 0"


def test_without_onnx_runtime_auto_is_built_in_and_a_named_engine_is_refused(alone: None) -> None:
    said = which({"HOME": "/nonexistent"}, "import sulcus, sys; s = sulcus.Segmenter(sys.argv[1]); print(s.engine, *s.notes)")
    assert said == "native" or ("ONNX Runtime was not found" in said and "pip install onnxruntime" in said), said
    for wanted in ("engine='ort'", "device='cuda'"):
        code = f"import sulcus, sys; sulcus.Segmenter(sys.argv[1], {wanted})"
        said = which({"HOME": "/nonexistent"}, code)
        assert said.splitlines()[-1].startswith("hint: `pip install onnxruntime`"), said
        assert "SulcusError: the " in said and "not found" in said
