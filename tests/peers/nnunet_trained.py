"""Masks of a trained nnU-Net model against those of nnU-Net's own predictor, and which of nnU-Net's roundings each difference comes from.

    pip install nnunetv2==2.8.1
    sulcus train Task04_Hippocampus -o run --preset unet3d-lite --time-budget 8m && sulcus export run --nnunet FOLDER
    python nnunet_trained.py masks path/to/sulcus FOLDER SCAN... [--resample 2,2,2] [--mirror]
    python nnunet_trained.py times path/to/sulcus FOLDER SCAN [--rounds 3] [--threads 2] [--before quiet]

`masks` predicts each scan with `sulcus predict`, with and without `--exact`, and with nnU-Net's predictor on the processor: as it is, and with
its half precision replaced by single precision, first of the logits after resampling, then also of their sums, then also of the weights of the
window. So what differs between nnU-Net and nnU-Net in single precision is nnU-Net's rounding, and what differs between the latter and the
default mode is ours. Each voxel that differs with `--exact` is listed with the two greatest logits of nnU-Net. `--resample` changes the voxel
size of the scans before, by SimpleITK. Prints a line of JSON for each scan, and one for their sum.

`times` measures whole processes, which predict in turn: wall time, time of all processors, and the peak of memory, and for nnU-Net also the wall time
after Python has loaded the packages and the model. The least of the rounds counts.
"""

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["nnUNet_compile"] = "false"
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, tempfile.gettempdir())

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference import predict_from_raw_data as theirs
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

# What is computed in single precision in each variant of nnU-Net's predictor.
VARIANTS = {
    "nnU-Net": (),
    "resampled logits in single precision": ("resampled",),
    "and their sums": ("resampled", "sums"),
    "and the weights": ("resampled", "sums", "weights"),
}
SINGLE = "and the weights"


class WithSingle:
    """PyTorch, in which `half` is single precision."""

    half = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


def predictor_of(folder, mirror):
    predictor = theirs.nnUNetPredictor(use_mirroring=mirror, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    with contextlib.redirect_stdout(sys.stderr):
        folds = sorted(int(path.name.removeprefix("fold_")) for path in Path(folder).glob("fold_?"))
        predictor.initialize_from_trained_model_folder(str(folder), folds)
    return predictor


def their_logits(predictor, data, single, tiles):
    """`tiles` receives what the network says of each tile, in order, or has it already."""
    gaussian = theirs.compute_gaussian
    gaussian.cache_clear()
    if "sums" in single:
        theirs.torch = WithSingle()
    if "weights" in single:
        theirs.compute_gaussian = functools.partial(gaussian, dtype=torch.float32)
    predict = predictor._internal_maybe_mirror_and_predict
    kept = iter(list(tiles))

    def answer(tile):
        found = next(kept, None)
        if found is None:
            found = predict(tile)
            tiles.append(found.clone())
        return found.clone()  # The caller multiplies it in place.

    predictor._internal_maybe_mirror_and_predict = answer
    try:
        with contextlib.redirect_stdout(sys.stderr):
            logits = predictor.predict_logits_from_preprocessed_data(data).numpy()
    finally:
        theirs.torch, theirs.compute_gaussian = torch, gaussian
        predictor._internal_maybe_mirror_and_predict = predict
    return logits.astype(np.float32) if single else logits


def their_masks(predictor, scan):
    """The mask of each variant, and the logits of nnU-Net as it is on the scan's grid, `[K, z, y, x]`, NaN outside the crop."""
    plan, configuration, described = predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    image, properties = plan.image_reader_writer_class().read_images([str(scan)])
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(image, None, properties, plan, configuration, described)
    data = torch.from_numpy(data).float().contiguous()
    labels, masks, tiles = plan.get_label_manager(described), {}, []
    for name, single in VARIANTS.items():
        logits = their_logits(predictor, data, single, tiles)
        if not single:
            own = logits
        masks[name] = np.asarray(convert_predicted_logits_to_segmentation_with_correct_shape(logits, plan, configuration, labels, properties))
    spacing = [properties["spacing"][axis] for axis in plan.transpose_forward]
    current = list(configuration.spacing)
    current = current if len(current) == 3 else [spacing[0], *current]
    own = np.asarray(configuration.resampling_fn_probabilities(own, properties["shape_after_cropping_and_before_resampling"], current, spacing))
    full = np.full((len(own), *properties["shape_before_cropping"]), np.nan, own.dtype)
    full[(slice(None), *(slice(*edges) for edges in properties["bbox_used_for_cropping"]))] = own
    return masks, full.transpose([0] + [axis + 1 for axis in plan.transpose_backward])


def our_mask(sulcus, model, scan, out, *options):
    subprocess.run([sulcus, "predict", "-m", str(model), str(scan), "-o", str(out), "-q", *options], check=True)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(out)))


def compared(a, b):
    """The number of voxels that differ, of those in the foreground of either, and the shares that make the Dice of each label."""
    dice = {int(k): [int(2 * ((a == k) & (b == k)).sum()), int((a == k).sum() + (b == k).sum())] for k in np.union1d(a, b) if k}
    return {"different": int((a != b).sum()), "foreground": int(((a > 0) | (b > 0)).sum()), "dice": dice}


def total(found):
    sums = {"different": 0, "foreground": 0, "dice": {}}
    for of_scan in found:
        for key in ("different", "foreground"):
            sums[key] += of_scan[key]
        for label, (both, all_of) in of_scan["dice"].items():
            before = sums["dice"].get(label, (0, 0))
            sums["dice"][label] = [before[0] + both, before[1] + all_of]
    return sums


def readable(found):
    equal = 1 - found["different"] / max(1, found["foreground"])
    return {"different": found["different"], "foreground": found["foreground"], "equal_percent": round(100 * equal, 4),
            "dice": {label: round(both / all_of, 6) for label, (both, all_of) in found["dice"].items()}}


def gaps(ours, mask, logits):
    """The two greatest logits where masks differ, and how many units in the last place of half precision lie between them."""
    for at in np.argwhere(ours != mask)[:50]:
        second, first = np.sort(logits[(slice(None), *at)])[-2:]
        unit = np.spacing(np.float16(abs(first)))
        yield {"voxel": at[::-1].tolist(), "logits": [float(first), float(second)], "units": round(float(first - second) / float(unit), 2)}


def resampled(scan, millimetres, out):
    image = sitk.ReadImage(str(scan), sitk.sitkFloat32)
    size = [max(1, round(n * mm / to)) for n, mm, to in zip(image.GetSize(), image.GetSpacing(), millimetres)]
    moved = [0.5 * (to - mm) for mm, to in zip(image.GetSpacing(), millimetres)]
    origin = image.TransformContinuousIndexToPhysicalPoint([m / mm for m, mm in zip(moved, image.GetSpacing())])
    grid = [size, sitk.Transform(), sitk.sitkLinear, origin, millimetres, image.GetDirection()]
    sitk.WriteImage(sitk.Resample(image, *grid), str(out))
    return out


def import_model(sulcus, folder, work):
    model = work / "model.onnx"
    subprocess.run([sulcus, "import", "nnunet", str(folder), "-o", str(model), "-q"], check=True)
    return model


def masks(arguments, work):
    model, predictor = import_model(arguments.sulcus, arguments.folder, work), predictor_of(arguments.folder, arguments.mirror)
    options = ["--mirror"] if arguments.mirror else []
    comparisons = {"exact, nnU-Net": [], "default, nnU-Net": [], f"default, {SINGLE}": []}
    comparisons |= {f"nnU-Net, {name}": [] for name in VARIANTS if name != "nnU-Net"}
    failed = False
    for index, scan in enumerate(arguments.scans):
        name = Path(scan).name
        if arguments.resample:
            scan = resampled(scan, arguments.resample, work / f"{index}.nii.gz")
        found, logits = their_masks(predictor, scan)
        found["exact"] = our_mask(arguments.sulcus, model, scan, work / "mask.nii.gz", "--exact", *options)
        found["default"] = our_mask(arguments.sulcus, model, scan, work / "mask.nii.gz", *options)
        line = {"scan": name}
        for pair, all_found in comparisons.items():
            a, b = pair.split(", ", 1)
            all_found.append(compared(found[a], found[b]))
            line[pair] = readable(all_found[-1])
        line["gaps with --exact"] = list(gaps(found["exact"], found["nnU-Net"], logits))
        failed |= any(gap["units"] > 1 for gap in line["gaps with --exact"])
        print(json.dumps(line), flush=True)
    print(json.dumps({"scans": len(arguments.scans), "mirror": arguments.mirror} | {pair: readable(total(of)) for pair, of in comparisons.items()}))
    return int(failed)


THEIRS = """
import contextlib, json, sys, time
start = time.time()
import os
os.environ["nnUNet_compile"] = "false"
import torch
torch.set_num_threads(int(sys.argv[1]))
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
folder, mirror, scan, out, folds = sys.argv[2], sys.argv[3] == "1", sys.argv[4], sys.argv[5], [int(fold) for fold in sys.argv[6].split(",")]
with contextlib.redirect_stdout(sys.stderr):
    predictor = nnUNetPredictor(use_mirroring=mirror, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, folds)
    loaded = time.time()
    rw = predictor.plans_manager.image_reader_writer_class()
    image, properties = rw.read_images([scan])
    rw.write_seg(predictor.predict_single_npy_array(image, properties), out, properties)
print(json.dumps({"loaded_wall": round(time.time() - loaded, 2)}))
"""


def measured(before, command):
    """What a process prints, with its wall time, the time of all processors, and its peak of memory as GNU time reports it."""
    with tempfile.NamedTemporaryFile("r") as report:
        timed = ["/usr/bin/time", "-f", "%e %U %S %M", "-o", report.name, *command]
        ran = subprocess.run([*before, *timed], check=True, capture_output=True, text=True)
        wall, user, system, kilobytes = (float(value) for value in report.read().split())
    printed = json.loads(ran.stdout.strip().splitlines()[-1])
    return printed, {"wall": wall, "cpu": round(user + system, 2), "mb": round(kilobytes * 1024 / 1e6)}


def times(arguments, work):
    model, scan = import_model(arguments.sulcus, arguments.folder, work), arguments.scans[0]
    if arguments.resample:
        scan = resampled(scan, arguments.resample, work / "scan.nii.gz")
    folds = ",".join(sorted(path.name.removeprefix("fold_") for path in Path(arguments.folder).glob("fold_?")))
    threads, before = str(arguments.threads), arguments.before.split()
    predict = [arguments.sulcus, "predict", "-m", str(model), str(scan), "--json", "-q", "--threads", threads, *(["--mirror"] if arguments.mirror else [])]
    commands = {
        "nnU-Net": [sys.executable, "-c", THEIRS, threads, str(arguments.folder), str(int(arguments.mirror)), str(scan), str(work / "theirs.nii.gz"), folds],
        "exact": [*predict, "-o", str(work / "exact.nii.gz"), "--exact"],
        "default": [*predict, "-o", str(work / "default.nii.gz")],
    }
    rounds = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, command in commands.items():
            printed, figures = measured(before, command)
            rounds[name].append(figures | ({"loaded_wall": printed["loaded_wall"]} if name == "nnU-Net" else {}))
    line = {"scan": Path(arguments.scans[0]).name, "engine": printed["engine"], "threads": arguments.threads, "rounds": arguments.rounds}
    line |= {name: {key: min(of[key] for of in found) for key in found[0]} for name, found in rounds.items()}
    for name in ("exact", "default"):
        line[name]["ratios"] = {key: round(line[name][key] / line["nnU-Net"][key], 3) for key in ("wall", "cpu", "mb")}
        line[name]["ratios"]["wall_after_loading"] = round(line[name]["wall"] / line["nnU-Net"]["loaded_wall"], 3)
        found = [sitk.GetArrayFromImage(sitk.ReadImage(str(work / f"{which}.nii.gz"))) for which in (name, "theirs")]
        line[name] |= readable(compared(*found))
    print(json.dumps(line))
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["masks", "times"])
    parser.add_argument("sulcus")
    parser.add_argument("folder", type=Path, help="a model folder of nnU-Net, with plans.json")
    parser.add_argument("scans", nargs="+")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--resample", type=lambda text: [float(mm) for mm in text.split(",")])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--before", default="", help="a program that runs each measured command, such as `nice -n -5`")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as work:
        return {"masks": masks, "times": times}[arguments.what](arguments, Path(work))


if __name__ == "__main__":
    sys.exit(main())
