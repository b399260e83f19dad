"""Compares two masks voxel by voxel: `python compare_masks.py A B` prints one JSON line."""

import json
import sys

import nibabel
import numpy as np


def main():
    a, b = (nibabel.load(path) for path in sys.argv[1:3])
    if a.shape != b.shape or not np.array_equal(a.affine, b.affine):
        sys.exit(f"the masks lie on different grids: {a.shape} and {b.shape}, affines\n{a.affine}\n{b.affine}")
    a, b = (np.asarray(mask.dataobj) for mask in (a, b))
    print(json.dumps({"voxels": int(a.size), "different": int((a != b).sum()), "foreground": int((a != 0).sum())}))


if __name__ == "__main__":
    main()
