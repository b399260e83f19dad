"""Invalid input: each gets an error, and none causes a panic, which would not be an `Exception`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import CASE, MODEL, named, with_spec

import sulcus

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
ARRAY = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)


def with_value(value: float) -> np.ndarray:
    array = ARRAY.astype(np.float64)
    array[1, 2, 3] = value
    return array


SCANS = {
    "a number": (5.0, AFFINE, r"three axes \(x, y, z\), or four .* found shape \(\)"),
    "one axis": (np.zeros(5), AFFINE, r"found shape \(5,\)"),
    "two axes": (np.zeros((5, 4)), AFFINE, r"found shape \(5, 4\)"),
    "five axes": (np.zeros((5, 4, 3, 2, 2)), AFFINE, r"found shape \(5, 4, 3, 2, 2\)"),
    "channels": (np.zeros((5, 4, 3, 2)), AFFINE, r"expects 1 channel.* has 2: channels are the last of its axes"),
    "no channel": (np.zeros((5, 4, 3, 0)), AFFINE, r"the scan has 0"),
    "channels first": (np.zeros((1, 5, 4, 3)), AFFINE, r"the scan has 3: .* \(1, 5, 4, 3\)"),
    "an empty first axis": (np.zeros((0, 4, 3)), AFFINE, r"at least one voxel .* \[0, 4, 3\]"),
    "an empty last axis": (np.zeros((5, 4, 0)), AFFINE, r"at least one voxel .* \[5, 4, 0\]"),
    "more than any machine": (np.broadcast_to(1.0, (2**20, 2**20, 2)), AFFINE, r"fewer than 2\^40"),
    "NaN": (with_value(np.nan), AFFINE, r"1 voxel\(s\) that are not finite numbers"),
    "infinity": (with_value(-np.inf), AFFINE, r"1 voxel\(s\) that are not finite numbers"),
    "beyond single precision": (with_value(1e300), AFFINE, r"1 voxel\(s\) that are not finite numbers"),
    "one value": (np.full((6, 5, 4), 7), AFFINE, r"channel `MRI` is 7 in every voxel, so it shows nothing"),
    "complex": (ARRAY.astype(complex), AFFINE, r"real numbers .* found dtype complex128"),
    "objects": (ARRAY.astype(object), AFFINE, r"real numbers .* found dtype object"),
    "text": (ARRAY.astype(str), AFFINE, r"real numbers .* found dtype <U"),
    "times": (ARRAY.astype("m8[s]"), AFFINE, r"real numbers .* found dtype timedelta64"),
    "colours": (np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1")]), AFFINE, r"real numbers .* found dtype \["),
    "ragged lists": ([[1.0, 2.0], [3.0]], AFFINE, r"cannot be converted to a NumPy array"),
    "masked voxels": (np.ma.masked_less(ARRAY, 10), AFFINE, r"masked voxels"),
    "none": (None, AFFINE, r"found dtype object"),
    "a path": (str(CASE), AFFINE, r"found dtype <U"),
    "no affine": (ARRAY, None, r"an array needs its affine"),
    "a 3×3 affine": (ARRAY, np.eye(3), r"4×4 array .* found shape \(3, 3\)"),
    "a 3×4 affine": (ARRAY, AFFINE[:3], r"found shape \(3, 4\)"),
    "a list of spacings": (ARRAY, [1, 1, 1], r"found shape \(3,\)"),
    "a ragged affine": (ARRAY, [[1, 0], [0]], r"the affine must be a 4×4 array"),
    "an affine of text": (ARRAY, AFFINE.astype(str), r"affine must hold real numbers"),
    "a complex affine": (ARRAY, AFFINE.astype(complex), r"affine must hold real numbers"),
    "a projective affine": (ARRAY, AFFINE[::-1], r"last row must be 0, 0, 0, 1, found 1, 0, 0, 0"),
    "a column of zeros": (ARRAY, np.diag([1, 0, 1, 1]), r"cannot be used: one of its columns is zero"),
    "a singular affine": (
        ARRAY,
        [[1, 2, 0, 0], [2, 4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        r"cannot be used: its columns lie in a plane",
    ),
    "an affine with NaN": (ARRAY, np.diag([1, np.nan, 1, 1]), r"not a finite number"),
}


@pytest.mark.parametrize("kind", SCANS)
def test_unusable_scans_are_refused(tract: sulcus.Segmenter, kind: str) -> None:
    array, affine, message = SCANS[kind]
    with pytest.raises(sulcus.InputError, match=f"(?s){message}") as caught:
        tract.segment(array, affine)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, sulcus.SulcusError)
    # The next scan is still segmented.
    assert tract.segment(ARRAY, AFFINE).labels.shape == ARRAY.shape


def test_nan_is_refused_on_every_engine_and_in_every_form(segmenter: sulcus.Segmenter) -> None:
    array = with_value(np.nan)
    for scan in [(array, AFFINE), (array[..., np.newaxis], AFFINE), (nibabel.Nifti1Image(array, AFFINE),)]:
        with pytest.raises(sulcus.InputError, match="1 voxel.* not finite"):
            segmenter.segment(*scan)


MODEL_BYTES = MODEL.read_bytes()

MODELS = {
    "nothing": (b"", "ONNX"),
    "text": (b"this is no model", "not an ONNX file"),
    "a scan": (CASE, "(?s)image.nii.gz cannot be used: this is not an ONNX file"),
    "half a model": (MODEL_BYTES[: len(MODEL_BYTES) // 2], "damaged or cut short"),
    "a newer model": (with_spec(format_version=9), r"its format version is 9, this program knows 1 to [0-9]+: use a newer sulcus"),
    "other fields": (with_spec(colour="red"), "colour"),
    "an unchecked model": (with_spec(format_version=5, unchecked="logits differ"), "did not pass its check.*logits differ"),
    "a missing file": ("no-such.onnx", "(?s)could not read the model file.*no-such.onnx"),
    "a folder": (CASE.parent, "could not read the model file"),
    "no model": ([], "no model was given"),
    "a number": (5, "a model is a path or bytes"),
    "none": (None, "a model is a path or bytes"),
    "a list of none": ([MODEL, None], "a model is a path or bytes"),
    "one good and one bad": ([MODEL, b"text"], "model 2 of 2 cannot be used"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_unusable_models_are_refused(kind: str) -> None:
    model, message = MODELS[kind]
    with pytest.raises(sulcus.ModelError, match=message) as caught:
        sulcus.Segmenter(model, engine="tract")
    assert isinstance(caught.value, ValueError)


def test_an_unchecked_model_is_taken_where_it_is_allowed() -> None:
    model = with_spec(format_version=5, unchecked="logits differ")
    segmenter = sulcus.Segmenter(model, engine="tract", allow_unchecked=True)
    assert any("did not pass its check" in note for note in segmenter.notes)


OPTIONS = {
    "engine": ({"engine": "torch"}, "`torch` is not an engine: expected auto, native, ort or tract"),
    "device": ({"device": "tpu"}, "`tpu`"),
    "a device that the engine lacks": ({"engine": "tract", "device": "cuda"}, "the device `cuda.*` cannot be used"),
    "a device for training": ({"engine": "tract", "device": "vulkan"}, "training device"),
    "step": ({"step": 0.0}, r"step must lie in \(0, 1\]"),
    "a step of NaN": ({"step": float("nan")}, r"step must lie in \(0, 1\]"),
    "threads": ({"threads": 0}, "threads must be a whole number from 1 on"),
    "negative threads": ({"threads": -1}, "threads must be a whole number from 1 on"),
    "half a thread": ({"threads": 1.5}, "threads must be a whole number"),
    "half precision where there is none": ({"engine": "tract", "device": "cpu", "precision": "bf16"}, "half precision"),
    "fp16 where there is none": ({"engine": "tract", "device": "cpu", "precision": "fp16"}, "half precision"),
    "the other half precision": ({"device": "openvino", "precision": "fp16"}, "`openvino`"),
    "precision": ({"precision": "fp8"}, "`fp8` is not a precision: expected native, bf16 or fp16"),
    "memory": ({"max_memory": 0}, "max_memory must be a whole number"),
    "memory as text": ({"max_memory": "2GB"}, "max_memory must be a whole number"),
    "endless memory": ({"max_memory": 2**70}, "max_memory must be a whole number"),
    "a missing library": ({"engine": "ort", "ort_library": "/no/such.so"}, "(?s)`ort_library`.*no/such.so"),
    "a library that is none": ({"engine": "ort", "ort_library": CASE}, "(?s)`ort_library`.*image.nii.gz"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_invalid_options_are_refused(kind: str) -> None:
    options, message = OPTIONS[kind]
    with pytest.raises(sulcus.SulcusError, match=message):
        sulcus.Segmenter(MODEL, **options)


@pytest.mark.parametrize(
    "device, message", [("cpu", "half precision"), ("openvino", "openvino"), ("tensorrt", "tensorrt")]
)
def test_half_is_a_deprecated_alias_of_precision(device: str, message: str) -> None:
    with pytest.warns(DeprecationWarning, match="`half` is deprecated: use precision"):
        with pytest.raises(sulcus.SulcusError, match=message) as caught:
            sulcus.Segmenter(MODEL, engine="tract", device=device, half=True)
    # The alias selects the precision that the device has.
    assert "it computes in" not in str(caught.value)
    with pytest.warns(DeprecationWarning), pytest.raises(sulcus.SulcusError, match="contradict each other"):
        sulcus.Segmenter(MODEL, engine="tract", device="cpu", half=True, precision="fp16")
    with pytest.warns(DeprecationWarning):
        assert sulcus.Segmenter(MODEL, engine="tract", half=False).engine == "tract"


def test_second_onnx_runtime_is_refused(tmp_path: Path) -> None:
    library = named("SULCUS_ORT_LIB")
    sulcus.Segmenter(MODEL, engine="ort", ort_library=library)
    other = tmp_path / library.name
    other.write_bytes(b"")
    with pytest.raises(sulcus.SulcusError, match="can load only one ONNX Runtime"):
        sulcus.Segmenter(MODEL, engine="ort", ort_library=other)


def test_random_arrays_and_affines_never_panic(tract: sulcus.Segmenter) -> None:
    """A panic would be raised as `pyo3_runtime.PanicException`, which is not an `Exception`."""
    random = np.random.default_rng(7)
    kinds = [np.float32, np.int16, np.uint8, np.complex64, object, bool, "f2", "U3"]
    values = [0.0, 1.0, -1.0, 1e-30, 1e30, np.nan, np.inf, 5.0]
    segmented = 0
    for _ in range(150):
        shape = tuple(random.integers(0 if random.random() < 0.1 else 1, 5, random.choice([0, 1, 2, 3, 3, 3, 3, 4, 5])))
        array = random.normal(0, 100, shape).astype(kinds[random.integers(len(kinds))])
        affine = np.eye(4)
        affine[random.integers(3), random.integers(4)] = values[random.integers(len(values))]
        try:
            segmented += tract.segment(array, affine).labels.shape == shape[:3]
        except sulcus.InputError as error:
            assert str(error)
    assert segmented > 5


def test_segmenter_cannot_be_pickled(tract: sulcus.Segmenter) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(tract)


def test_masks_are_freed_with_their_segmentation(tract: sulcus.Segmenter, case: tuple) -> None:
    labels = tract.segment(*case).labels
    labels[...] = 7
    assert labels.flags.writeable and sys.getrefcount(labels) < 5
    assert tract.segment(*case).labels.max() < 7
