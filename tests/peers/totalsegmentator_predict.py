"""Makes folders of weights as TotalSegmentator keeps them, with small random networks, and compares the masks of its own program with
those of `sulcus import totalsegmentator` and `sulcus predict --exact`. No weights of TotalSegmentator are needed or fetched.

    pip install TotalSegmentator==2.18.0 nnunetv2==2.8.1
    python totalsegmentator_predict.py fixtures ../../crates/sulcus-nnunet/tests/fixtures/totalsegmentator SCAN.nii.gz
    python totalsegmentator_predict.py compare path/to/sulcus SCAN.nii.gz… [--tasks total,total_fast]

`fixtures` writes what the tests read: the weights of one task, a scan with larger voxels than the given one, and the masks of
TotalSegmentator. `compare` counts the voxels that differ, in tasks with one and several networks, with and without a rough network, and
with a grid that is divided into three.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nnunet_import as models

HOME = models.ROOT / "home"
HOME.mkdir()
os.environ["TOTALSEG_HOME_DIR"] = str(HOME)
os.environ["TOTALSEG_WEIGHTS_PATH"] = os.environ["nnUNet_results"]
# No usage statistics are sent, and the notice about them is not shown.
(HOME / "config.json").write_text(
    json.dumps({"totalseg_id": "totalseg_TEST", "send_usage_stats": False, "prediction_counter": 0, "statistics_disclaimer_shown": True})
)

import nibabel
import numpy as np
import torch
from nibabel.processing import resample_to_output
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from totalsegmentator.python_api import totalsegmentator

TABLES = json.loads((Path(__file__).parents[2] / "crates/sulcus-nnunet/src/totalsegmentator/tasks.json").read_text())
# By how much the logits of labels that a task looks for are lowered.
RARITY = 0.6


def network(dataset, labels, trainer, configuration, spacing, reader, scan, patch, rare=()):
    """Writes one model. `rare` are labels that occur in a few voxels only."""
    name = TABLES["folders"][str(dataset)]
    target = Path(os.environ["nnUNet_results"]) / name
    if target.exists():
        return
    # TotalSegmentator sets these to the folder of its weights.
    os.environ |= {name: str(models.ROOT / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    models.TRAINERS.setdefault(trainer, recursive_find_trainer_class_by_name(trainer))
    torch.manual_seed(dataset)
    changes = {
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        # TotalSegmentator's plans have z first.
        "spacing": list(reversed(spacing)),
        "patch_size": patch,
        "median_image_size_in_voxels": [float(edge) for edge in patch],
    }
    plan = models.plans(
        name,
        {configuration: models.configuration(3, models.architecture(3, [3, 4, 5]), **changes)},
        image_reader_writer=reader,
        original_median_spacing_after_transp=changes["spacing"],
    )
    described = models.dataset_json({"background": 0, **{label: i for i, label in enumerate(labels, 1)}}, ["CT"])
    with contextlib.redirect_stdout(sys.stderr):
        folder = models.save(models.ROOT / "made", plan, configuration, trainer, [0], described, scan)
    # The trainer has made a folder for its own results there.
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(folder.parent, target)
    folder = target / folder.name
    if rare:
        make_rare(folder / "fold_0" / "checkpoint_final.pth", rare)


def make_rare(checkpoint, labels):
    """Lowers the logits of labels, so that they are found in a few voxels only and the box is smaller than the scan."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    weights = saved["network_weights"]
    heads = sorted(key for key in weights if key.startswith("decoder.seg_layers.") and key.endswith(".bias"))
    for label in labels:
        weights[heads[-1]][label] -= RARITY
    torch.save(saved, checkpoint)


def resampled(scan, spacing, folder):
    """The scan with this voxel size, to which the logits of random weights are fitted."""
    path = folder / f"{'_'.join(f'{mm:.3f}' for mm in spacing)}.nii.gz"
    if not path.exists():
        image = nibabel.as_closest_canonical(nibabel.load(scan))
        nibabel.save(resample_to_output(nibabel.Nifti1Image(image.get_fdata(), image.affine), spacing, order=1), path)
    return path


def weights(task, scan):
    """Makes the networks of a task, whose masks of this scan have many labels."""
    table = TABLES["tasks"][task]
    folder = models.ROOT / f"scan_{Path(scan).name}"
    folder.mkdir(exist_ok=True)
    names = TABLES["labels"][table["labels"]]
    own_mm = table["mm"] or [1.5, 1.5, 1.5]
    if "locate" in table:
        rough = table["locate"]
        of_rough = TABLES["labels"][rough["labels"]]
        rare = [of_rough.index(label) + 1 for label in rough["inside"]]
        network(
            rough["dataset"], of_rough, rough["trainer"], "3d_fullres", rough["mm"], "NibabelIOWithReorient",
            resampled(scan, rough["mm"], folder), [16, 24, 24], rare,
        )
    for index, dataset in enumerate(table["datasets"]):
        own = TABLES["part_labels"].get(str(dataset), names)
        # Labels that the network has and the result lacks.
        own = own + [f"auxiliary_{value}" for value in TABLES["auxiliary_labels"].get(table["labels"], [])]
        network(
            dataset, own, table["trainer"], table["configuration"], own_mm, ["NibabelIOWithReorient", "SimpleITKIO"][index % 2],
            resampled(scan, own_mm, folder), [32, 48, 40],
        )


def oracle(task, scan, split=False):
    """TotalSegmentator's own mask and the seconds that it took."""
    base = task.removesuffix("_fastest").removesuffix("_fast")
    options = {"fast": task.endswith("_fast"), "fastest": task.endswith("_fastest"), "force_split": split}
    start = time.time()
    with contextlib.redirect_stdout(sys.stderr):
        image = totalsegmentator(
            Path(scan), None, ml=True, task=base, device="cpu", quiet=True, nr_thr_resamp=1, nr_thr_saving=1, **options
        )
    return image, time.time() - start


def fixtures(target, scan):
    """One task with a rough network, a crop, another voxel size and two parts, and its mask of a scan that lies another way."""
    target.mkdir(parents=True, exist_ok=True)
    task = "headneck_muscles"
    image = nibabel.load(scan)
    small = resample_to_output(nibabel.Nifti1Image(image.get_fdata(), image.affine), [4.0, 3.5, 4.5], order=1)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(small.affine), nibabel.orientations.axcodes2ornt("PSL"))
    small = nibabel.Nifti1Image(np.rint(small.get_fdata()).astype(np.uint8), small.affine).as_reoriented(turn)
    nibabel.save(small, target / "scan.nii.gz")
    weights(task, target / "scan.nii.gz")
    for dataset in [TABLES["tasks"][task]["locate"]["dataset"], *TABLES["tasks"][task]["datasets"]]:
        name = TABLES["folders"][str(dataset)]
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(Path(os.environ["nnUNet_results"]) / name, target / name)
    mask, seconds = oracle(task, target / "scan.nii.gz")
    values = np.asarray(mask.dataobj).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, small.affine), target / f"{task}.nii.gz")
    print(f"{task}: {len(np.unique(values)) - 1} labels in {np.count_nonzero(values)} of {values.size} voxels, {seconds:.1f} s")


def set_split(sulcus_pack, target):
    """The file with a recipe that divides every grid: above 1 voxel and 60 slices, with TotalSegmentator's margin."""
    import onnx

    model = onnx.load(sulcus_pack)
    for entry in model.metadata_props:
        if entry.key == "sulcus.spec":
            spec = json.loads(entry.value)
            spec["recipe"]["split"] = {"above_voxels": 1, "above_slices": 60, "margin": 20}
            entry.value = json.dumps(spec)
    onnx.save(model, target)


def compare(sulcus, scans, tasks):
    worst = 0
    for scan in scans:
        for task in tasks:
            task, split = task.removesuffix("+split"), task.endswith("+split")
            weights(task, scan)
            with tempfile.TemporaryDirectory() as folder:
                pack, out = Path(folder) / "pack.onnx", Path(folder) / "mask.nii.gz"
                run = [sulcus, "import", "totalsegmentator", os.environ["nnUNet_results"], "--task", task, "-o", pack]
                subprocess.run([*map(str, run), "--quiet"], check=True)
                if split:
                    set_split(pack, pack)
                expected, seconds = oracle(task, scan, split)
                for numerics in [["--exact"], []]:
                    start = time.time()
                    arguments = [sulcus, "predict", "-m", pack, scan, "-o", out, "--quiet", "--json", *numerics]
                    line = json.loads(subprocess.run(list(map(str, arguments)), check=True, stdout=subprocess.PIPE).stdout)
                    own = time.time() - start
                    found = np.asarray(nibabel.load(out).dataobj)
                    values = np.asarray(expected.dataobj)
                    different = int(np.count_nonzero(found != values))
                    if numerics:
                        worst = max(worst, different)
                    boxes = [step["found"] for step in line["steps"] if step["step"] == "locate"]
                    print(
                        f"{Path(scan).parent.name}/{Path(scan).name} {task}{' in thirds' if split else ''} {' '.join(numerics) or 'default'}: "
                        f"{different} of {values.size} voxels differ ({np.count_nonzero(values)} foreground, "
                        f"{len(np.unique(values)) - 1} labels{f', box {boxes[0]}' if boxes else ''}); "
                        f"TotalSegmentator {seconds:.1f} s, sulcus {own:.1f} s, {line['peak_memory_bytes'] / 1e9:.2f} GB",
                        flush=True,
                    )
    return worst


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("fixtures")
    making.add_argument("target", type=Path)
    making.add_argument("scan", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("sulcus")
    comparing.add_argument("scans", nargs="+")
    comparing.add_argument("--tasks", default="total,total+split,total_fast,liver_vessels,headneck_muscles,kidney_cysts")
    arguments = parser.parse_args()
    if arguments.command == "fixtures":
        fixtures(arguments.target, arguments.scan)
        return 0
    worst = compare(arguments.sulcus, arguments.scans, arguments.tasks.split(","))
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
