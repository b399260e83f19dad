"""Compares `sulcus info` of DICOM series with dicom2nifti, dcm2niix and SimpleITK: shape, affine, values.

    python tests/peers/dicom_affines.py SULCUS_BINARY SERIES_FOLDER...

Needs numpy, nibabel, dicom2nifti, dcm2niix and SimpleITK. Exits with 1 when an affine differs by 1e-4 or more.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import dcm2niix
import dicom2nifti
import nibabel
import numpy
import SimpleITK

TOLERANCE = 1e-4
RAS_FROM_LPS = numpy.diag([-1.0, -1.0, 1.0, 1.0])


def ours(binary, series):
    said = subprocess.run([binary, "info", series, "--json"], check=True, capture_output=True, text=True).stdout
    info = json.loads(said)
    return info["shape"], numpy.array(info["ras_from_voxel"]), info["mean"]


def by_dicom2nifti(series, folder):
    file = folder / "d2n.nii"
    dicom2nifti.dicom_series_to_nifti(series, file, reorient_nifti=False)
    image = nibabel.load(file)
    return image.shape, image.affine, image.get_fdata().mean()


def by_dcm2niix(series, folder):
    dcm2niix.main(["-z", "n", "-b", "n", "-o", str(folder), "-f", "dcm2niix", str(series)], capture_output=True)
    image = nibabel.load(folder / "dcm2niix.nii")
    # It stores the rows from the last to the first.
    turn = numpy.array([[1, 0, 0, 0], [0, -1, 0, image.shape[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    return image.shape, image.affine @ turn, image.get_fdata().mean()


def by_simpleitk(series, _):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    affine = numpy.eye(4)
    affine[:3, :3] = numpy.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return image.GetSize(), RAS_FROM_LPS @ affine, SimpleITK.GetArrayFromImage(image).mean()


def main():
    binary, *folders = sys.argv[1:]
    worst = {}
    for series in folders:
        shape, affine, mean = ours(binary, series)
        for name, tool in [
            ("dicom2nifti", by_dicom2nifti),
            ("dcm2niix", by_dcm2niix),
            ("SimpleITK", by_simpleitk),
        ]:
            with tempfile.TemporaryDirectory() as folder:
                their_shape, their_affine, their_mean = tool(series, pathlib.Path(folder))
            apart = numpy.abs(affine - their_affine)
            axes, origin = apart[:3, :3].max(), apart[:3, 3].max()
            same = list(their_shape) == list(shape) and numpy.isclose(mean, their_mean, rtol=1e-9)
            print(f"{pathlib.Path(series).name}: {name}: axes {axes:.1e}, origin {origin:.1e}, voxels equal {same}")
            worst[name] = max(worst.get(name, 0), axes, origin, 0 if same else numpy.inf)
    # Only dicom2nifti uses the directions as they are in the files. The others normalise them first.
    sys.exit(worst["dicom2nifti"] >= TOLERANCE)


if __name__ == "__main__":
    main()
