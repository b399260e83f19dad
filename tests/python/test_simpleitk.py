"""NRRD, MetaImage and NIfTI between Sulcus and SimpleITK: the same values at the same positions in the patient, in both directions.

Each direction is also compared with a third reader, nibabel, so that two mistakes of ours cannot cancel out.

Needs numpy, nibabel, SimpleITK, pytest; SULCUS_BIN names the program.
"""

import json
import os
import subprocess

import nibabel
import numpy as np
import pytest

SimpleITK = pytest.importorskip("SimpleITK")

SULCUS = os.environ.get("SULCUS_BIN")
pytestmark = pytest.mark.skipif(not SULCUS, reason="SULCUS_BIN does not name the program")

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
TEXT_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd")
SHAPE = (5, 6, 7)
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])
# The rounding error of positions of about 100 mm in the single precision of NIfTI headers.
PLACE_TOLERANCE_MM = 1e-4


def rotation(degrees):
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


PERMUTED = np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]])
# Direction cosines (axes in columns), voxel sizes and the position of the first voxel, in LPS as in ITK.
GRIDS = {
    "straight": (np.eye(3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "anisotropic": (np.diag([-1.0, -1, 1]), (0.4, 0.75, 5.0), (-90.5, 126.0, -72.25)),
    "oblique": (rotation((20, -35, 50)), (0.9, 1.1, 2.4), (12.5, -80.0, 33.3)),
    "permuted": (PERMUTED, (0.5, 3.0, 1.2), (10.0, 20.0, 30.0)),
    "left-handed": (np.diag([1.0, 1, -1]), (1.0, 1.5, 2.0), (5.0, 6.0, 7.0)),
    "left-handed and oblique": (rotation((-15, 70, 5)) @ np.diag([1.0, -1, 1]), (2.0, 0.7, 1.3), (-40.0, 9.0, 77.0)),
}


def values(dtype, shape=SHAPE, seed=1):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        out = rng.normal(0, 100, shape).astype(dtype)
        out.flat[0] = np.nan
        return out
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def ras_from_voxel(direction, spacing, origin):
    affine = np.eye(4)
    affine[:3, :3] = LPS_FROM_RAS @ np.asarray(direction).reshape(3, 3) @ np.diag(spacing)
    affine[:3, 3] = LPS_FROM_RAS @ np.asarray(origin)
    return affine


def placed(image):
    return ras_from_voxel(image.GetDirection(), image.GetSpacing(), image.GetOrigin())


def itk(data, grid, vector=False):
    """`data` is in file order, x first, and channels last for a vector image."""
    direction, spacing, origin = GRIDS[grid]
    turned = data.transpose(2, 1, 0, 3) if vector else data.T
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(turned), isVector=vector)
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def array(image):
    """In file order, x first, channels last."""
    data = SimpleITK.GetArrayFromImage(image)
    return data.transpose(2, 1, 0, 3) if image.GetNumberOfComponentsPerPixel() > 1 else data.T


def convert(source, target, *more):
    done = subprocess.run([SULCUS, "convert", source, target, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def info(path):
    done = subprocess.run([SULCUS, "info", path, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def same_place(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=PLACE_TOLERANCE_MM)


@pytest.mark.parametrize("ending", TEXT_FORMATS)
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "packed"])
def test_files_from_simpleitk_are_read_unchanged(tmp_path, ending, packed):
    for dtype in TYPES:
        grid = list(GRIDS)[TYPES.index(dtype) % len(GRIDS)]
        data = values(dtype)
        source = tmp_path / f"{dtype}{ending}"
        SimpleITK.WriteImage(itk(data, grid), source, useCompression=packed)
        convert(source, tmp_path / "ours.nii")
        ours = nibabel.load(tmp_path / "ours.nii")
        assert ours.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asanyarray(ours.dataobj), data)
        same_place(ours.affine, ras_from_voxel(*GRIDS[grid]))
        told = info(source)
        assert told["shape"] == list(SHAPE) and told["dtype"] == dtype
        assert "orientation_source" not in told
        same_place(told["ras_from_voxel"], ras_from_voxel(*GRIDS[grid]))


@pytest.mark.parametrize("ending", [*TEXT_FORMATS, ".nii", ".nii.gz", ".hdr", ".img.gz"])
def test_written_files_are_read_by_simpleitk_unchanged(tmp_path, ending):
    for dtype in TYPES:
        grid = list(GRIDS)[TYPES.index(dtype) % len(GRIDS)]
        affine = ras_from_voxel(*GRIDS[grid])
        data = values(dtype)
        nibabel.save(nibabel.Nifti1Image(data, affine, dtype=dtype), tmp_path / "in.nii.gz")
        target = tmp_path / f"{dtype}{ending}"
        convert(tmp_path / "in.nii.gz", target)
        image = SimpleITK.ReadImage(target)
        found = array(image)
        assert found.dtype == dtype
        # ITK's NIfTI reader replaces NaN by 0.
        np.testing.assert_array_equal(found, data if ending in TEXT_FORMATS else np.nan_to_num(data))
        same_place(placed(image), affine)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_every_grid_survives_a_round_trip(tmp_path, grid, ending):
    data = values("int16")
    image = itk(data, grid)
    SimpleITK.WriteImage(image, tmp_path / f"in{ending}")
    # There is no rounding between the two formats, whose headers are text.
    for other in (".mha", ".nrrd"):
        convert(tmp_path / f"in{ending}", tmp_path / f"out{other}")
        back = SimpleITK.ReadImage(tmp_path / f"out{other}")
        np.testing.assert_array_equal(array(back), data)
        np.testing.assert_allclose(placed(back), placed(image), rtol=0, atol=1e-9)
    # The same position in the patient after the axes are reordered.
    convert(tmp_path / f"in{ending}", tmp_path / "turned.mha", "--orient", "SAL")
    turned = SimpleITK.ReadImage(tmp_path / "turned.mha")
    for index in ((0, 0, 0), (4, 1, 6), (2, 5, 3)):
        there = turned.TransformPhysicalPointToIndex(image.TransformIndexToPhysicalPoint(index))
        assert turned[there] == image[index]


@pytest.mark.parametrize("ending", TEXT_FORMATS)
def test_channels_are_not_mixed(tmp_path, ending):
    data = values("float32", (*SHAPE, 3), seed=4)
    SimpleITK.WriteImage(itk(data, "oblique", vector=True), tmp_path / f"in{ending}", useCompression=True)
    convert(tmp_path / f"in{ending}", tmp_path / "ours.nii")
    ours = nibabel.load(tmp_path / "ours.nii")
    np.testing.assert_array_equal(np.asanyarray(ours.dataobj), data)
    same_place(ours.affine, ras_from_voxel(*GRIDS["oblique"]))
    convert(tmp_path / "ours.nii", tmp_path / f"out{ending}")
    back = SimpleITK.ReadImage(tmp_path / f"out{ending}")
    found = array(back) if back.GetDimension() == 3 else SimpleITK.GetArrayFromImage(back).T
    np.testing.assert_array_equal(found, data)


def segmentation(data, vector, names):
    image = itk(data, "oblique", vector)
    for number, (name, value, layer, colour) in enumerate(names):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_ID", f"Segment_{number}")
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Layer", str(layer))
        image.SetMetaData(f"Segment{number}_Color", colour)
    return image


def named(image):
    """Names and colours by label value, as SimpleITK reads them."""
    keys, out = image.GetMetaDataKeys(), {}
    for number in range(sum(key.startswith("Segment") and key.endswith("_LabelValue") for key in keys)):
        get = lambda field: image.GetMetaData(f"Segment{number}_{field}")
        assert get("Layer") == "0"
        out[int(get("LabelValue"))] = get("Name"), [round(255 * float(v)) for v in get("Color").split()]
    return out


NAMES = [("left ventricle", 3, 0, "1 0 0.5"), ("mass: \\ odd", 250, 0, "0 1 0.2")]
EXPECTED = {3: ("left ventricle", [255, 0, 128]), 250: ("mass: \\ odd", [0, 255, 51])}


def test_names_and_colours_of_segments_survive_a_round_trip(tmp_path):
    data = np.random.default_rng(2).choice([0, 3, 250], SHAPE).astype(np.uint8)
    SimpleITK.WriteImage(segmentation(data, False, NAMES), tmp_path / "in.seg.nrrd")
    # Through NIfTI, which also stores them.
    convert(tmp_path / "in.seg.nrrd", tmp_path / "mask.nii.gz")
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert mask.header["intent_code"] == 1002
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), data)
    same_place(mask.affine, ras_from_voxel(*GRIDS["oblique"]))
    convert(tmp_path / "mask.nii.gz", tmp_path / "out.seg.nrrd")
    back = SimpleITK.ReadImage(tmp_path / "out.seg.nrrd")
    np.testing.assert_array_equal(array(back), data)
    same_place(placed(back), ras_from_voxel(*GRIDS["oblique"]))
    assert named(back) == EXPECTED


def test_layers_of_a_segmentation_become_one_label_map(tmp_path):
    layers = np.zeros((*SHAPE, 2), np.uint8)
    layers[1, 2:4, :, 0] = 3
    layers[3, :, 1, 1] = 250
    names = [NAMES[0], (*NAMES[1][:2], 1, NAMES[1][3])]
    SimpleITK.WriteImage(segmentation(layers, True, names), tmp_path / "in.seg.nrrd")
    convert(tmp_path / "in.seg.nrrd", tmp_path / "out.seg.nrrd")
    back = SimpleITK.ReadImage(tmp_path / "out.seg.nrrd")
    np.testing.assert_array_equal(array(back), layers.max(axis=-1))
    assert named(back) == EXPECTED
