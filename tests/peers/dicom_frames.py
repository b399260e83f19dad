"""Makes enhanced multi-frame MR and CT files with pydicom and compares `sulcus info` and `sulcus convert` with SimpleITK.

    python tests/peers/dicom_frames.py SULCUS_BINARY

Needs numpy, nibabel, pydicom and SimpleITK. Exits with 1 when an affine differs by 1e-4 or more, or when any value differs.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import nibabel
import numpy
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, generate_uid

TOLERANCE = 1e-4
RAS_FROM_LPS = numpy.diag([-1.0, -1.0, 1.0, 1.0])
FRAMES, ROWS, COLUMNS = 7, 11, 9
SPACING = [0.8, 0.6, 2.5]


def item(**attributes):
    out = Dataset()
    for name, value in attributes.items():
        setattr(out, name, value)
    return out


def write(path, sop_class, modality, slope, intercept, syntax):
    """Writes frames on an oblique grid and returns their values, in the order of the frames."""
    stored = numpy.random.default_rng(1).integers(0, 3000, (FRAMES, ROWS, COLUMNS)).astype("<i2")
    (s, c), (t, d) = [(numpy.sin(a), numpy.cos(a)) for a in numpy.deg2rad([20, -10])]
    turn = numpy.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ numpy.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    short = lambda values: [round(float(v), 8) for v in values]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    file.Modality = modality
    file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = [generate_uid() for _ in range(3)]
    file.Rows, file.Columns, file.NumberOfFrames = ROWS, COLUMNS, FRAMES
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    measures = item(PixelSpacing=SPACING[:2], SliceThickness=SPACING[2], SpacingBetweenSlices=SPACING[2])
    orientation = item(ImageOrientationPatient=short([*turn[:, 0], *turn[:, 1]]))
    scale = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
    file.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[orientation],
            PixelValueTransformationSequence=[scale],
        )
    ]
    places = [numpy.array([-30.5, 20.25, -7]) + turn[:, 2] * SPACING[2] * i for i in range(FRAMES)]
    file.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=short(place))],
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=i + 1, DimensionIndexValues=[1, i + 1])],
        )
        for i, place in enumerate(places)
    ]
    file.PixelData = stored.tobytes()
    file["PixelData"].VR = "OW"
    file.save_as(path, enforce_file_format=True)
    return stored * slope + intercept


def main():
    binary = sys.argv[1]
    good = True
    kinds = [
        (EnhancedMRImageStorage, "MR", 1, 0),
        (EnhancedMRImageStorage, "MR", 0.5, 3),
        (EnhancedCTImageStorage, "CT", 1, -1024),
    ]
    for sop_class, modality, slope, intercept in kinds:
        for syntax in [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian]:
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                file, nrrd, nifti = folder / "frames.dcm", folder / "frames.nrrd", folder / "frames.nii"
                values = write(str(file), sop_class, modality, slope, intercept, syntax)
                said = subprocess.run([binary, "info", file, "--json"], check=True, capture_output=True, text=True)
                ours = numpy.array(json.loads(said.stdout)["ras_from_voxel"])
                for out in [nrrd, nifti]:
                    subprocess.run([binary, "convert", file, out], check=True, capture_output=True)
                image = SimpleITK.ReadImage(str(file))
                theirs = numpy.eye(4)
                theirs[:3, :3] = numpy.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
                theirs[:3, 3] = image.GetOrigin()
                apart = numpy.abs(ours - RAS_FROM_LPS @ theirs).max()
                converted = nibabel.load(nifti)
                same = (
                    numpy.array_equal(SimpleITK.GetArrayFromImage(image), values)
                    and numpy.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(nrrd))), values)
                    and numpy.array_equal(converted.get_fdata().T, values)
                )
                what = f"{modality}, slope {slope}, intercept {intercept}, {syntax.name}"
                print(f"{what}: affine {apart:.1e}, values equal {same}, converted to {converted.get_data_dtype()}")
                good &= apart < TOLERANCE and same
    sys.exit(not good)


if __name__ == "__main__":
    main()
