"""Compares `sulcus evaluate` with DeepMind's surface-distance package.

`python surface_distances.py --figures > surface_distances.json` writes the reference values of our tests.
`python surface_distances.py SUMMARY.json` evaluates the masks that are named in the output of `sulcus evaluate --json`,
and prints the largest difference of HD95 and NSD.
"""

import json
import math
import sys
from pathlib import Path

import nibabel
import numpy as np
import scipy.ndimage

# The package is older than numpy 2 and current scipy. It uses these old names.
np.Inf, np.NaN = np.inf, np.nan
scipy.ndimage.filters = scipy.ndimage.morphology = scipy.ndimage

import surface_distance as peer  # noqa: E402

LABELS = Path(__file__).resolve().parents[2] / "examples" / "data" / "hippocampus" / "labelsTr"
TOLERANCES_MM = [0.0, 0.5, 1.0, 2.0, 3.5]

BALL = {"balls": [[15, 12, 10, 64]], "boxes": [], "noise": [0, 0]}
PAIRS = [
    ("ball against a moved ball", [30, 24, 20], [1, 1, 1], BALL, {**BALL, "balls": [[17, 11, 10, 49]]}),
    ("anisotropic", [30, 24, 20], [0.75, 1.25, 3], BALL, {**BALL, "balls": [[17, 11, 10, 49]]}),
    ("rough", [30, 24, 20], [0.9, 0.7, 2.5], {**BALL, "noise": [1, 12]}, {**BALL, "noise": [2, 12]}),
    (
        "noise alone, every code of the table",
        [14, 13, 12],
        [1.5, 0.6, 2.2],
        {"balls": [], "boxes": [], "noise": [3, 50]},
        {"balls": [], "boxes": [], "noise": [4, 45]},
    ),
    (
        "one voxel against one voxel",
        [9, 9, 9],
        [1, 2, 3],
        {"balls": [], "boxes": [[2, 3, 4, 2, 3, 4]], "noise": [0, 0]},
        {"balls": [], "boxes": [[5, 5, 5, 5, 5, 5]], "noise": [0, 0]},
    ),
    (
        "one voxel in the last corner against a block in the first",
        [8, 7, 6],
        [1.2, 1.2, 1.2],
        {"balls": [], "boxes": [[7, 6, 5, 7, 6, 5]], "noise": [0, 0]},
        {"balls": [], "boxes": [[0, 0, 0, 3, 2, 1]], "noise": [0, 0]},
    ),
    (
        "touching the border on all sides",
        [10, 9, 8],
        [1, 1, 2],
        {"balls": [], "boxes": [[0, 0, 0, 9, 8, 7]], "noise": [0, 0]},
        {"balls": [[5, 4, 4, 40]], "boxes": [], "noise": [0, 0]},
    ),
    (
        "two parts, one of them missed",
        [40, 16, 16],
        [1, 1, 1.5],
        {"balls": [[8, 8, 8, 30]], "boxes": [], "noise": [0, 0]},
        {"balls": [[8, 8, 8, 30]], "boxes": [[30, 3, 3, 34, 6, 6]], "noise": [0, 0]},
    ),
    ("missed", [30, 24, 20], [1, 1, 1], {"balls": [], "boxes": [], "noise": [0, 0]}, BALL),
    ("single slice", [30, 24, 1], [0.8, 1.3, 5], {**BALL, "balls": [[15, 12, 0, 64]]}, {**BALL, "balls": [[17, 11, 0, 49]]}),
    (
        "rough single slice",
        [1, 30, 24],
        [5, 0.8, 1.3],
        {"balls": [[0, 15, 12, 64]], "boxes": [], "noise": [5, 15]},
        {"balls": [[0, 17, 11, 49]], "boxes": [], "noise": [6, 15]},
    ),
]
# Case, how its reference mask is changed to get the prediction, and the spacing of both.
REAL = [
    ("hippocampus_008", {"shift": [1, 0, 0], "erode": 0}, [1, 1, 1]),
    ("hippocampus_011", {"shift": [0, -2, 1], "erode": 0}, [1, 1, 1]),
    ("hippocampus_023", {"shift": [0, 0, 0], "erode": 1}, [1, 1, 1]),
    ("hippocampus_039", {"shift": [2, 1, 0], "erode": 1}, [0.5, 0.9, 3.3]),
    ("hippocampus_040", {"shift": [0, 0, 3], "erode": 0}, [0.4297, 0.4297, 5]),
    ("hippocampus_041", {"shift": [-1, 1, -1], "erode": 2}, [1, 1, 1]),
]


def generated(shape, recipe):
    """Balls [x, y, z, squared radius] and boxes [first..., last...]; noise [seed, percent] inverts voxels."""
    x, y, z = (a.astype(np.uint64) for a in np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    mask = np.zeros(shape, bool)
    for cx, cy, cz, squared in recipe["balls"]:
        mask |= sum((a.astype(int) - c) ** 2 for a, c in zip((x, y, z), (cx, cy, cz))) <= squared
    for x0, y0, z0, x1, y1, z1 in recipe["boxes"]:
        mask[x0 : x1 + 1, y0 : y1 + 1, z0 : z1 + 1] = True
    seed, percent = (np.uint64(n) for n in recipe["noise"])
    word = np.uint64(0xFFFFFFFF)
    mixed = (x * np.uint64(73856093) ^ y * np.uint64(19349663) ^ z * np.uint64(83492791) ^ seed * np.uint64(2654435761)) & word
    mixed = ((mixed ^ mixed >> np.uint64(13)) * np.uint64(1540483477)) & word
    return mask ^ ((mixed ^ mixed >> np.uint64(15)) % np.uint64(100) < percent)


def changed(mask, change):
    """Shifted without wrapping, then each label eroded with its six neighbours. Outside the volume is background."""
    moved = np.zeros_like(mask)
    to = tuple(slice(max(d, 0), n + min(d, 0)) for d, n in zip(change["shift"], mask.shape))
    out_of = tuple(slice(max(-d, 0), n + min(-d, 0)) for d, n in zip(change["shift"], mask.shape))
    moved[to] = mask[out_of]
    if change["erode"]:
        kept = [scipy.ndimage.binary_erosion(moved == label, iterations=change["erode"]) * label for label in (1, 2)]
        moved = sum(kept)
    return moved


def measured(prediction, reference, spacing, tolerances):
    """HD95 and NSD. A single slice is measured with the package's two-dimensional function."""
    if 1 in prediction.shape:
        across = max(axis for axis in range(3) if prediction.shape[axis] == 1)
        prediction, reference = (np.squeeze(mask, across) for mask in (prediction, reference))
        spacing = [mm for axis, mm in enumerate(spacing) if axis != across]
    distances = peer.compute_surface_distances(reference, prediction, spacing)
    hd95 = peer.compute_robust_hausdorff(distances, 95)
    nsd = [float(peer.compute_surface_dice_at_tolerance(distances, mm)) for mm in tolerances]
    return {"HD95": "inf" if math.isinf(hd95) else float(hd95), "NSD": nsd}


def figures():
    pairs = []
    for name, shape, spacing, prediction, reference in PAIRS:
        masks = [generated(shape, recipe) for recipe in (prediction, reference)]
        case = {"name": name, "shape": shape, "spacing_mm": spacing, "prediction": prediction, "reference": reference}
        pairs.append({**case, "voxels": [int(m.sum()) for m in masks], **measured(*masks, spacing, TOLERANCES_MM)})
    real = []
    for name, change, spacing in REAL:
        reference = np.asarray(nibabel.load(LABELS / f"{name}.nii.gz").dataobj).astype(int)
        prediction = changed(reference, change)
        for label in (1, 2):
            case = {"case": name, **change, "spacing_mm": spacing, "label": label}
            masks = [mask == label for mask in (prediction, reference)]
            real.append({**case, "voxels": [int(m.sum()) for m in masks], **measured(*masks, spacing, TOLERANCES_MM)})
    lines = lambda rows: ",\n".join("    " + json.dumps(row) for row in rows)
    print(f'{{\n  "tolerances_mm": {json.dumps(TOLERANCES_MM)},')
    print(f'  "generated": [\n{lines(pairs)}\n  ],\n  "real": [\n{lines(real)}\n  ]\n}}')


def compare(summary):
    worst, scored = {"HD95": 0.0, "NSD": 0.0}, 0
    for case in summary["metric_per_case"]:
        prediction, reference = (nibabel.load(case[key]) for key in ("prediction_file", "reference_file"))
        spacing = nibabel.affines.voxel_sizes(reference.affine)
        masks = [np.asarray(mask.dataobj) for mask in (prediction, reference)]
        for label, ours in case["metrics"].items():
            if ours["NSD"] is None:
                continue
            theirs = measured(*(mask == int(label) for mask in masks), spacing, [summary["nsd_mm"]])
            theirs["NSD"] = theirs["NSD"][0]
            scored += 1
            for key in worst:
                same = ours[key] == theirs[key]
                difference = 0.0 if same else math.inf if "inf" in (ours[key], theirs[key]) else abs(ours[key] - theirs[key])
                worst[key] = max(worst[key], difference)
    print(json.dumps({"scored": scored, "largest_difference": worst}))


if __name__ == "__main__":
    if sys.argv[1:] == ["--figures"]:
        figures()
    elif len(sys.argv) == 2:
        compare(json.loads(Path(sys.argv[1]).read_text()))
    else:
        sys.exit(__doc__)
