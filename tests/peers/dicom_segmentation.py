"""Predicts a DICOM series to a DICOM segmentation and to NIfTI, and reads the first with highdicom and dciodvfy.

    python tests/peers/dicom_segmentation.py SULCUS_BINARY MODEL.onnx SERIES_FOLDER

Needs numpy, nibabel and highdicom; dciodvfy (Debian's dicom3tools) is used if it is installed. Exits with 1 when a voxel
differs in world space, when an attribute that could identify the patient is not empty, or when dciodvfy finds an error.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import highdicom
import nibabel
import numpy

IDENTIFYING = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyID", "AccessionNumber"]
# highdicom uses LPS coordinates, and its axes are slices, rows, columns.
RAS_FROM_LPS = numpy.diag([-1.0, -1.0, 1.0, 1.0])


def main():
    binary, model, series = sys.argv[1:]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        segmentation, mask = pathlib.Path(folder) / "mask.dcm", pathlib.Path(folder) / "mask.nii.gz"
        for out in [segmentation, mask]:
            subprocess.run([binary, "predict", "-m", model, series, "-o", str(out)], check=True, capture_output=True)
        read = highdicom.seg.segread(segmentation)
        volume = read.get_volume(combine_segments=True)
        image = nibabel.load(mask)
        labels = numpy.asarray(image.dataobj)

        index = numpy.argwhere(numpy.ones(volume.array.shape, bool))
        affine = numpy.linalg.inv(image.affine) @ RAS_FROM_LPS @ volume.affine
        there = index @ affine[:3, :3].T + affine[:3, 3]
        off = numpy.abs(there - there.round()).max()
        theirs = volume.array[tuple(index.T)]
        differ = int((labels[tuple(there.round().astype(int).T)] != theirs).sum())
        print(f"highdicom {highdicom.__version__}: {theirs.size} voxels, {differ} differ, places off by {off:.1e} voxels")
        good &= differ == 0 and off < 1e-3 and theirs.size == labels.size

        filled = [name for name in IDENTIFYING if str(read.get(name, ""))]
        print("attributes of the patient that are not empty:", filled or "none")
        good &= not filled

        if shutil.which("dciodvfy"):
            said = subprocess.run(["dciodvfy", segmentation], capture_output=True, text=True)
            errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
            print("dciodvfy:", *(errors or ["no error"]), sep="\n  ")
            good &= not errors
        else:
            print("skipped: dciodvfy is not installed")
    sys.exit(not good)


if __name__ == "__main__":
    main()
