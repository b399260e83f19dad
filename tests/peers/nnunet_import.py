"""Makes models with nnU-Net's own classes, as its trainer saves them, and the logits of its own predictor's network.

    pip install nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 onnxruntime
    python nnunet_import.py fixtures ../../crates/sulcus-nnunet/tests/fixtures
    python nnunet_import.py compare path/to/sulcus

`fixtures` writes small models that the tests of `sulcus import nnunet` read. `compare` makes larger ones, imports them with the given
program, and compares the logits of the imported file in ONNX Runtime with PyTorch's.
"""

import argparse
import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(tempfile.mkdtemp(prefix="nnunet-"))
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    (ROOT / variable).mkdir()
    os.environ[variable] = str(ROOT / variable)
os.environ["nnUNet_compile"] = "false"

import nibabel
import numpy as np
import PIL.Image
import skimage.io
import tifffile
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager, convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from torch import nn

SCAN = Path(__file__).parents[2] / "examples/data/case/image.nii.gz"
TRAINERS = {"nnUNetTrainer": nnUNetTrainer, "nnUNetTrainerBN": nnUNetTrainerBN}
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
# An unequal share of weights hides no mistake in their order; three labels and the background.
LABELS = {"background": 0, "front": 1, "back": 2}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": 3}


def architecture(axes, features, residual=False, **changes):
    """The entry `architecture` of a plan with kernels and strides that differ by axis."""
    stages = len(features)
    kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 1], [3, 3, 3]][:stages]
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 1, 2]][:stages]
    arguments = {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": [kernel[3 - axes :] for kernel in kernels],
        "strides": [stride[3 - axes :] for stride in strides],
        "n_conv_per_stage_decoder": [2, 1, 3][: stages - 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    arguments["n_blocks_per_stage" if residual else "n_conv_per_stage"] = [1, 2, 1, 1][:stages]
    arguments.update(changes)
    return {
        "network_class_name": RESIDUAL if residual else PLAIN,
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"] + (["block"] if "block" in changes else []),
    }


def bottleneck(axes, features):
    return architecture(
        axes,
        features,
        residual=True,
        block="dynamic_network_architectures.building_blocks.residual.BottleneckD",
        bottleneck_channels=[max(1, feature - 1) for feature in features],
        stem_channels=features[0] + 1,
    )


def old_plain(features, most):
    """The entries of a configuration of nnU-Net v2 before 2.4."""
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": features,
        "unet_max_num_features": most,
        "n_conv_per_stage_encoder": [2, 1, 1],
        "n_conv_per_stage_decoder": [1, 2],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    }


def configuration(axes, network, spacing=None, **changes):
    return {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 16][3 - axes :],
        "median_image_size_in_voxels": [8.0, 16.0, 16.0][3 - axes :],
        "spacing": spacing or [3.0, 1.0, 1.5][3 - axes :],
        "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
        "use_mask_for_norm": [False, False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "batch_dice": True,
        **(network if "UNet_class_name" in network else {"architecture": network}),
        **changes,
    }


def plans(name, configurations, **changes):
    properties = {"max": 900.0, "mean": 60.5, "median": 55.0, "min": -200.0, "percentile_00_5": -90.0, "percentile_99_5": 240.0, "std": 45.25}
    return {
        "dataset_name": name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 1.0, 1.5],
        "original_median_shape_after_transp": [8, 16, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": properties, "1": properties},
        "continue_training": False,
        **changes,
    }


def dataset_json(labels=LABELS, channels=("MRI", "CT"), ending=".nii.gz"):
    described = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels,
        "numTraining": 12,
        "file_ending": ending,
    }
    if labels is REGIONS:
        described["regions_class_order"] = [1, 2, 3]
    return described


ONE_CHANNEL = {"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False]}
# Models of one channel, with which a real scan is predicted. Those with `turned` predict the scan of `turned_scan`.
PREDICTS = {
    # Thick slices: separate resampling along z.
    "plain_3d": {"configuration": {**ONE_CHANNEL, "spacing": [3.6, 0.8, 1.1]}, "plan": {}},
    "plain_2d": {"configuration": {**ONE_CHANNEL, "spacing": [0.9, 1.2]}, "plan": {}},
    # Slices along x of the file.
    "residual_3d": {
        "configuration": {**ONE_CHANNEL, "spacing": [1.2, 0.9, 1.0], "use_mask_for_norm": [True]},
        "plan": {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]},
        "turned": True,
    },
    "plain_3d_bn": {
        "configuration": {**ONE_CHANNEL, "normalization_schemes": ["CTNormalization"], "spacing": [1.0, 1.0, 1.0]},
        "plan": {"image_reader_writer": "NibabelIOWithReorient"},
        "turned": True,
    },
    "folds_regions_3d": {"configuration": ONE_CHANNEL, "plan": {}},
}
# Models of pictures, which nnU-Net's readers of pictures read: the data set's ending, the scan, the model.
PICTURES = {
    "picture_2d": {
        "ending": ".png",
        "channels": ["R", "G", "B"],
        "configuration": {"normalization_schemes": ["RGBTo01Normalization"] * 3, "use_mask_for_norm": [False] * 3, "spacing": [0.8, 1.3]},
        "plan": {"image_reader_writer": "NaturalImage2DIO", "original_median_spacing_after_transp": [999.0, 1.0, 1.0]},
    },
    "tiff_3d": {
        "ending": ".tif",
        "channels": ["MRI"],
        "configuration": {**ONE_CHANNEL, "spacing": [1.2, 0.9, 1.3]},
        "plan": {"image_reader_writer": "Tiff3DIO", "original_median_spacing_after_transp": [1.0, 1.0, 1.0]},
    },
}
# The first stage of a cascade by the name of the second.
BEFORE = {"3d_cascade_fullres": "3d_lowres"}


def cascade():
    """Two stages of one plan, of which the second sees the mask of the first, as nnU-Net plans them."""
    network = architecture(3, [2, 3, 4])
    first = configuration(3, network, **ONE_CHANNEL, spacing=[3.5, 1.9, 2.1], next_stage="3d_cascade_fullres")
    fine = configuration(3, network, **ONE_CHANNEL | {"use_mask_for_norm": [True]}, spacing=[2.0, 1.0, 1.2])
    second = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    return plans("cascade_3d", {"3d_fullres": fine, "3d_lowres": first, "3d_cascade_fullres": second})


def add_mask(preprocessed, plan, described):
    """The preprocessed scan with the channels of the first stage's mask, as nnU-Net's data iterators add them."""
    data, mask, _ = preprocessed
    labels = PlansManager(plan).get_label_manager(described).foreground_labels
    return np.vstack((np.asarray(data[:]), convert_labelmap_to_one_hot(np.asarray(mask[0]), labels, np.float32)))


def models():
    """Name, plan, configuration, trainer, folds, data set: one model for each row of the networks that can be imported."""
    two, three = [3, 4, 4], [2, 3, 4]
    simple = {
        "plain_2d": (2, architecture(2, two), "nnUNetTrainer"),
        "plain_3d": (3, architecture(3, three), "nnUNetTrainer"),
        "plain_2d_bn": (2, architecture(2, two), "nnUNetTrainerBN"),
        "plain_3d_bn": (3, architecture(3, three), "nnUNetTrainerBN"),
        "residual_2d": (2, architecture(2, two, residual=True), "nnUNetTrainer"),
        "residual_3d": (3, architecture(3, [2, 3, 3, 4], residual=True), "nnUNetTrainer"),
        "residual_2d_bn": (2, architecture(2, two, residual=True), "nnUNetTrainerBN"),
        "residual_3d_bn": (3, architecture(3, three, residual=True), "nnUNetTrainerBN"),
        "bottleneck_2d": (2, bottleneck(2, two), "nnUNetTrainer"),
        "bottleneck_3d": (3, bottleneck(3, three), "nnUNetTrainer"),
        "activation_first_2d": (2, architecture(2, two, nonlin_first=True, nonlin="torch.nn.ReLU"), "nnUNetTrainer"),
        "activation_first_2d_bn": (2, architecture(2, two, nonlin_first=True), "nnUNetTrainerBN"),
        "scalars_2d": (2, architecture(2, two, kernel_sizes=3, strides=[1, 2, 2], n_conv_per_stage=1, n_conv_per_stage_decoder=1, conv_bias=False), "nnUNetTrainer"),
    }
    for name, (axes, network, trainer) in simple.items():
        which = "2d" if axes == 2 else "3d_fullres"
        changes = PREDICTS.get(name)
        if changes is None:
            yield name, plans(name, {which: configuration(axes, network)}), which, trainer, [0], dataset_json()
        else:
            plan = plans(name, {which: configuration(axes, network, **changes["configuration"])}, **changes["plan"])
            yield name, plan, which, trainer, [0], dataset_json(channels=["MRI"])
    old = plans("old_3d", {"3d_fullres": configuration(3, old_plain(2, 5))})
    old["foreground_intensity_properties_by_modality"] = old.pop("foreground_intensity_properties_per_channel")
    del old["label_manager"]
    yield "old_3d", old, "3d_fullres", "nnUNetTrainer", [0], {**dataset_json(), "modality": {"0": "MRI", "1": "CT"}}
    name, changes = "folds_regions_3d", PREDICTS["folds_regions_3d"]
    inherited = {
        "3d_fullres": configuration(3, architecture(3, three), batch_size=7, **changes["configuration"]),
        "3d_small": {"inherits_from": "3d_fullres", "spacing": [1.3, 1.3, 1.3], "batch_size": 1},
    }
    yield name, plans(name, inherited), "3d_small", "nnUNetTrainer", [0, 1], dataset_json(REGIONS, ["MRI"])


def randomise(network):
    with torch.no_grad():
        for parameter in network.parameters():
            # Normalisation layers with initial weights would hide a mistake in reading them.
            nn.init.uniform_(parameter, 0.2, 0.9) if parameter.ndim == 1 else nn.init.normal_(parameter, 0, 0.3)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                nn.init.normal_(buffer, 0, 0.5)
            elif name.endswith("running_var"):
                nn.init.uniform_(buffer, 0.5, 2)


def turned_scan(file):
    """The scan with another order and direction of its axes, and an uneven margin of zeros, which nnU-Net crops."""
    image = nibabel.load(SCAN)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("PSL"))
    image = image.as_reoriented(turn)
    before, after = (3, 0, 2), (1, 4, 0)
    values = np.pad(np.asarray(image.dataobj).astype(np.int16), list(zip(before, after)))
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    nibabel.save(nibabel.Nifti1Image(values, affine), file)


def balance(trainer, scan, described, mask=None):
    """Shifts and scales the logits of random weights, so that every class occurs in the mask of the scan. `mask` is that of the first stage
    of a cascade."""
    preprocessor = trainer.configuration_manager.preprocessor_class(verbose=False)
    case = preprocessor.run_case([str(scan)], mask and str(mask), trainer.plans_manager, trainer.configuration_manager, described)
    data = case[0] if mask is None else add_mask(case, trainer.plans_manager.plans, described)
    patch = trainer.configuration_manager.patch_size
    data = torch.from_numpy(np.asarray(data[:], np.float32))
    if len(patch) == 2:
        data = data[:, data.shape[1] // 2]
    for axis, edge in enumerate(patch, 1):
        start = max(0, (data.shape[axis] - edge) // 2)
        data = data.narrow(axis, start, min(edge, data.shape[axis]))
    missing = [m for n, p in zip(reversed(data.shape[1:]), reversed(patch)) for m in (0, p - n)]
    trainer.network.eval()
    with torch.no_grad():
        logits = trainer.network(torch.nn.functional.pad(data, missing)[None])
        logits = (logits[0] if isinstance(logits, (list, tuple)) else logits)[0].flatten(1)
        head = trainer.network.decoder.seg_layers[-1]
        scale = 2 / logits.std(1)
        # Regions lie inside each other, so each is smaller than the one before.
        shares = torch.linspace(0.4, 0.8, len(logits)) if "regions_class_order" in described else torch.full([len(logits)], 0.5)
        middle = torch.stack([torch.quantile(values, share) for values, share in zip(logits, shares)])
        head.bias.copy_((head.bias - middle) * scale)
        head.weight.mul_(scale.view(-1, *[1] * (head.weight.ndim - 1)))


def save(folder, plan, which, trainer_name, folds, described, scan=None, mask=None):
    """Writes a trained model as nnU-Net does. With a scan (and the mask of the first stage of a cascade), every class occurs in its mask.
    Returns the model's folder."""
    # The trainer looks for preprocessed cases, which it does not read before it trains.
    cases = ROOT / "nnUNet_preprocessed" / plan["dataset_name"] / "nnUNetPlans"
    cases.mkdir(parents=True, exist_ok=True)
    (cases / "case.b2nd").touch()
    target = folder / plan["dataset_name"] / f"{trainer_name}__{plan['plans_name']}__{which}"
    for fold in folds:
        with contextlib.redirect_stdout(sys.stderr):
            trainer = TRAINERS[trainer_name](copy.deepcopy(plan), which, fold, copy.deepcopy(described), torch.device("cpu"))
            trainer.initialize()
            if "UNet_class_name" not in plan["configurations"][which]:
                # Sets the axes along which prediction may mirror. Checkpoints of old versions lack them.
                trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        randomise(trainer.network)
        if scan is not None:
            with contextlib.redirect_stdout(sys.stderr):
                balance(trainer, scan, described, mask)
        trainer._best_ema = np.float64(0.75)
        trainer.current_epoch = 4
        (target / f"fold_{fold}").mkdir(parents=True)
        trainer.save_checkpoint(str(target / f"fold_{fold}" / "checkpoint_final.pth"))
    written = {key: value for key, value in plan.items() if key != "continue_training"}
    (target / "plans.json").write_text(json.dumps(written, indent=1))
    (target / "dataset.json").write_text(json.dumps(described, indent=1))
    return target


def noise(shape, seed=99):
    """The same numbers as `noise` in the tests."""
    values, state = np.empty(int(np.prod(shape)), np.float32), seed
    for i in range(values.size):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        values[i] = np.float32((state >> 8) / 2**23) - np.float32(1)
    return torch.from_numpy(values.reshape(shape))


def pytorch_logits(target, folds, shape):
    """The logits of each fold's network as nnU-Net's predictor loads it, one after the other along the channel axis."""
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    with contextlib.redirect_stdout(sys.stderr):
        predictor.initialize_from_trained_model_folder(str(target), folds)
    found = []
    for parameters in predictor.list_of_parameters:
        predictor.network.load_state_dict(parameters)
        predictor.network.eval()
        with torch.no_grad():
            found.append(predictor.network(noise(shape)))
    return torch.cat(found, 1)


def predict(target, folds, scan, output, mirror, mask=None):
    """The mask of nnU-Net's own predictor on the processor. `mask` is that of the first stage of a cascade."""
    before = None
    if mask is not None:
        # The name of the scan without the number of its channel.
        before = ROOT / "before"
        before.mkdir(exist_ok=True)
        shutil.copy(mask, before / f"{Path(scan).name[:-len('_0000.nii.gz')]}.nii.gz")
    predictor = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    with contextlib.redirect_stdout(sys.stderr):
        predictor.initialize_from_trained_model_folder(str(target), folds)
        truncated = str(output).removesuffix(predictor.dataset_json["file_ending"])
        predictor.predict_from_files_sequential([[str(scan)]], [truncated], overwrite=True, folder_with_segs_from_prev_stage=before and str(before))
    for left in ("dataset.json", "plans.json", "predict_from_raw_data_args.json", output.with_suffix(".json").name):
        (output.parent / left).unlink(missing_ok=True)


def near_ties(self, logits):
    """The voxels whose decision a unit in the last place of half precision can change, in place of the labels."""
    logits = torch.as_tensor(logits).float()
    if self.has_regions:
        return (logits.abs() <= 2.0**-10).any(0).to(torch.uint8)
    second, first = logits.topk(2, 0).values.flip(0)
    return (first - second <= torch.from_numpy(np.spacing(first.abs().numpy().astype(np.float16)).astype(np.float32))).to(torch.uint8)


def ties(target, folds, scan, mirror, mask=None):
    """The indices of near ties in the scan, x fastest."""
    original, LabelManager.convert_logits_to_segmentation = LabelManager.convert_logits_to_segmentation, near_ties
    output = ROOT / f"ties{json.loads((target / 'dataset.json').read_text())['file_ending']}"
    predict(target, folds, scan, output, mirror, mask)
    LabelManager.convert_logits_to_segmentation = original
    values = skimage.io.imread(output) if output.suffix in (".png", ".tif") else np.asarray(nibabel.load(output).dataobj).T
    return np.flatnonzero(values).tolist()


def archive(targets, file):
    """An archive with the layout and compression of nnUNetv2_export_model_to_zip."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as written:
        for path in sorted(path for target in targets for path in target.rglob("*")):
            if path.is_file():
                inside = zipfile.ZipInfo(str(path.relative_to(targets[0].parent.parent)), (2026, 1, 1, 0, 0, 0))
                inside.compress_type = zipfile.ZIP_DEFLATED
                written.writestr(inside, path.read_bytes(), compresslevel=9)


def fixtures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    logits, of_masks = {}, {}
    turned = folder / "turned.nii.gz"
    turned_scan(turned)
    for name, plan, which, trainer, folds, described in models():
        torch.manual_seed(len(name))
        scan = (turned if PREDICTS[name].get("turned") else SCAN) if name in PREDICTS else None
        target = save(ROOT / "models", plan, which, trainer, folds, described, scan)
        axes = 2 if which == "2d" else 3
        shape = [1, len(described["channel_names"]), *[4, 8, 8][3 - axes :]]
        found = pytorch_logits(target, folds, shape)
        archive([target], folder / f"{name}.zip")
        if name in PREDICTS:
            for mirror in (False, True):
                mask = f"{name}{'_mirrored' if mirror else ''}"
                predict(target, folds, scan, folder / f"{mask}.nii.gz", mirror)
                of_masks[mask] = ties(target, folds, scan, mirror)
        logits[name] = {"input": shape, "shape": list(found.shape), "every_fifth": [round(float(v), 6) for v in found.flatten()[::5]]}
    of_masks |= cascade_fixture(folder, turned) | picture_fixtures(folder)
    (folder / "logits.json").write_text(json.dumps(logits) + "\n")
    (folder / "ties.json").write_text(json.dumps(of_masks) + "\n")


def picture_scans(folder):
    """A colour picture and a TIFF of several pages. Both state a pixel size, which nnU-Net does not read."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:45, :52]
    waves = [np.sin(0.2 * x + c) + np.cos(0.15 * y * (c + 1)) for c in range(3)]
    colours = np.stack([np.clip(127 + 50 * wave + random.normal(0, 8, wave.shape), 0, 255).astype(np.uint8) for wave in waves], -1)
    PIL.Image.fromarray(colours).save(folder / "picture.png", dpi=(254, 254))
    z, y, x = np.mgrid[:11, :34, :29]
    pages = 900 + 300 * (np.sin(0.25 * x) + np.cos(0.2 * y + 0.4 * z)) + random.normal(0, 40, z.shape)
    tifffile.imwrite(folder / "pages.tif", pages.astype(np.uint16), compression="zlib", photometric="minisblack", resolution=(25.4, 25.4), resolutionunit="INCH")


def picture_fixtures(folder):
    """Models of pictures and their masks. Returns the near ties."""
    picture_scans(folder)
    of_masks = {}
    for (name, changes), scan in zip(PICTURES.items(), ("picture.png", "pages.tif")):
        torch.manual_seed(len(name))
        axes, which = (2, "2d") if name == "picture_2d" else (3, "3d_fullres")
        network = architecture(axes, [3, 4, 4] if axes == 2 else [2, 3, 4])
        plan = plans(name, {which: configuration(axes, network, **changes["configuration"])}, **changes["plan"])
        for channel in range(len(changes["channels"])):
            plan["foreground_intensity_properties_per_channel"][str(channel)] = plan["foreground_intensity_properties_per_channel"]["0"]
        described = dataset_json(channels=changes["channels"], ending=changes["ending"])
        target = save(ROOT / "models", plan, which, "nnUNetTrainer", [0], described, folder / scan)
        archive([target], folder / f"{name}.zip")
        for mirror in (False, True):
            mask = f"{name}{'_mirrored' if mirror else ''}"
            predict(target, [0], folder / scan, folder / f"{mask}{changes['ending']}", mirror)
            of_masks[mask] = ties(target, [0], folder / scan, mirror)
    return of_masks


def cascade_fixture(folder, scan):
    """Both stages of a cascade, the second with two folds, and its masks. Returns the near ties of both stages."""
    torch.manual_seed(5)
    plan, described = cascade(), dataset_json(channels=["MRI"])
    second, first = next(iter(BEFORE.items()))
    # Both stages have the folds, because an import takes the same ones of both.
    folds = [0, 1]
    targets = [save(ROOT / "models", plan, first, "nnUNetTrainer", folds, described, scan)]
    before = {mirror: ROOT / f"lowres_{mirror}.nii.gz" for mirror in (False, True)}
    for mirror, mask in before.items():
        predict(targets[0], folds, scan, mask, mirror)
    targets.append(save(ROOT / "models", plan, second, "nnUNetTrainer", folds, described, scan, before[False]))
    archive(targets, folder / "cascade_3d.zip")
    of_masks = {}
    for mirror, mask in before.items():
        name = f"cascade_3d{'_mirrored' if mirror else ''}"
        predict(targets[1], folds, scan, folder / f"{name}.nii.gz", mirror, mask)
        of_masks[name] = ties(targets[1], folds, scan, mirror, mask)
        of_masks[f"{name}_first"] = ties(targets[0], folds, scan, mirror)
    return of_masks


def compare(sulcus):
    import onnxruntime

    worst = 0.0
    for name, plan, which, trainer, folds, described in models():
        plan = copy.deepcopy(plan)
        for found in plan["configurations"].values():
            arguments = found.get("architecture", {}).get("arch_kwargs")
            if arguments is not None:
                arguments["features_per_stage"] = [8 * feature for feature in arguments["features_per_stage"]]
                for key in ("stem_channels", "bottleneck_channels"):
                    if key in arguments:
                        arguments[key] = (np.array(arguments[key]) * 8).tolist()
            elif "UNet_base_num_features" in found:
                found["UNet_base_num_features"], found["unet_max_num_features"] = 16, 40
        torch.manual_seed(0)
        target = save(ROOT / "larger", plan, which, trainer, folds, described)
        axes = 2 if which == "2d" else 3
        shape = [1, len(described["channel_names"]), *[16, 32, 48][3 - axes :]]
        expected = pytorch_logits(target, folds, shape).numpy()
        file = ROOT / f"{name}.onnx"
        subprocess.run([sulcus, "import", "nnunet", str(target), "-o", str(file), "-q"], check=True)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        [found] = session.run(None, {"image": noise(shape).numpy()})
        difference = float(np.abs(found - expected).max())
        worst = max(worst, difference)
        print(f"{name:24} {found.shape!s:24} largest difference {difference:.1e} of {np.abs(expected).max():.1f}")
    print(f"largest difference of all: {worst:.1e}")
    return 0 if worst < 1e-4 else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["fixtures", "compare"])
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.what == "fixtures":
            return fixtures(arguments.path)
        return compare(arguments.path)
    finally:
        shutil.rmtree(ROOT)


if __name__ == "__main__":
    sys.exit(main())
