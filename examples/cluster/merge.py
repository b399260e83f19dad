"""Joins the results of the parts of a cohort into one table, if together they are the whole cohort."""

import argparse
import csv
import json
import os
import re
import sys
from pathlib import Path

ENDINGS = (".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")
# Voxel files with a separate header.
VOXELS = (".img", ".img.gz", ".raw", ".zraw")


def stem(path):
    """The name of a case: the file name without its extension."""
    name = Path(path).name
    lower = name.lower()
    return next((name[: -len(end)] for end in ENDINGS if lower.endswith(end)), name)


def expected(folder):
    """The scans of a folder with the possible names of their case. Channels of one scan are named CASE_0000, CASE_0001."""
    for path in sorted(folder.iterdir()):
        named = path.is_dir() or path.name.lower().endswith(ENDINGS)
        if not path.name.startswith(".") and named and not path.name.lower().endswith(VOXELS):
            name = stem(path)
            yield path, {name, re.sub(r"_\d{4}$", "", name)}


def problems(scans, masks, lines):
    """The reasons why the parts are not exactly the whole cohort."""
    done = {}
    for line in lines:
        if "error" in line:
            yield f"failed: {line['error']}"
            continue
        name = stem(line["output"])
        if name in done:
            yield f"two parts have the case {name}: the folder of scans changed between them; run the workflow again"
        done[name] = line
        if not Path(line["output"]).is_file():
            yield f"the mask is missing: {line['output']}"
    for path, names in expected(scans):
        if not names & done.keys():
            yield f"no part has this scan: {path}"
    for mask in sorted(masks.glob("*.nii.gz")):
        name = stem(mask)
        if name not in done and not name.endswith("_probabilities"):
            yield f"this mask belongs to no scan of the cohort: {mask}"


def rows(lines):
    """One row for each case and structure."""
    for line in sorted(lines, key=lambda line: stem(line["output"])):
        for label, found in line["labels"].items():
            seconds = line["seconds"]["total"]
            yield [stem(line["output"]), label, found["voxels"], found["ml"], line["device"], line["precision"], seconds]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="+", type=Path)
    arguments.add_argument("--scans", type=Path, required=True)
    arguments.add_argument("--masks", type=Path, required=True)
    arguments.add_argument("-o", "--output", type=Path, required=True)
    given = arguments.parse_args()
    lines = [json.loads(line) for part in given.parts for line in part.read_text().splitlines()]
    found = list(problems(given.scans, given.masks, lines))
    if found:
        sys.exit("\n".join(found))
    partial = given.output.with_name(f".{given.output.name}.partial")
    with partial.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", "structure", "voxels", "ml", "device", "precision", "seconds"])
        table.writerows(rows(lines))
    os.replace(partial, given.output)


if __name__ == "__main__":
    main()
