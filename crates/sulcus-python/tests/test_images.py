"""nibabel images and files: the grid is copied exactly, the patient's name is not."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from conftest import CASE, MODEL

import sulcus

PLACE = ["dim_info", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"]
PLACE += ["qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "pixdim"]


def test_header_of_a_mask_equals_that_of_the_binary(
    tract: sulcus.Segmenter, image: nibabel.Nifti1Image, binary: Path, tmp_path: Path
) -> None:
    # Codes, a unit, and a qform that differs from the sform: all of them must be copied.
    image.set_sform(image.affine, code=4)
    image.set_qform(image.affine @ np.diag([1, 1, 1.5, 1]), code=3)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"DOE^JANE"
    scan, theirs, ours = (tmp_path / name for name in ("scan.nii.gz", "theirs.nii.gz", "ours.nii.gz"))
    nibabel.save(image, scan)
    command = [binary, "predict", "-m", MODEL, scan, "-o", theirs, "--engine", "tract"]
    subprocess.run(command, check=True, capture_output=True)
    nibabel.save(tract.segment(nibabel.load(scan)).to_nibabel(), ours)
    theirs, ours = nibabel.load(theirs), nibabel.load(ours)
    assert type(ours) is nibabel.Nifti1Image
    for field in [*PLACE, "intent_code", "datatype", "bitpix", "dim", "descrip", "intent_name"]:
        assert np.array_equal(ours.header[field], theirs.header[field]), field
    assert int(ours.header["sform_code"]) == 4 and int(ours.header["qform_code"]) == 3
    assert int(ours.header["intent_code"]) == 1002
    assert b"JANE" not in ours.header.binaryblock
    assert np.array_equal(ours.dataobj, theirs.dataobj)
    (extension,), (expected,) = ours.header.extensions, theirs.header.extensions
    assert extension.get_code() == expected.get_code() == 6
    names = json.loads(bytes(extension.content).rstrip(b"\0"))
    assert names == json.loads(bytes(expected.content).rstrip(b"\0"))
    assert [label["name"] for label in names["labels"]] == ["Anterior", "Posterior"]


def test_binary_reads_label_names_from_a_saved_mask(
    tract: sulcus.Segmenter, image: nibabel.Nifti1Image, binary: Path, tmp_path: Path
) -> None:
    mask, slicers = tmp_path / "mask.nii.gz", tmp_path / "mask.seg.nrrd"
    nibabel.save(tract.segment(image).to_nibabel(), mask)
    subprocess.run([binary, "convert", mask, slicers], check=True, capture_output=True)
    header = slicers.read_bytes().split(b"\n\n")[0].decode()
    assert "Segment0_Name:=Anterior" in header and "Segment1_Name:=Posterior" in header


def test_nifti_2_stays_nifti_2(tract: sulcus.Segmenter, image: nibabel.Nifti1Image) -> None:
    found = tract.segment(nibabel.Nifti2Image.from_image(image)).to_nibabel()
    assert type(found) is nibabel.Nifti2Image
    assert np.array_equal(found.affine, image.affine)


def test_affine_of_an_array_places_the_mask(tract: sulcus.Segmenter, case: tuple) -> None:
    array, affine = case
    angle = 0.3
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    shear = np.eye(4)
    shear[0, 1] = 0.2
    for change, qform in [(np.eye(4), 1), (turn, 1), (shear, 0)]:
        there = change @ affine
        mask = tract.segment(array, there).to_nibabel()
        assert np.allclose(mask.affine, there)
        assert np.allclose(mask.get_sform(), there, atol=1e-4)
        assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (1, qform)
        assert mask.header.get_xyzt_units()[0] == "mm"


def test_affine_changed_in_memory_is_used(tract: sulcus.Segmenter, image: nibabel.Nifti1Image) -> None:
    moved = image.affine.copy()
    moved[:3, 3] += [10, -5, 2]
    changed = nibabel.Nifti1Image(image.dataobj, moved, image.header)
    mask = tract.segment(changed).to_nibabel()
    assert np.allclose(mask.affine, moved)
    assert np.allclose(mask.header.get_best_affine(), moved, atol=1e-3)


def test_slope_and_intercept_are_applied(tract: sulcus.Segmenter, case: tuple, tmp_path: Path) -> None:
    array, affine = case
    stored = nibabel.Nifti1Image(np.asarray(array, np.int16), affine)
    stored.header.set_slope_inter(0.25, -3)
    scaled = tmp_path / "scaled.nii"
    nibabel.save(stored, scaled)
    loaded = nibabel.load(scaled)
    assert loaded.dataobj.slope != 1
    expected = tract.segment_file(scaled, tmp_path / "mask.nii").labels
    assert np.array_equal(tract.segment(loaded).labels, expected)
    assert np.array_equal(tract.segment(loaded.get_fdata(), affine).labels, expected)


def test_channels_along_the_fifth_axis_and_other_formats(
    tract: sulcus.Segmenter, image: nibabel.Nifti1Image, case: tuple
) -> None:
    array, affine = case
    expected = tract.segment(image).labels
    for axes in (1, 2):
        longer = nibabel.Nifti1Image(array.reshape((*array.shape, *[1] * axes)), affine)
        assert np.array_equal(tract.segment(longer).labels, expected)
    # FreeSurfer's format has no NIfTI header.
    other = tract.segment(nibabel.MGHImage(array.astype(np.float32), affine.astype(np.float32)))
    assert np.array_equal(other.labels, expected)
    assert np.allclose(other.to_nibabel().affine, affine, atol=1e-4)
    duck = SimpleNamespace(dataobj=array, affine=affine)
    assert np.array_equal(tract.segment(duck).labels, expected)


def test_missing_geometry_is_refused_or_warned_about(
    tract: sulcus.Segmenter, image: nibabel.Nifti1Image, caplog: pytest.LogCaptureFixture
) -> None:
    array = np.asarray(image.dataobj)
    with pytest.raises(sulcus.InputError, match="no affine"):
        tract.segment(nibabel.Nifti1Image(array, None))
    with pytest.raises(sulcus.InputError, match="affine of its own"):
        tract.segment(image, image.affine)
    for unit, name in [("micron", "micrometres"), ("meter", "metres")]:
        doubtful = nibabel.Nifti1Image(array, image.affine)
        doubtful.header.set_xyzt_units(unit)
        with pytest.raises(sulcus.InputError, match=f"counts in {name}, expected millimetres"):
            tract.segment(doubtful)
    unplaced = nibabel.Nifti1Image(array, None, image.header)
    unplaced.header["sform_code"] = unplaced.header["qform_code"] = 0
    unplaced = nibabel.Nifti1Image.from_bytes(unplaced.to_bytes())
    with caplog.at_level(logging.WARNING, "sulcus"):
        found = tract.segment(unplaced)
    assert "left and right are unknown" in caplog.text
    assert [warning.kind for warning in found.warnings] == ["unknown_orientation"]
    with pytest.raises(sulcus.InputError, match="left and right are unknown"):
        sulcus.Segmenter(MODEL, engine="tract", strict=True).segment(unplaced)
    mask = found.to_nibabel()
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (0, 0)
    assert np.allclose(mask.header.get_best_affine(), unplaced.affine)


def test_files(tract: sulcus.Segmenter, image: nibabel.Nifti1Image, scan_file: Path, tmp_path: Path) -> None:
    before = scan_file.read_bytes()
    with pytest.raises(sulcus.InputError, match="overwrite the scan itself"):
        tract.segment_file(scan_file, scan_file)
    assert scan_file.read_bytes() == before
    with pytest.raises(sulcus.InputError, match="no-such.nii.gz"):
        tract.segment_file(tmp_path / "no-such.nii.gz", tmp_path / "mask.nii.gz")
    with pytest.raises(sulcus.InputError, match="README.md"):
        tract.segment_file(CASE.parents[1] / "README.md", tmp_path / "mask.nii.gz")
    with pytest.raises(sulcus.SulcusError, match="nowhere"):
        tract.segment_file(scan_file, tmp_path / "nowhere" / "mask.nii.gz")
    with pytest.raises(sulcus.SulcusError, match="mask.png"):
        tract.segment_file(scan_file, tmp_path / "mask.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nii.gz"]
    seen = []
    found = tract.segment_file(
        str(scan_file), tmp_path / "mask.nrrd", probabilities=True, progress=lambda *tiles: seen.append(tiles)
    )
    assert (tmp_path / "mask.nrrd").is_file()
    assert found.probabilities.shape == (3, *image.shape)
    assert seen[-1] == (found.tiles, found.tiles)
