"""Measures how long Sulcus and nibabel take to read a gzipped scan and to write a gzipped mask.

`python nifti_speed.py BENCH [SCAN.nii.gz MASK.nii.gz]` makes an int16 scan of 256 x 256 x 180 voxels with noise from SCAN (a real head) and a mask
of the same size from MASK, and runs the program BENCH (`cargo build --release -p sulcus-io --example nifti_speed`) and nibabel on
them, alternately. Reading ends with a float32 array, and writing starts with a label array. The fastest round is reported.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import nibabel
import numpy as np

SHAPE = (256, 256, 180)
ROUNDS = 9
DATA = pathlib.Path(__file__).resolve().parents[3] / "shared/data/mni152"


def resized(path):
    """Resampled to the nearest voxels, so that a mask remains a mask."""
    data = np.asanyarray(nibabel.load(path).dataobj)
    return data[np.ix_(*(np.arange(n) * size // n for n, size in zip(SHAPE, data.shape)))]


def scan(path):
    rng = np.random.default_rng(1)
    head = resized(path).astype(np.float32)
    head *= 1200 / head.max()
    noise = rng.normal(0, np.where(head > 0, 12, 2))
    return np.abs(head + noise).astype(np.int16)


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(bench, *given):
    sources = given or (DATA / "t1.nii.gz", DATA / "tissue_labels.nii.gz")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        image, mask = scan(sources[0]), resized(sources[1]).astype(np.uint8)
        affine = np.eye(4)
        # gzip's default level, as scanners and converters use.
        nibabel.openers.Opener.default_compresslevel = 6
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / "scan.nii.gz")
        # nibabel's default.
        nibabel.openers.Opener.default_compresslevel = 1
        nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "mask.nii.gz")

        def read():
            array = nibabel.load(folder / "scan.nii.gz").get_fdata(dtype=np.float32)
            assert array.dtype == np.float32 and array.shape == SHAPE

        def write():
            nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "theirs.nii.gz")

        theirs, ours = {"read": [], "write": []}, {"read": [], "write": []}
        for _ in range(ROUNDS):
            theirs["read"].append(timed(read))
            theirs["write"].append(timed(write))
            files = [folder / name for name in ("scan.nii.gz", "mask.nii.gz", "ours.nii.gz")]
            said = subprocess.run([bench, *files], check=True, capture_output=True, text=True).stdout
            for line in said.splitlines():
                what, seconds = line.split()
                ours[what].append(float(seconds))
        back = np.asanyarray(nibabel.load(folder / "ours.nii.gz").dataobj)
        assert np.array_equal(back, mask), "the written mask differs"
        sizes = [(folder / name).stat().st_size for name in ("ours.nii.gz", "theirs.nii.gz")]
        print("| | Sulcus, ms | nibabel, ms | ratio of the fastest | median of the rounds' ratios |")
        print("| --- | --- | --- | --- | --- |")
        for what in ours:
            a, b = min(ours[what]), min(theirs[what])
            middle = np.median(np.array(ours[what]) / np.array(theirs[what]))
            print(f"| {what} | {1e3 * a:.1f} | {1e3 * b:.1f} | {a / b:.2f} | {middle:.2f} |")
        print(f"bytes of the mask: {sizes[0]} and {sizes[1]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
