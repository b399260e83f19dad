"""Correct masks for every form of input."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import pickle
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import CASE, MODEL, REPO, options, with_spec

import sulcus


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero((a == b) & (a > 0)) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_golden_case_gives_the_recorded_mask_through_numpy(segmenter: sulcus.Segmenter) -> None:
    (spec,) = segmenter.specs
    golden = spec["golden_case"]
    values = np.frombuffer(base64.b64decode(golden["data_base64"]), "<f4")
    array = values.reshape((*golden["shape"], golden["channels"]), order="F")
    codes = nibabel.orientations.axcodes2ornt(tuple(spec["orientation"]))
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (towards, sign) in enumerate(codes):
        affine[int(towards), axis] = sign * golden["spacing_mm"][axis]
    labels = segmenter.segment(array, affine).labels
    assert np.count_nonzero(labels) == golden["foreground_voxels"]
    assert hashlib.sha256(labels.astype("<u2").tobytes(order="F")).hexdigest() == golden["labels_sha256"]
    segmenter.replay_golden()


def test_mask_equals_that_of_the_binary_byte_for_byte(
    segmenter: sulcus.Segmenter, engine: str, binary: Path, image: nibabel.Nifti1Image, tmp_path: Path
) -> None:
    library = options(engine).get("ort_library")
    named = ["--ort-lib", library, "--device", "cpu"] if library else []
    theirs = tmp_path / "binary.nii.gz"
    command = [binary, "predict", "-m", MODEL, CASE, "-o", theirs, "--engine", engine, "--json", *named]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    found = segmenter.segment(image)
    assert np.array_equal(found.labels, np.asarray(nibabel.load(theirs).dataobj))
    assert found.labels.any()
    assert (found.engine, found.device, found.precision) == (engine, "cpu", said["precision"])
    assert found.tiles == said["tiles"]
    assert {s.name: {"value": s.value, "voxels": s.voxels, "ml": s.ml} for s in found.structures} == {
        name: {key: label[key] for key in ("value", "voxels", "ml")} for name, label in said["labels"].items()
    }
    ours = tmp_path / "python.nii.gz"
    by_file = segmenter.segment_file(CASE, ours)
    assert ours.read_bytes() == theirs.read_bytes()
    assert np.array_equal(by_file.labels, found.labels)
    assert np.array_equal(by_file.affine, image.affine)


def test_the_mask_resembles_what_a_person_drew(segmenter: sulcus.Segmenter, image: nibabel.Nifti1Image) -> None:
    truth = np.asarray(nibabel.load(CASE.with_name("truth.nii.gz")).dataobj)
    assert dice(segmenter.segment(image).labels, truth) > 0.8


def test_counts_and_volumes_are_those_of_the_mask(tract: sulcus.Segmenter, image: nibabel.Nifti1Image) -> None:
    found = tract.segment(image)
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert [s.name for s in found.structures] == ["Anterior", "Posterior"]
    assert found.label_names == {1: "Anterior", 2: "Posterior"}
    for structure in found.structures:
        assert structure.voxels == np.count_nonzero(found.labels == structure.value) > 0
        assert structure.ml == pytest.approx(structure.voxels * voxel_ml)
    assert found.labels.dtype == np.uint8
    assert found.seconds.infer >= found.seconds.engine > 0
    assert "Anterior" in repr(found) and "tract" in repr(tract)


def test_probabilities_have_the_masks_axes(tract: sulcus.Segmenter, image: nibabel.Nifti1Image) -> None:
    found = tract.segment(image, probabilities=True)
    assert found.classes == tract.classes == ("background", "Anterior", "Posterior")
    assert found.probabilities.shape == (3, *image.shape)
    assert found.probabilities.dtype == np.float32
    assert np.allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    # Postprocessing may take voxels away; the rest is where its class is the likeliest.
    inside = found.labels > 0
    assert np.array_equal(found.probabilities.argmax(axis=0)[inside], found.labels[inside])
    assert tract.segment(image).probabilities is None


DTYPES = ["u1", "i2", ">i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_real_type_gives_the_same_mask(tract: sulcus.Segmenter, case: tuple, dtype: str) -> None:
    array, affine = case
    # Numbers that every one of these types holds.
    small = np.round(array / array.max() * 200).astype(np.float64)
    expected = tract.segment(small, affine).labels
    assert expected.any()
    assert np.array_equal(tract.segment(small.astype(dtype), affine).labels, expected)


def test_bool_counts_as_0_and_1(tract: sulcus.Segmenter, case: tuple) -> None:
    array, affine = case
    inside = array > array.mean()
    expected = tract.segment(inside.astype(np.float32), affine).labels
    assert np.array_equal(tract.segment(inside, affine).labels, expected)


def unaligned(array: np.ndarray) -> np.ndarray:
    bytes_ = np.zeros(array.size * 4 + 1, np.uint8)
    view = np.frombuffer(bytes_, np.float32, array.size, offset=1).reshape(array.shape, order="F")
    view[...] = array
    return view


MEMORY = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "every second voxel of a larger array": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=2)[::2, :, ::2],
    "backwards in memory": lambda a: np.ascontiguousarray(a[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1),
    "unaligned single precision": unaligned,
    "read-only": lambda a: np.frombuffer(a.tobytes(order="C"), a.dtype).reshape(a.shape),
    "lists": lambda a: a.tolist(),
    "a channel axis of one": lambda a: a[..., np.newaxis],
    "a masked array without masked voxels": lambda a: np.ma.masked_array(a, mask=False),
}


@pytest.mark.parametrize("memory", MEMORY)
def test_any_order_in_memory_gives_the_same_mask(tract: sulcus.Segmenter, case: tuple, memory: str) -> None:
    array, affine = case
    before = array.copy()
    expected = tract.segment(array, affine)
    found = tract.segment(MEMORY[memory](array), affine)
    assert np.array_equal(found.labels, expected.labels)
    assert found.labels.shape == array.shape
    assert np.array_equal(array, before)


def test_all_48_orientations_give_the_same_mask(
    tract: sulcus.Segmenter, image: nibabel.Nifti1Image
) -> None:
    expected = tract.segment(image).labels
    turns = [
        np.array(list(zip(axes, signs, strict=True)))
        for axes in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]
    for turn in turns:
        turned = image.as_reoriented(turn)
        found = tract.segment(turned)
        assert found.labels.shape == turned.shape
        assert np.array_equal(found.affine, turned.affine)
        here = nibabel.orientations.apply_orientation(expected, turn)
        assert np.array_equal(found.labels, here), turn
    assert len(turns) == 48


def test_bytes_files_and_ensembles(tract: sulcus.Segmenter, image: nibabel.Nifti1Image) -> None:
    expected = tract.segment(image).labels
    content = MODEL.read_bytes()
    models = [str(MODEL), content, bytearray(content), memoryview(content), [MODEL], [MODEL, content]]
    for model in models:
        segmenter = sulcus.Segmenter(model, engine="tract")
        assert len(segmenter.specs) == (len(model) if isinstance(model, list) else 1)
        assert np.array_equal(segmenter.segment(image).labels, expected)


def test_options_reach_the_runtime(tract: sulcus.Segmenter, image: nibabel.Nifti1Image, case: tuple) -> None:
    plain = tract.segment(image)
    options = {"engine": "tract", "device": "cpu"}
    # The shipped model predicts whole slices. The step applies only to a model that predicts patches.
    patches = with_spec(tiling="patch")
    array, affine = case
    wide = np.tile(array[:4], (1, 2, 2))
    tiles = {step: sulcus.Segmenter(patches, step=step, **options).segment(wide, affine).tiles for step in (0.25, 1.0)}
    assert tiles[0.25] > 2 * tiles[1.0]
    # The shipped model has no mirror axes either.
    content = with_spec(mirror_axes=[0])
    mirrored = sulcus.Segmenter(content, mirror=True, **options).segment(image, probabilities=True).probabilities
    assert not np.allclose(mirrored, tract.segment(image, probabilities=True).probabilities)
    assert np.array_equal(sulcus.Segmenter(MODEL, threads=1, **options).segment(image).labels, plain.labels)
    assert np.array_equal(sulcus.Segmenter(MODEL, max_memory=2**40, **options).segment(image).labels, plain.labels)
    with pytest.raises(sulcus.SulcusError, match="memory limit of 1 MB is too small"):
        sulcus.Segmenter(MODEL, max_memory=1_000_000, **options).segment(image)


def test_pack_gives_the_masks_of_the_binary_and_of_totalsegmentator(binary: Path, tmp_path: Path) -> None:
    task = REPO / "crates" / "sulcus-nnunet" / "tests" / "fixtures" / "totalsegmentator"
    pack, scan, mask = task / "headneck_muscles.onnx", task / "scan.nii.gz", tmp_path / "mask.nii.gz"
    theirs = np.asarray(nibabel.load(task / "headneck_muscles.nii.gz").dataobj)
    for exact in (False, True):
        command = [binary, "predict", "-m", pack, scan, "-o", mask, "--engine", "native", *(["--exact"] if exact else [])]
        subprocess.run(command, check=True, capture_output=True)
        segmenter = sulcus.Segmenter(pack, engine="native", exact=exact)
        found = segmenter.segment(nibabel.load(scan))
        assert np.array_equal(found.labels, np.asarray(nibabel.load(mask).dataobj))
        assert np.array_equal(found.labels, theirs) == exact
        report = json.loads(found.report.json)
        assert [step["network"] for step in report["steps"]] == ["dataset_298", "dataset_778", "dataset_779"]
        assert ("numerics" in report) == exact
        assert len(found.structures) == len(found.label_names) == 23
    with pytest.raises(sulcus.ModelError, match="was not imported from nnU-Net"):
        sulcus.Segmenter(MODEL, exact=True)


def test_cache_folder_changes_no_mask(
    segmenter: sulcus.Segmenter, engine: str, image: nibabel.Nifti1Image, tmp_path: Path
) -> None:
    expected = segmenter.segment(image).labels
    folder = tmp_path / "made" / "kept"
    # The second segmenter uses the cached graph of the first.
    for _ in range(2):
        kept = sulcus.Segmenter(MODEL, cache_folder=folder, **options(engine))
        assert np.array_equal(kept.segment(image).labels, expected)
        assert engine != "ort" or len(list(folder.iterdir())) == 1


def test_scan_smaller_than_the_patch_is_padded_as_in_the_binary(
    tract: sulcus.Segmenter, case: tuple, binary: Path, tmp_path: Path
) -> None:
    array, affine = case
    assert all(edge >= 8 for edge in tract.specs[0]["patch"])
    middle = [edge // 2 for edge in array.shape]
    small = array[middle[0] - 3 : middle[0] + 3, middle[1] : middle[1] + 5, middle[2] : middle[2] + 4]
    for crop in (small, small[:2, :1, :1]):
        scan, mask = tmp_path / "small.nii", tmp_path / "mask.nii"
        nibabel.save(nibabel.Nifti1Image(crop, affine), scan)
        command = [binary, "predict", "-m", MODEL, scan, "-o", mask, "--engine", "tract"]
        subprocess.run(command, check=True, capture_output=True)
        found = tract.segment(crop, affine)
        assert found.labels.shape == crop.shape
        assert np.array_equal(found.labels, np.asarray(nibabel.load(mask).dataobj))
        mask.unlink()


def test_implausible_scans_get_typed_warnings_or_are_refused(
    image: nibabel.Nifti1Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def near(*values: float) -> dict[str, list[float]]:
        return {"min": list(values), "median": list(values), "max": list(values)}

    scans = {
        "cases": 4,
        "spacing_mm": near(1, 1, 1),
        "extent_mm": near(35, 53, 36),
        "channels": [{"percentile_00_5": [0, 1], "percentile_99_5": [90, 1e6], "max_mode_fraction": 0.1}],
    }
    model = with_spec(format_version=5, training_scans=scans)
    described, strict = (sulcus.Segmenter(model, engine="tract", strict=strict) for strict in (False, True))
    for segmenter in (described, strict):
        found = segmenter.segment(image)
        assert found.warnings == ()
        assert "warnings" not in json.loads(found.report.json)
        assert (found.report.tiles, found.report.engine) == (found.tiles, "tract")

    array = np.asarray(image.dataobj)
    wide = np.concatenate([array] * 3)
    with caplog.at_level("WARNING", "sulcus"):
        (warning,) = described.segment(wide, image.affine).report.warnings
    assert isinstance(warning, sulcus.ScanWarning)
    assert (warning.kind, warning.data["found_mm"]) == ("field_of_view", [105.0, 53.0, 36.0])
    assert str(warning) == warning.message and warning.message in caplog.text
    with pytest.raises(sulcus.InputError, match="the scan covers 105 × 53 × 36 mm") as refused:
        strict.segment(wide, image.affine)
    assert refused.value.warnings == (warning,)
    assert pickle.loads(pickle.dumps(refused.value)).warnings == (warning,)

    blank = np.full_like(array, 7)
    with pytest.raises(sulcus.InputError, match="is 7 in every voxel") as refused:
        described.segment(blank, image.affine)
    assert [warning.kind for warning in refused.value.warnings] == ["constant_channel"]
    with pytest.raises(sulcus.InputError) as refused:
        described.segment(array[0, 0], image.affine)
    assert refused.value.warnings == ()
    nibabel.save(nibabel.Nifti1Image(blank, image.affine), tmp_path / "blank.nii")
    with pytest.raises(sulcus.InputError, match="is 7 in every voxel"):
        described.segment_file(tmp_path / "blank.nii", tmp_path / "mask.nii")
    assert not (tmp_path / "mask.nii").exists()
    allowed = sulcus.Segmenter(MODEL, engine="tract", allow_constant=True)
    assert [warning.kind for warning in allowed.segment(blank, image.affine).warnings] == ["constant_channel"]
