"""Shared by the tests: the shipped model, the bundled case, and the engines of this machine.

`SULCUS_REPO` names the clone, `SULCUS_BIN` the `sulcus` binary to compare with, `SULCUS_ORT_LIB` an ONNX Runtime library.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

import sulcus

REPO = Path(os.environ.get("SULCUS_REPO", Path(__file__).resolve().parents[3]))
MODEL = REPO / "models" / "hippocampus" / "model.onnx"
CASE = REPO / "examples" / "data" / "case" / "image.nii.gz"


def named(variable: str) -> Path:
    """The file that an environment variable names. The test is skipped without it."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"${variable} is not set")
    return Path(value)


def varint(number: int) -> bytes:
    """A protobuf varint."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def with_spec(**changes: object) -> bytes:
    """The shipped model with a changed specification and the same graph."""

    def entry(spec: bytes) -> bytes:
        key = b"sulcus.spec"
        body = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(spec)) + spec
        return b"\x72" + varint(len(body)) + body

    content = MODEL.read_bytes()
    start = content.index(b'{"format_version"')
    text = content[start:].decode("utf-8", "replace")
    found, end = json.JSONDecoder().raw_decode(text)
    spec = text[:end].encode()
    assert content.count(entry(spec)) == 1
    return content.replace(entry(spec), entry(json.dumps({**found, **changes}).encode()))


def options(engine: str) -> dict[str, object]:
    """The arguments of a segmenter for an engine."""
    return {"engine": engine, **({"ort_library": named("SULCUS_ORT_LIB"), "device": "cpu"} if engine == "ort" else {})}


@pytest.fixture(scope="session", params=["tract", "native", "ort"])
def engine(request: pytest.FixtureRequest) -> str:
    options(request.param)
    return request.param


@pytest.fixture(scope="session")
def segmenter(engine: str) -> sulcus.Segmenter:
    return sulcus.Segmenter(MODEL, **options(engine))


@pytest.fixture(scope="session")
def tract() -> sulcus.Segmenter:
    """For tests that do not depend on the engine."""
    return sulcus.Segmenter(MODEL, engine="tract")


@pytest.fixture(scope="session")
def binary() -> Path:
    return named("SULCUS_BIN")


@pytest.fixture()
def image() -> nibabel.Nifti1Image:
    return nibabel.load(CASE)


@pytest.fixture(scope="session")
def case() -> tuple[np.ndarray, np.ndarray]:
    """The bundled case as an array in the file's type and memory order, and its affine."""
    loaded = nibabel.load(CASE)
    return np.asarray(loaded.dataobj), loaded.affine


@pytest.fixture()
def scan_file(tmp_path: Path) -> Path:
    return Path(shutil.copy(CASE, tmp_path / "scan.nii.gz"))
