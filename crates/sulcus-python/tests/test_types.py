"""The public types of the package, and the stubs of its native half."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

import sulcus

GOOD = """
import nibabel
import numpy as np
import sulcus
from numpy.typing import NDArray

device: sulcus.Device = "cuda:1"
precision: sulcus.Precision = "bf16"
segmenter = sulcus.Segmenter(["a.onnx", b"..."], engine="ort", device=device, precision=precision, threads=2)
found = segmenter.segment(np.zeros((3, 3, 3)), np.eye(4), progress=lambda done, total: print(done, total))
volumes: dict[str, float | None] = {s.name: s.ml for s in found.structures}
probabilities: NDArray[np.float32] | None = found.probabilities
report: sulcus.Report = found.report
kinds: list[str] = [warning.kind for warning in report.warnings]
"""
BAD = """
import numpy as np
import sulcus

segmenter = sulcus.Segmenter(5)
segmenter.segment(np.zeros((3, 3, 3)))
segmenter.segment(np.zeros((3, 3, 3)), np.eye(4), progress=lambda: None)
text: str = segmenter.segment(np.zeros((3, 3, 3)), np.eye(4)).structures
sulcus.Segmenter("a.onnx", engine="torch")
sulcus.Segmenter("a.onnx", device="tpu")
sulcus.Segmenter("a.onnx", precision="fp8")
"""


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


def test_mypy_checks_the_program_of_a_user(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(GOOD)
    bad.write_text(BAD)
    common = ["mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = mypy(*common, str(good))
    assert done.returncode == 0, done.stdout
    done = mypy(*common, str(bad))
    assert {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line} == {"5", "6", "7", "8", "9", "10", "11"}


def test_package_passes_mypy_strict(tmp_path: Path) -> None:
    done = mypy("mypy", "--strict", "--cache-dir", str(tmp_path), "-p", "sulcus")
    assert done.returncode == 0, done.stdout


def test_stubs_match_the_native_half() -> None:
    done = mypy("mypy.stubtest", "sulcus._sulcus")
    assert done.returncode == 0, done.stdout


def test_package_metadata() -> None:
    assert sulcus.__version__ == version("sulcus")
    said = metadata("sulcus")
    assert said["License-Expression"] == "MIT OR Apache-2.0"
    assert said["Requires-Python"] == ">=3.10"
    assert "nibabel.load" in said.get_payload()
    folder = Path(sulcus.__file__).parent
    assert (folder / "py.typed").is_file() and (folder / "_sulcus.pyi").is_file()
