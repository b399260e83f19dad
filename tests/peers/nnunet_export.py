"""Loads what `sulcus export --nnunet` and `--bundle` write in nnU-Net and in MONAI.

    pip install nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 onnxruntime pytorch-ignite fire jsonschema
    pip install --no-deps monai==1.6.1
    python nnunet_export.py path/to/sulcus [--minutes 1] [--runs RUN ...] [--schema meta_schema.json]
    python nnunet_export.py path/to/sulcus --cross-validation nnunet-2d [--minutes 1]

Trains networks on the bundled scans (or takes runs that exist), exports each, and predicts the held-out scans with nnU-Net's own predictor:
with `import nnunet` and `predict --exact` not one voxel may differ. The MONAI bundle of each model is checked with MONAI's own verification and
run; its Dice with the masks of `sulcus predict` is printed. With `--cross-validation` five folds of a preset are trained, exported as one
folder, and averaged by both programs. MONAI checks metadata.json against a schema that it downloads; `--schema` names a copy.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nnunet_import  # noqa: F401, sets the folders that nnU-Net looks for
import nibabel
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

DATA = Path(__file__).parents[2] / "examples/data/hippocampus"
PRESETS = ("nnunet-3d", "nnunet-2d", "resenc-3d")


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options)


def voxels(path):
    return np.asarray(nibabel.load(path).dataobj)


def dice(a, b):
    return [float(2 * ((a == k) & (b == k)).sum() / max(1, (a == k).sum() + (b == k).sum())) for k in np.union1d(a, b) if k]


def nnunet_masks(folder, scans, out, mirror):
    predictor = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    with contextlib.redirect_stdout(sys.stderr):
        folds = sorted(int(path.name.removeprefix("fold_")) for path in folder.glob("fold_*"))
        predictor.initialize_from_trained_model_folder(str(folder), folds)
        targets = [str(out / scan.name.removesuffix(".nii.gz")) for scan in scans]
        predictor.predict_from_files_sequential([[str(scan)] for scan in scans], targets, overwrite=True)


def cross_validation(sulcus, preset, minutes, scans, work):
    """All folds of a cross-validation as one folder: the number of voxels that differ, of each scan, with and without mirroring."""
    folder, exported, back = work / "folds", work / "folds-nnunet", work / "folds.onnx"
    # Its file of splits has one fold; without it there are five.
    data = work / "data"
    shutil.copytree(DATA, data, ignore=shutil.ignore_patterns("splits_final.json"))
    run(sulcus, "train", data, "-o", folder, "--preset", preset, "--fold", "all", "--time-budget", f"{minutes}m", "-q")
    run(sulcus, "export", folder, "--nnunet", exported)
    run(sulcus, "import", "nnunet", exported, "-o", back, "-q")
    line = {"cross-validation": preset, "folds": len(list(exported.glob("fold_*")))}
    for mirror in (False, True):
        out = work / f"folds-{mirror}"
        out.mkdir()
        nnunet_masks(exported, scans, out, mirror)
        different = {"exact": [], "default": [], "foreground": []}
        for scan in scans:
            theirs, options = voxels(out / scan.name), ["--mirror"] if mirror else []
            for mode in ("exact", "default"):
                ours = work / f"{mode}.nii.gz"
                run(sulcus, "predict", "-m", back, scan, "-o", ours, "-q", *options, *(["--exact"] if mode == "exact" else []))
                different[mode].append(int((voxels(ours) != theirs).sum()))
            different["foreground"].append(int((theirs > 0).sum()))
        line["mirrored" if mirror else "plain"] = different
    print(json.dumps(line), flush=True)
    return any(any(line[key]["exact"]) for key in ("plain", "mirrored"))


def check_bundle(sulcus, bundle, scans, work, schema):
    """MONAI's verification, and its masks against those of Sulcus."""
    from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out

    metadata, config = bundle / "configs/metadata.json", bundle / "configs/inference.json"
    found = {}
    if schema:
        copy = work / "schema.json"
        shutil.copy(schema, copy)
        verify_metadata(meta_file=str(metadata), filepath=str(copy))
        found["verify_metadata"] = "passed"
    shape = json.loads(metadata.read_text())["network_data_format"]["inputs"]["image"]["spatial_shape"]
    verify_net_in_out(net_id="network_def", meta_file=str(metadata), config_file=str(config), device="cpu", bundle_root=str(bundle))
    found["verify_net_in_out"] = shape
    images, out = work / "images", work / "monai"
    images.mkdir(exist_ok=True)
    for scan in scans:
        shutil.copy(scan, images)
    workflow = ConfigWorkflow(workflow_type="infer", config_file=str(config), meta_file=str(metadata), logging_file=False,
                              bundle_root=str(bundle), dataset_dir=str(images), output_dir=str(out))
    workflow.initialize()
    missing = workflow.check_properties()
    found["missing properties"] = missing
    with contextlib.redirect_stdout(sys.stderr):
        workflow.run()
        workflow.finalize()
    pairs = []
    for scan in scans:
        ours = work / "ours.nii.gz"
        run(sulcus, "predict", "-m", bundle / "models/model.onnx", scan, "-o", ours, "-q")
        theirs = out / scan.name.replace(".nii.gz", "_seg.nii.gz")
        pairs.append(min(dice(voxels(ours), voxels(theirs).reshape(voxels(ours).shape)), default=1.0))
    found["worst Dice with sulcus predict"] = round(min(pairs), 4)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sulcus")
    parser.add_argument("--minutes", default="1")
    parser.add_argument("--runs", nargs="*", type=Path)
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--schema")
    parser.add_argument("--cross-validation")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="sulcus-"))
    held_out = json.loads((DATA / "splits_final.json").read_text())[0]["val"][: arguments.scans]
    scans = [DATA / "imagesTr" / f"{name}.nii.gz" for name in held_out]
    if arguments.cross_validation:
        failed = cross_validation(arguments.sulcus, arguments.cross_validation, arguments.minutes, scans, work)
        shutil.rmtree(work)
        return int(failed)
    runs = {path.name: path for path in arguments.runs or []}
    if not runs:
        for preset in PRESETS:
            runs[preset] = work / preset
            run(arguments.sulcus, "train", DATA, "-o", runs[preset], "--preset", preset, "--time-budget", f"{arguments.minutes}m", "-q")
    failed = False
    for name, folder in runs.items():
        exported, model = work / f"{name}-nnunet", work / f"{name}.onnx"
        written = run(arguments.sulcus, "export", folder, "--nnunet", exported, "-o", model, "--bundle", work / f"{name}-bundle")
        back = work / f"{name}-back.onnx"
        run(arguments.sulcus, "import", "nnunet", exported, "-o", back, "-q")
        line = {"run": name, "notes": [text for text in written.stderr.splitlines() if "not the same" in text]}
        for mirror in (False, True):
            out = work / f"{name}-{mirror}"
            out.mkdir()
            nnunet_masks(exported, scans, out, mirror)
            different, worst = 0, 1.0
            for scan in scans:
                theirs, options = voxels(out / scan.name), ["--mirror"] if mirror else []
                exact, ours = work / "exact.nii.gz", work / "ours.nii.gz"
                run(arguments.sulcus, "predict", "-m", back, scan, "-o", exact, "--exact", "-q", *options)
                run(arguments.sulcus, "predict", "-m", model, scan, "-o", ours, "-q", *options)
                different += int((voxels(exact) != theirs).sum())
                worst = min([worst, *dice(voxels(ours), theirs)])
            failed |= different > 0
            key = "mirrored" if mirror else "plain"
            line[key] = {"voxels of --exact that differ": different, "worst Dice of the model that was exported": round(worst, 4)}
        line["bundle"] = check_bundle(arguments.sulcus, work / f"{name}-bundle", scans, work, arguments.schema)
        print(json.dumps(line), flush=True)
    shutil.rmtree(work)
    return int(failed)


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    sys.exit(main())
