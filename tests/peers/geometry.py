"""Compares Sulcus, nibabel and SimpleITK: the position of voxels in the patient, and resampling to another grid.

`python geometry.py SULCUS [SCAN.nii.gz]` runs the program SULCUS on an asymmetric phantom in all 48 axis orientations, straight,
oblique, left-handed and anisotropic, with different sform and qform, and on a real scan. It prints one JSON line for each
comparison.
"""

import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import nibabel
import numpy as np
import SimpleITK
from nibabel import processing

# Positions of the phantom's blobs in the patient, in RAS+ millimetres, and their intensities. None is the mirror image of another.
BLOBS = {100: (15.0, 6.0, 8.0), 200: (0.0, 18.0, 6.0), 300: (5.0, 8.0, 20.0)}
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])
SHAPE = (40, 34, 30)


def run(sulcus, *words):
    return subprocess.run([sulcus, *map(str, words)], check=True, capture_output=True, text=True)


def info(sulcus, path):
    return json.loads(run(sulcus, "info", path, "--json").stdout)


def rotation(degrees):
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def grid(order, signs, spacing, degrees):
    """An affine with the axes of `order` and `signs`, then rotated. The centre of the grid is near the centre of the blobs."""
    linear = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs)):
        linear[world, axis] = sign * spacing[axis]
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees) @ linear
    affine[:3, 3] = np.array([6.0, 10.0, 11.0]) - affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return affine


def phantom(affine):
    voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    image = np.zeros(SHAPE, np.int16)
    for value, centre in BLOBS.items():
        image[np.linalg.norm(places - np.array(centre), axis=-1) < 3.0] = value
    return image


def centres(image, affine):
    """The blobs' centres of mass in RAS+ millimetres."""
    found = {}
    for value in BLOBS:
        voxels = np.argwhere(image == value)
        assert len(voxels) > 0, "a blob lies outside the grid"
        found[value] = voxels.mean(axis=0) @ affine[:3, :3].T + affine[:3, 3]
    return found


def itk_affine(image):
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = LPS_FROM_RAS @ direction @ np.diag(image.GetSpacing())
    affine[:3, 3] = LPS_FROM_RAS @ np.array(image.GetOrigin())
    return affine


def apart(a, b):
    return max(np.abs(np.asarray(a[value]) - np.asarray(b[value])).max() for value in BLOBS)


def orientations(sulcus, folder):
    worst = {"nibabel": 0.0, "SimpleITK": 0.0, "turned by us": 0.0, "from the true places": 0.0}
    wrong_codes = changed = files = 0
    grids = [((1.0, 1.0, 1.0), (0, 0, 0)), ((0.7, 1.1, 2.3), (0, 0, 0)), ((0.9, 1.0, 1.6), (12, -17, 21))]
    for (spacing, degrees), order in itertools.product(grids, itertools.permutations(range(3))):
        for signs in itertools.product((1, -1), repeat=3):
            affine = grid(order, signs, spacing, degrees)
            image = phantom(affine)
            path = folder / "phantom.nii.gz"
            theirs = nibabel.Nifti1Image(image, affine)
            theirs.set_qform(affine, code=1)
            theirs.set_sform(affine, code=1)
            nibabel.save(theirs, path)
            ours = info(sulcus, path)
            our_affine = np.array(ours["ras_from_voxel"])
            read = nibabel.load(path)
            here = centres(image, our_affine)
            worst["nibabel"] = max(worst["nibabel"], apart(here, centres(np.asarray(read.dataobj), read.affine)))
            itk = SimpleITK.ReadImage(str(path))
            array = SimpleITK.GetArrayFromImage(itk).transpose(2, 1, 0)
            worst["SimpleITK"] = max(worst["SimpleITK"], apart(here, centres(array, itk_affine(itk))))
            # The centre of mass of a discretised sphere is within a voxel of the true centre.
            worst["from the true places"] = max(worst["from the true places"], apart(here, BLOBS))
            wrong_codes += ours["orientation"] != "".join(nibabel.aff2axcodes(read.affine))
            turned_path = folder / "turned.nii.gz"
            run(sulcus, "convert", path, turned_path, "--orient", "LIA")
            turned = nibabel.load(turned_path)
            changed += turned.get_data_dtype() != np.int16 or np.sort(turned.dataobj, axis=None).tobytes() != np.sort(image, axis=None).tobytes()
            worst["turned by us"] = max(worst["turned by us"], apart(here, centres(np.asarray(turned.dataobj), turned.affine)))
            files += 1
    report = {"comparison": "phantom in all 48 orientations", "files": files, "wrong orientation codes": wrong_codes}
    report["files whose values or type changed by turning"] = int(changed)
    report.update({f"largest distance in mm, {name}": float(f"{mm:.3g}") for name, mm in worst.items()})
    print(json.dumps(report))


def conflicts(sulcus, folder):
    """Which transform is used if sform and qform differ or have code 0."""
    sform, qform = grid((0, 1, 2), (1, 1, 1), (1, 1, 1), (0, 0, 0)), grid((1, 0, 2), (-1, 1, 1), (1.2, 0.9, 2), (5, 9, 2))
    worst = 0.0
    for sform_code, qform_code in itertools.product((0, 1, 2, 4), (0, 1, 3)):
        image = nibabel.Nifti1Image(phantom(sform), None)
        image.set_sform(sform, code=sform_code)
        image.set_qform(qform, code=qform_code)
        path = folder / "conflict.nii"
        nibabel.save(image, path)
        ours = np.array(info(sulcus, path)["ras_from_voxel"])
        worst = max(worst, np.abs(ours - nibabel.load(path).affine).max())
    print(json.dumps({"comparison": "sform against qform, 12 pairs of codes", "largest difference of an affine": float(f"{worst:.3g}")}))


def resampling(sulcus, folder, scan):
    """Resamples a real scan to an oblique grid with other voxel sizes in all three programs."""
    source = nibabel.load(scan)
    values = np.asarray(source.dataobj, np.float64)
    middle = source.affine[:3, :3] @ (np.array(source.shape) - 1) / 2 + source.affine[:3, 3]
    shape = (44, 38, 30)
    affine = np.eye(4)
    affine[:3, :3] = rotation((8, -14, 20)) @ np.diag([-0.8, 1.3, 1.1])[:, [1, 0, 2]]
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(shape) - 1) / 2
    reference = folder / "reference.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), affine), reference)
    affine = nibabel.load(reference).affine
    to_source = np.linalg.inv(source.affine) @ affine
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    at = voxels @ to_source[:3, :3].T + to_source[:3, 3]
    # Voxels for which nibabel has all neighbours. Each program handles the faces of the volume differently.
    inside = np.all((at > 0) & (at < np.array(source.shape) - 1), axis=-1)
    # SimpleITK, like Sulcus, extends the edge voxels by half a voxel.
    to_the_faces = np.all((at > -0.499) & (at < np.array(source.shape) - 0.501), axis=-1)
    span = values.max() - values.min()
    itk_source, itk_reference = SimpleITK.ReadImage(str(scan), SimpleITK.sitkFloat64), SimpleITK.ReadImage(str(reference))
    for order, name, itk_name in [(0, "nearest", SimpleITK.sitkNearestNeighbor), (1, "linear", SimpleITK.sitkLinear), (3, "cubic", SimpleITK.sitkBSpline)]:
        path = folder / f"{name}.nii"
        run(sulcus, "convert", scan, path, "--like", reference, "--interpolation", name, "--outside", "0")
        ours = np.asarray(nibabel.load(path).dataobj, np.float64)
        theirs = processing.resample_from_to(nibabel.Nifti1Image(values, source.affine), (shape, affine), order=order, cval=0).get_fdata()
        itk = SimpleITK.Resample(itk_source, itk_reference, SimpleITK.Transform(), itk_name, 0.0)
        itk = SimpleITK.GetArrayFromImage(itk).transpose(2, 1, 0)
        # A point halfway between two voxels may get the value of either.
        clear = np.all(np.abs(at - np.floor(at) - 0.5) > 1e-4, axis=-1) if order == 0 else np.ones(shape, bool)
        line = {"comparison": f"{name} resampling of {pathlib.Path(scan).name}", "voxels inside": int(inside.sum())}
        for peer, array, where in [("nibabel", theirs, inside & clear), ("SimpleITK", itk, inside & clear), ("SimpleITK, up to the faces", itk, to_the_faces & clear)]:
            difference = np.abs(ours - array)[where].max() / span
            line[f"largest difference, {peer}, share of the range"] = float(f"{difference:.3g}")
        print(json.dumps(line))


def main():
    sulcus = sys.argv[1]
    here = pathlib.Path(__file__).resolve().parent
    scan = sys.argv[2] if len(sys.argv) > 2 else here / "../../examples/data/case/image.nii.gz"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        orientations(sulcus, folder)
        conflicts(sulcus, folder)
        resampling(sulcus, folder, scan)


if __name__ == "__main__":
    main()
