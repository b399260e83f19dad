"""The Dice of a model on scans of other voxel sizes: the table in the card of a shipped model.

    python voxel_sizes.py SULCUS MODEL RUN.json DATASET [CASES]

The held-out cases of the run (at most CASES of them, evenly spaced) are interpolated (image: cubic; mask: nearest voxel) to
each voxel size over the same field of view, predicted on that grid, and scored there.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import map_coordinates

SIZES = [(0.5, 0.5, 0.5), (0.7, 0.7, 0.7), (1, 1, 1), (1.5, 1.5, 1.5), (2, 2, 2), (1, 1, 3)]


def regrid(source, target, size, order):
    """Writes the file with another voxel size, which is a factor for files of 1 mm."""
    image = nibabel.load(source)
    values = np.asarray(image.dataobj).astype(np.float32)
    centre = (np.array(values.shape) - 1) / 2
    counts = [max(1, round(n / mm)) for n, mm in zip(values.shape, size)]
    axes = [(np.arange(n) - (n - 1) / 2) * mm + c for n, mm, c in zip(counts, size, centre)]
    values = map_coordinates(values, np.meshgrid(*axes, indexing="ij"), order=order, mode="nearest")
    affine = image.affine @ np.diag([*size, 1])
    affine[:3, 3] = (image.affine @ np.array([*(axis[0] for axis in axes), 1]))[:3]
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32 if order else np.uint8), affine), target)


def main():
    sulcus, model, run, dataset = sys.argv[1:5]
    names = json.loads(Path(run).read_text())["split"]["val"]
    count = min(int(sys.argv[5]), len(names)) if len(sys.argv) > 5 else len(names)
    names = [names[i * len(names) // count] for i in range(count)]
    print(f"| voxel size, mm | mean Dice of {count} cases | lowest |\n| --- | --- | --- |")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            images, truth, masks = (Path(folder) / name for name in ("images", "truth", "masks"))
            images.mkdir()
            truth.mkdir()
            for name in names:
                file = f"{name}.nii.gz"
                regrid(Path(dataset) / "imagesTr" / file, images / file, size, 3)
                regrid(Path(dataset) / "labelsTr" / file, truth / file, size, 0)
            subprocess.run([sulcus, "predict", "-q", "-m", model, images, "-o", masks], check=True)
            scores = subprocess.run(
                [sulcus, "evaluate", "-p", masks, "-t", truth, "--json"], check=True, capture_output=True, text=True
            )
            summary = json.loads(scores.stdout)
            cases = [
                np.mean([m["Dice"] for m in case["metrics"].values()]) for case in summary["metric_per_case"]
            ]
            print(f"| {' × '.join(map(str, size))} | {summary['foreground_mean']['Dice']:.3f} | {min(cases):.3f} |", flush=True)


main()
