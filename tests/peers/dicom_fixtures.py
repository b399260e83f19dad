"""Writes crates/sulcus-dicom/tests/dicom: one slice of a bundled scan in each compressed transfer syntax that is read.

GDCM compresses the slices. Slices with lossy compression are also decompressed by GDCM, and the tests compare our
decoders with the result. Run by hand: python tests/peers/dicom_fixtures.py
Needs numpy, nibabel, pydicom and python-gdcm.
"""

import pathlib

import gdcm
import nibabel
import numpy
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "crates/sulcus-dicom/tests/dicom"
S = gdcm.TransferSyntax


def slice_of_a_scan():
    path = sorted((ROOT / "examples/data/hippocampus/imagesTr").glob("*.nii.gz"))[0]
    data = nibabel.load(path).get_fdata()
    return data[:, :, data.shape[2] // 2].T / data.max()


def write(path, values, stored):
    bits = 8 * values.dtype.itemsize
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4.2.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.3.4.0"
    scan = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    scan.SOPClassUID, scan.SOPInstanceUID, scan.Modality = MRImageStorage, "1.2.3.4.2.1", "MR"
    scan.StudyInstanceUID, scan.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.1"
    scan.SliceThickness = 1
    scan.ImagePositionPatient = [0, 0, 0]
    scan.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    scan.PixelSpacing = [1, 1]
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.Rows, scan.Columns = values.shape
    scan.BitsAllocated, scan.BitsStored, scan.HighBit = bits, stored, stored - 1
    scan.PixelRepresentation = int(values.dtype.kind == "i")
    scan.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    scan.save_as(path, enforce_file_format=True)


def transcode(source, target, syntax, near=None):
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(S(syntax))
    if near is not None:
        codec = gdcm.JPEGLSCodec()
        codec.SetLossless(False)
        codec.SetLossyError(near)
        change.SetUserCodec(codec)
    change.SetInput(reader.GetImage())
    assert change.Change(), target
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write(), target


def main():
    OUT.mkdir(exist_ok=True)
    scan = slice_of_a_scan()
    plain = {
        "u8": (numpy.round(scan * 255).astype("u1"), 8),
        "u16": (numpy.round(scan * 60000).astype("<u2"), 16),
        "u12": (numpy.round(scan * 4000).astype("<u2"), 12),
        "i16": (numpy.round(scan * 4000 - 2000).astype("<i2"), 16),
        # Long runs, as in background, to test the run modes.
        "flat": ((scan > 0.4).astype("<u2") * 700, 12),
    }
    for name, (values, stored) in plain.items():
        write(OUT / f"{name}.dcm", values, stored)
    lossless = {
        "rle": S.RLELossless,
        "jpeg_lossless": S.JPEGLosslessProcess14_1,
        "jpegls": S.JPEGLSLossless,
        "j2k": S.JPEG2000Lossless,
    }
    for name in plain:
        for codec, syntax in lossless.items():
            transcode(OUT / f"{name}.dcm", OUT / f"{name}_{codec}.dcm", syntax)
    for name, codec, syntax, near in [
        ("u8", "jpeg", S.JPEGBaselineProcess1, None),
        ("u12", "jpegls_near", S.JPEGLSNearLossless, 3),
        ("u12", "j2k_lossy", S.JPEG2000, None),
    ]:
        file = OUT / f"{name}_{codec}.dcm"
        transcode(OUT / f"{name}.dcm", file, syntax, near)
        transcode(file, OUT / f"{name}_{codec}_decoded.dcm", S.ExplicitVRLittleEndian)
    for file in sorted(OUT.glob("*.dcm")):
        again = pydicom.dcmread(file)
        again.file_meta.ImplementationVersionName = "fixtures"
        again.save_as(file)


if __name__ == "__main__":
    main()
