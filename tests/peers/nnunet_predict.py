"""Masks of imported nnU-Net models against those of nnU-Net's own predictor, voxel by voxel, with times and memory.

    pip install nnunetv2==2.8.1
    python nnunet_predict.py path/to/sulcus examples/data/hippocampus [--thick SCAN.nii.gz] [--large SCAN.nii.gz] [--rounds 3] [--threads 2]

Networks of nnU-Net's architectures are trained for some seconds, on the hippocampus cases or, for the other scans, on classes of
intensity, so that few voxels lie near a tie. Each model is saved as nnU-Net does and imported; its masks in the exact mode must be equal.
Both programs predict in turn, each in processes of their own. Times are the least of the rounds: wall time and time of all processors. Ours
are of the whole process, theirs begin when Python has loaded the packages and the model. Memory is the peak of the process.
Prints a line of JSON for each case.
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
import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

READERS = {"SimpleITKIO": SimpleITKIO, "SimpleITKIOWithReorient": SimpleITKIOWithReorient}


def architecture(axes, features, strides, residual=False):
    plain = models.architecture(axes, features, residual)
    arguments = plain["arch_kwargs"]
    stages = len(features)
    arguments["kernel_sizes"] = [[3] * axes] * stages
    arguments["strides"] = strides
    arguments["n_blocks_per_stage" if residual else "n_conv_per_stage"] = [2] * stages
    arguments["n_conv_per_stage_decoder"] = [2] * (stages - 1)
    return plain


def cases(scans):
    """Name, scan, axes, changes of the configuration, changes of the plan, folds, mirroring."""
    iso = dict(features=[8, 16, 32], strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2]], patch_size=[32, 40, 32], spacing=[1.0, 1.0, 1.0])
    flat = dict(features=[8, 16, 32], strides=[[1, 1], [2, 2], [2, 2]], patch_size=[40, 40], spacing=[1.0, 1.0])
    small = scans["hippocampus"]
    yield "3-D", small, 3, iso, {}, [0], False
    yield "3-D mirrored", small, 3, iso, {}, [0], True
    yield "3-D five folds, mirrored", small, 3, iso, {}, [0, 1, 2, 3, 4], True
    yield "3-D resampled", small, 3, iso | dict(spacing=[1.3, 0.9, 1.1]), {}, [0], False
    yield "3-D padded", small, 3, iso | dict(patch_size=[64, 64, 64]), {}, [0], False
    yield "3-D residual", small, 3, iso | dict(residual=True), {}, [0], False
    yield "3-D regions", small, 3, iso, {"regions": True}, [0, 1], False
    yield "3-D transposed", small, 3, iso, {"transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1]}, [0], True
    yield "3-D reoriented", small, 3, iso, {"image_reader_writer": "SimpleITKIOWithReorient"}, [0], False
    low = dict(spacing=[2.0, 2.0, 2.0], patch_size=[24, 32, 24])
    yield "3-D cascade", small, 3, iso | dict(before=low), {}, [0, 1], False
    yield "3-D cascade, mirrored", small, 3, iso | dict(before=low, spacing=[0.9, 1.1, 1.0]), {}, [0], True
    yield "2-D", small, 2, flat, {}, [0], False
    yield "2-D mirrored, resampled", small, 2, flat | dict(spacing=[0.8, 1.2]), {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}, [0, 1], True
    if "thick" in scans:
        strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
        thick = dict(features=[8, 16, 32], strides=strides, patch_size=[12, 96, 96], spacing=[5.0, 1.0, 1.0])
        yield "thick slices", scans["thick"], 3, thick, {}, [0], False
        yield "thick slices, other distance", scans["thick"], 3, thick | dict(spacing=[4.0, 0.9, 0.9]), {}, [0], False
        torch_only = {"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_probabilities": "resample_torch_fornnunet"}
        for key in ("resampling_fn_data_kwargs", "resampling_fn_probabilities_kwargs"):
            torch_only[key] = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
        yield "thick slices, PyTorch's resampling", scans["thick"], 3, thick | torch_only, {}, [0], False
    if "large" in scans:
        large = iso | dict(patch_size=[64, 64, 64], use_mask_for_norm=[True])
        yield "whole head, 2 mm", scans["large"], 3, large | dict(spacing=[2.0, 2.0, 2.0]), {}, [0], False
        yield "whole head, 1.2 mm", scans["large"], 3, large | dict(patch_size=[96, 96, 96], spacing=[1.2, 1.2, 1.2]), {}, [0], False


def plan_of(name, axes, changes, plan_changes):
    """The plan, its configurations in the order in which they predict, and the data set."""
    changes = dict(changes)
    before = changes.pop("before", None)
    network = architecture(axes, changes.pop("features"), changes.pop("strides"), changes.pop("residual", False))
    which = ["2d" if axes == 2 else "3d_fullres"]
    base = dict(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[False])
    configurations = {which[0]: models.configuration(axes, network, **(base | changes))}
    if before is not None:
        configurations["3d_lowres"] = models.configuration(axes, network, **(base | changes | before), next_stage="3d_cascade_fullres")
        configurations["3d_cascade_fullres"] = {"inherits_from": which[0], "previous_stage": "3d_lowres"}
        which = ["3d_lowres", "3d_cascade_fullres"]
    plan = models.plans(f"Dataset001_{''.join(c if c.isalnum() else '_' for c in name)}", configurations)
    regions = plan_changes.get("regions", False)
    plan.update({key: value for key, value in plan_changes.items() if key != "regions"})
    labels = {"background": 0, "whole": [1, 2], "posterior": [2]} if regions else {"background": 0, "anterior": 1, "posterior": 2}
    described = models.dataset_json(labels, ("MRI",))
    if regions:
        described["regions_class_order"] = [1, 2]
    return plan, which, described


def training_pairs(kind, scan, reader):
    if kind == "hippocampus":
        folder = Path(scan).parent.parent
        names = sorted(path.name for path in (folder / "labelsTr").glob("*.nii.gz"))[:6]
        for name in names:
            image, properties = reader.read_images([str(folder / "imagesTr" / name)])
            yield image, reader.read_seg(str(folder / "labelsTr" / name))[0], properties
        return
    image, properties = reader.read_images([str(scan)])
    smooth = gaussian_filter(image[0], 1)
    low, high = np.quantile(smooth[smooth > smooth.min()], [0.5, 0.8])
    yield image, ((smooth > low).astype(np.int8) + (smooth > high))[None], properties


def train(network, pairs, plan, which, described, iterations, seed):
    """Adam on random patches: enough for a network whose masks look like the reference."""
    manager = PlansManager(plan)
    configuration = manager.get_configuration(which)
    prepared = []
    for image, seg, properties in pairs:
        data, seg, _ = configuration.preprocessor_class(verbose=False).run_case_npy(image, seg, dict(properties), manager, configuration, described)
        if configuration.previous_stage_name is not None:
            # The reference is the mask of the first stage.
            labels = manager.get_label_manager(described).foreground_labels
            data = np.vstack((data, models.convert_labelmap_to_one_hot(seg[0], labels, data.dtype)))
        prepared.append((torch.from_numpy(data.astype("f4")), torch.from_numpy(np.maximum(seg[0], 0).astype("i8"))))
    generator = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    patch, regions = list(configuration.patch_size), "regions_class_order" in described
    for _ in range(iterations):
        image, target = prepared[generator.integers(len(prepared))]
        if len(patch) == 2:
            z = generator.integers(image.shape[1])
            image, target = image[:, z], target[z]
        at = [slice(s := int(generator.integers(max(n - p, 0) + 1)), s + p) for n, p in zip(target.shape, patch)]
        image, target = image[(slice(None), *at)][None], target[tuple(at)][None]
        missing = [m for n, p in zip(reversed(target.shape[1:]), reversed(patch)) for m in (0, p - n)]
        image, target = torch.nn.functional.pad(image, missing), torch.nn.functional.pad(target, missing)
        logits = network(image)
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        if regions:
            wanted = torch.stack([target > 0, target > 1], 1).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        else:
            loss = torch.nn.functional.cross_entropy(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def save(folder, plan, which, folds, described, kind, scan, iterations):
    reader = READERS[plan["image_reader_writer"]]()
    pairs = list(training_pairs(kind, scan, reader))
    fold_of = iter(range(len(folds)))

    def trained(network):
        torch.manual_seed(seed := next(fold_of))
        for module in network.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)):
                torch.nn.init.kaiming_normal_(module.weight, 0.01)
        network.train()
        train(network, pairs, plan, which, described, iterations, seed)

    models.randomise = trained
    return models.save(folder, plan, which, "nnUNetTrainer", folds, described)


def measured(command):
    """The output of a process, its wall time, and the time of all processors."""
    start = time.time()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.time() - start
        out.seek(0), errors.seek(0)
        if process.returncode != 0:
            raise RuntimeError(errors.read())
        return out.read(), {"wall": round(wall, 2), "cpu": round(usage.ru_utime + usage.ru_stime, 2)}


PREDICT = """
import json, resource, sys, time, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
threads, mirror, targets, folds, scan, outputs = json.loads(sys.argv[1])
torch.set_num_threads(threads)
predictors = []
for target in targets:
    p = nnUNetPredictor(use_mirroring=mirror, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    p.initialize_from_trained_model_folder(target, folds)
    predictors.append(p)
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start, start_cpu, before = time.time(), cpu(), None
for p, output in zip(predictors, outputs):
    rw = p.plans_manager.image_reader_writer_class()
    image, properties = rw.read_images([scan])
    seg = p.predict_single_npy_array(image, properties, None if before is None else rw.read_seg(before)[0])
    rw.write_seg(seg, output, properties)
    before = output
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps({"wall": round(time.time() - start, 2), "cpu": round(cpu() - start_cpu, 2), "mb": round(peak * 1024 / 1e6)}))
"""


def their_mask(targets, folds, scan, mirror, out, threads):
    """In a process of its own. The last output is the mask. (The peak that the system counts for a child includes the process that started
    it, so both programs read their own.)"""
    outputs = [f"{out}.{i}.nii.gz" for i in range(len(targets) - 1)] + [str(out)]
    options = json.dumps([threads, mirror, [str(target) for target in targets], folds, str(scan), outputs])
    printed, _ = measured([sys.executable, "-c", PREDICT, options])
    return json.loads(printed.strip().splitlines()[-1])


def our_mask(sulcus, model, scan, out, *options):
    printed, times = measured([sulcus, "predict", "-m", model, scan, "-o", out, "--json", "-q", *options])
    return times | {"mb": round(json.loads(printed.strip().splitlines()[-1])["peak_memory_bytes"] / 1e6)}


def least(rounds):
    return {key: min(of_round[key] for of_round in rounds) for key in rounds[0]}


def differences(ours, theirs):
    a, b = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (ours, theirs))
    foreground = (a > 0) | (b > 0)
    dice = [2 * ((a == k) & (b == k)).sum() / max(1, (a == k).sum() + (b == k).sum()) for k in np.unique(b) if k]
    return {"different": int((a != b).sum()), "foreground": int(foreground.sum()), "worst_dice": round(float(min(dice, default=1)), 6)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sulcus")
    parser.add_argument("hippocampus", type=Path)
    parser.add_argument("--thick")
    parser.add_argument("--large")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--features", type=int, nargs="+", default=[8, 16, 32], help="channels of the networks' stages")
    parser.add_argument("--only")
    arguments = parser.parse_args()
    # Not one of those that the network was trained with.
    scans = {"hippocampus": str(sorted((arguments.hippocampus / "imagesTr").glob("*.nii.gz"))[10])}
    scans |= {key: vars(arguments)[key] for key in ("thick", "large") if vars(arguments)[key]}
    kinds = {scan: kind for kind, scan in scans.items()}
    torch.set_num_threads(arguments.threads)
    failed = False
    try:
        for name, scan, axes, changes, plan_changes, folds, mirror in cases(scans):
            if arguments.only and arguments.only not in name:
                continue
            plan, which, described = plan_of(name, axes, changes | {"features": arguments.features}, plan_changes)
            with contextlib.redirect_stdout(sys.stderr):
                iterations = arguments.iterations
                targets = [save(models.ROOT / "trained", plan, of, folds, described, kinds[scan], scan, iterations) for of in which]
            model = str(models.ROOT / "model.onnx")
            options = ["--fold", ",".join(map(str, folds)), "--configuration", which[-1], "-o", model, "-q"]
            subprocess.run([arguments.sulcus, "import", "nnunet", str(targets[-1]), *options], check=True)
            theirs, exact, default = (models.ROOT / f"{which}.nii.gz" for which in ("theirs", "exact", "default"))
            options = ["--threads", str(arguments.threads), *(["--mirror"] if mirror else [])]
            rounds = []
            for _ in range(arguments.rounds):
                rounds.append({
                    "theirs": their_mask(targets, folds, scan, mirror, theirs, arguments.threads),
                    "exact": our_mask(arguments.sulcus, model, scan, str(exact), "--exact", *options),
                    "default": our_mask(arguments.sulcus, model, scan, str(default), *options),
                })
            line = {"case": name} | {key: least([of_round[key] for of_round in rounds]) for key in rounds[0]}
            line["exact"] |= differences(exact, theirs)
            line["default"] |= differences(default, theirs)
            for mode in ("exact", "default"):
                line[mode]["ratios"] = {key: round(line[mode][key] / line["theirs"][key], 2) for key in ("wall", "cpu", "mb")}
            failed |= line["exact"]["different"] > 0
            print(json.dumps(line), flush=True)
            os.remove(model)
    finally:
        shutil.rmtree(models.ROOT)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
