"""Writes what nnU-Net's own functions compute, for the tests of `sulcus-pipeline` that compare with it to the bit.

    python tests/peers/nnunet_numerics.py crates/sulcus-pipeline/tests/fixtures

needs `pip install nnunetv2==2.8.1` (NumPy 2.4, SciPy 1.17, scikit-image 0.26, PyTorch 2.15, batchgenerators 0.25.5). `nnunet_functions.json` has single
functions, `nnunet_predictor.json` whole predictions of its predictor on a processor. The networks are affine functions of the voxel and
its position, so that both sides compute the same logits to the bit; positions make mirrored predictions differ.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

RNG = np.random.default_rng(20)


def hexadecimal(array):
    return np.ascontiguousarray(array).tobytes().hex()


def spline(order, order_z=0, separate_z=None):
    rule = {"method": {"spline": {"order": order, "order_z": order_z}}}
    return rule if separate_z is None else rule | {"separate_z": separate_z}


def resampling_function(rule):
    separate_z = rule.get("separate_z")
    if rule["method"] == "interpolate":
        return "resample_torch_fornnunet", {"force_separate_z": separate_z}
    of_spline = rule["method"]["spline"]
    return "resample_data_or_seg_to_shape", dict(of_spline, force_separate_z=separate_z)


def resample(rule, values, to, from_mm, to_mm):
    name, options = resampling_function(rule)
    function = {f.__name__: f for f in (resample_data_or_seg_to_shape, resample_torch_fornnunet)}[name]
    result = function(values[None], to, from_mm, to_mm, is_seg=False, **options)
    return np.asarray(result)[0]


def resampling_cases():
    iso, thick = [1.0, 1.0, 1.0], [4.0, 1.0, 1.0]
    cases = [
        (spline(3), "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(1), "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(0), "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(3), "f4", (1, 9, 11), (1, 12, 8), iso, iso),
        (spline(3), "f4", (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(3), "f4", (6, 8, 9), (6, 11, 7), thick, [4.0, 0.7, 1.3]),
        (spline(3), "f4", (8, 6, 9), (11, 4, 7), [1.0, 4.0, 1.0], [0.7, 6.0, 1.3]),
        (spline(3), "f4", (8, 9, 6), (11, 7, 9), [1.0, 1.0, 4.0], [0.7, 1.3, 2.5]),
        (spline(3, 1), "f4", (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(3, 3), "f4", (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(3, 0, True), "f4", (6, 8, 9), (9, 11, 7), [1.2, 1.0, 1.0], [0.8, 0.7, 1.3]),
        (spline(3, 0, False), "f4", (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(1), "f2", (9, 10, 8), (14, 7, 9), iso, [0.6, 1.4, 0.9]),
        (spline(1), "f2", (9, 10, 8), (7, 13, 11), [2.0, 0.7, 1.3], thick),
        (spline(2), "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(4), "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(5), "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(5, 2), "f4", (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(2, 5), "f4", (8, 9, 6), (11, 7, 9), [1.0, 1.0, 4.0], [0.7, 1.3, 2.5]),
        (spline(4, 4), "f2", (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(5), "f4", (1, 9, 2), (1, 12, 5), iso, iso),
        ({"method": "interpolate"}, "f4", (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        # Rows and columns together above 128: below, PyTorch adds in another order.
        ({"method": "interpolate"}, "f4", (2, 12, 9), (3, 70, 60), thick, [2.0, 0.2, 0.15]),
        ({"method": "interpolate"}, "f2", (4, 9, 11), (2, 90, 41), [2.0, 0.7, 1.3], thick),
    ]
    for rule, dtype, start, to, from_mm, to_mm in cases:
        values = (RNG.normal(size=start) * 3).astype(dtype)
        found = resample(rule, values, np.array(to), from_mm, to_mm)
        yield {
            "rule": rule, "dtype": dtype, "from": start, "to": to, "from_mm": from_mm, "to_mm": to_mm,
            "values": hexadecimal(values), "found_dtype": found.dtype.str[1:], "found": hexadecimal(found),
        }


def normalisation_cases():
    classes = {
        "z_score": (schemes.ZScoreNormalization, False), "z_score_nonzero": (schemes.ZScoreNormalization, True),
        "min_max": (schemes.RescaleTo01Normalization, False), "none": (schemes.NoNormalization, False),
        "rgb_to01": (schemes.RGBTo01Normalization, False), "ct": (schemes.CTNormalization, False),
    }
    ct = {"mean": 91.34, "std": 33.7, "percentile_00_5": 11.25, "percentile_99_5": 201.4}
    # The last one has rows that do not fit into NumPy's buffer together.
    boxes = [((9, 10, 13), (0, 0, 0, 0, 0, 0)), ((30, 31, 33), (1, 0, 2, 1, 0, 1)), ((6, 20, 25), (0, 1, 1, 1, 0, 0)),
             ((4, 101, 103), (1, 0, 1, 1, 1, 1))]
    for name, (scheme, masked) in classes.items():
        for full, (z0, z1, y0, y1, x0, x1) in boxes if name.startswith("z_score") else boxes[:1]:
            for transpose in ((0, 1, 2), (2, 0, 1)):
                scan = scan_of(full, 1)[0] % 256
                box = tuple(slice(a, n - b) for a, b, n in zip((z0, y0, x0), (z1, y1, x1), full))
                view = scan[None].copy().transpose([0] + [t + 1 for t in transpose])
                view = view[(slice(None), *(box[t] for t in transpose))]
                inside = (np.arange(view[0].size) % 7 != 3).reshape(view[0].shape)
                if masked:
                    view[0][~inside] = 0
                seg = np.where(inside, 0, -1)
                found = scheme(masked, ct).run(view[0], seg)
                yield {
                    "scheme": {"scheme": name} | ({"clip": [11.25, 201.4], "mean": 91.34, "sd": 33.7} if name == "ct" else {}),
                    "full": full, "box": [[s.start, s.stop] for s in box], "transpose": transpose,
                    "shape": found.shape, "checksum": checksum(found.astype("f4").ravel().view("u4")),
                    "first": hexadecimal(found.ravel()[:8].astype("f4")),
                }


def mask_cases():
    """Labels 0 to 3 and -1 outside, in blocks and with single voxels. Even factors put many voxels between two labels."""
    iso, thick = [1.0, 1.0, 1.0], [4.0, 1.0, 1.0]
    torch_only = {"method": "interpolate"}
    cases = [
        (spline(1), (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(1), (8, 6, 10), (16, 12, 20), iso, [0.5, 0.5, 0.5]),
        (spline(1), (8, 12, 10), (4, 6, 5), iso, [2.0, 2.0, 2.0]),
        (spline(0), (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(3), (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (spline(1), (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
        (spline(1), (6, 8, 9), (6, 16, 18), thick, [4.0, 0.5, 0.5]),
        (spline(1), (8, 6, 9), (11, 4, 7), [1.0, 4.0, 1.0], [0.7, 6.0, 1.3]),
        (spline(1, 1), (8, 9, 6), (11, 7, 12), [1.0, 1.0, 4.0], [0.7, 1.3, 2.0]),
        (torch_only, (7, 9, 11), (10, 6, 15), iso, [0.7, 1.5, 0.7]),
        (torch_only, (8, 6, 10), (16, 12, 20), iso, [0.5, 0.5, 0.5]),
        (torch_only, (6, 8, 9), (13, 11, 7), thick, [2.0, 0.7, 1.3]),
    ]
    functions = {f.__name__: f for f in (resample_data_or_seg_to_shape, resample_torch_fornnunet)}
    for rule, start, to, from_mm, to_mm in cases:
        z, y, x = np.meshgrid(*(np.arange(n) for n in start), indexing="ij")
        mask = np.where(RNG.random(start) < 0.2, RNG.integers(-1, 4, start), (z // 3 + y // 3 + x // 4) % 5 - 1)
        name, options = resampling_function(rule)
        found = np.asarray(functions[name](mask[None].astype("f4"), np.array(to), from_mm, to_mm, is_seg=True, **options))[0]
        digits = lambda values: "".join(str(int(v) + 1) for v in values.ravel())
        yield {"rule": rule, "from": start, "to": to, "from_mm": from_mm, "to_mm": to_mm, "values": digits(mask), "found": digits(found)}


def checksum(bits):
    """Σ bits·(i + 1) modulo 2⁶⁴."""
    weights = np.arange(1, bits.size + 1, dtype=np.uint64)
    return str(int((bits.astype(np.uint64) * weights).sum(dtype=np.uint64)))


def gaussian_cases():
    for tile in [(8, 12, 10), (7, 9, 5), (40, 56, 40), (128, 128, 128), (28, 256, 256), (14, 10), (192, 160), (56, 40), (1, 16, 16)]:
        weights = compute_gaussian(tile, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu")).numpy()
        bits = weights.ravel().view("u2")
        centre = tuple(n // 2 for n in tile)
        yield {"tile": tile, "checksum": checksum(bits), "centre": float(weights[centre]), "first": int(bits[0])}


def step_cases():
    for image, tile, step in [(110, 64, 0.5), (189, 96, 0.5), (191, 96, 0.5), (64, 64, 0.5), (128, 64, 1.0), (97, 40, 0.3),
                              (57, 56, 0.5), (41, 40, 0.8), (333, 128, 0.5), (101, 40, 0.9)]:
        yield {"image": image, "tile": tile, "step": step, "starts": compute_steps_for_sliding_window((image,), (tile,), step)[0]}


def shape_cases():
    for _ in range(40):
        own, target = RNG.integers(1, 60, (2, 3)) / 20
        shape = RNG.integers(1, 60, 3)
        yield {"own": list(own), "target": list(target), "shape": shape.tolist(), "found": compute_new_shape(shape, own, target).tolist()}


def scan_of(shape, channels, margin=(0, 0, 0), corner=0):
    """Whole numbers, so that every program has the same: `[channels, z, y, x]`, 0 in a margin on both sides of each axis and where
    z + y + x < corner."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    index = (z * shape[1] + y) * shape[2] + x
    inside = np.ones(shape, dtype=bool)
    for at, n, m in zip((z, y, x), shape, margin):
        inside &= (at >= m) & (at < n - m)
    inside &= z + y + x >= corner
    scan = [(((index * 7919 + channel * 104729) % 1009) // 4 + 20 * ((z // 2 + y // 3 + x // 3 + channel) % 7) + 1) * inside
            for channel in range(channels)]
    return np.stack(scan).astype(np.float32)


class Affine(torch.nn.Module):
    """logits[k] = v·gain[k] + ((z·slope[k, 0] + y·slope[k, 1]) + x·slope[k, 2]), in single precision. v is the sum of the channels; those
    of a mask count ½, 1, 1½, …"""

    def __init__(self, dimensions, channels):
        super().__init__()
        self.dimensions, self.channels = dimensions, channels

    def load_state_dict(self, parameters, **_):
        self.gain, self.slope = parameters

    def forward(self, image):
        space = image.shape[2:]
        at = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (1,) * (3 - self.dimensions) + tuple(space)), indexing="ij")
        weights = [1] * self.channels + [(i + 1) / 2 for i in range(image.shape[1] - self.channels)]
        x = sum((channel * np.float32(weight) for channel, weight in zip(image[0].numpy(), weights)), np.float32(0))
        logits = [x * g + ((at[0] * s[0] + at[1] * s[1]) + at[2] * s[2]).reshape(space) for g, s in zip(self.gain, self.slope)]
        return torch.from_numpy(np.stack(logits)[None].astype(np.float32))


def predictor_cases():
    default = dict(
        dimensions=3, shape=(21, 26, 24), channels=1, margin=(0, 0, 0), spacing=(1.0, 1.0, 1.0), target=(1.0, 1.0, 1.0),
        transpose=(0, 1, 2), patch=(16, 16, 16), classes=4, regions=False, folds=1, mirror=None, masked=False, step=0.5,
        image=spline(3), logits=spline(1), scheme="ZScoreNormalization", corner=0, mask=spline(1), previous=None,
    )
    cases = {
        "isotropic": dict(spacing=(1.2, 0.9, 1.1)),
        "no_resampling": dict(),
        "small_scan": dict(shape=(11, 30, 13), spacing=(1.0, 1.3, 1.0)),
        "thick_slices": dict(shape=(9, 30, 28), spacing=(4.0, 0.8, 0.9), target=(3.5, 1.0, 1.0), patch=(8, 16, 16)),
        "thick_slices_same_number": dict(shape=(9, 30, 28), spacing=(4.0, 0.8, 0.9), target=(4.0, 1.0, 1.0), patch=(8, 16, 16)),
        "transposed": dict(shape=(24, 26, 9), spacing=(0.8, 0.9, 4.0), target=(4.0, 1.0, 1.0), transpose=(2, 0, 1), patch=(8, 16, 16)),
        "cropped": dict(shape=(30, 30, 30), margin=(3, 2, 4), spacing=(1.2, 0.9, 1.1), masked=True, channels=2),
        "cropped_unmasked": dict(shape=(26, 30, 30), margin=(3, 2, 4), spacing=(1.2, 0.9, 1.1)),
        "mirrored": dict(mirror=(0, 1, 2), spacing=(1.2, 0.9, 1.1)),
        "mirrored_some": dict(mirror=(0, 2), spacing=(1.2, 0.9, 1.1), transpose=(1, 0, 2)),
        "folds": dict(folds=5, mirror=(0, 1), spacing=(1.2, 0.9, 1.1)),
        "regions": dict(regions=True, classes=3, folds=3, spacing=(1.2, 0.9, 1.1)),
        "two_dimensional": dict(dimensions=2, shape=(7, 30, 28), spacing=(5.0, 0.8, 0.9), target=(1.0, 1.0), patch=(16, 24), mirror=(0, 1)),
        "two_dimensional_small": dict(dimensions=2, shape=(5, 13, 40), spacing=(5.0, 1.0, 0.9), target=(1.0, 1.0), patch=(16, 24)),
        "interpolated": dict(shape=(9, 30, 28), spacing=(4.0, 0.8, 0.9), target=(3.5, 1.0, 1.0), patch=(8, 16, 16),
                             image={"method": "interpolate"}, logits={"method": "interpolate"}),
        "step": dict(step=0.3, spacing=(1.2, 0.9, 1.1)),
        "quartic": dict(spacing=(1.2, 0.9, 1.1), image=spline(4, 2)),
        # The default mode resamples logits linearly.
        "cubic_logits": dict(spacing=(1.2, 0.9, 1.1), logits=spline(3, 3)),
        "quintic_logits": dict(shape=(9, 30, 28), spacing=(4.0, 0.8, 0.9), target=(3.5, 1.0, 1.0), patch=(8, 16, 16), logits=spline(5, 2)),
        "cascade": dict(spacing=(1.2, 0.9, 1.1), masked=True, corner=14, previous=dict(target=(2.1, 1.7, 1.9), masked=False)),
        "cascade_cropped": dict(shape=(26, 30, 30), margin=(3, 2, 4), spacing=(1.2, 0.9, 1.1), channels=2, corner=30,
                                previous=dict(target=(2.4, 1.8, 2.2), folds=2)),
        "cascade_thick_slices": dict(shape=(9, 30, 28), spacing=(4.0, 0.8, 0.9), target=(3.5, 1.0, 1.0), patch=(8, 16, 16), corner=10,
                                     previous=dict(target=(4.0, 1.6, 1.5), mirror=(0, 1, 2)), mirror=(0, 1, 2)),
        "cascade_regions": dict(regions=True, classes=3, folds=2, spacing=(1.2, 0.9, 1.1), transpose=(1, 0, 2), mirror=(0, 2),
                                previous=dict(folds=1, target=(2.0, 2.0, 2.0))),
        "cascade_interpolated": dict(spacing=(1.2, 0.9, 1.1), mask={"method": "interpolate"}, previous=dict(target=(2.1, 1.7, 1.9))),
        "cascade_same_grid": dict(corner=12, previous=dict(target=(2.1, 1.7, 1.9))),
    }
    for name, changes in cases.items():
        case = default | changes
        before = None
        if case["previous"] is not None:
            before = predict(case | {"previous": None} | case["previous"], None)
        found = predict(case, before)
        yield {"name": name} | found | ({} if before is None else {"previous": {"name": name} | before})


def predict(case, before):
    gains = (RNG.normal(size=(case["folds"], case["classes"])) * 2).astype("f4")
    slopes = (RNG.normal(size=(case["folds"], case["classes"], 3)) * 0.1).astype("f4")
    if case["dimensions"] == 2:
        slopes[..., 0] = 0
    labels = {"background": 0} | {f"label {k}": k for k in range(1, case["classes"])}
    dataset = {"channel_names": {str(c): "MRI" for c in range(case["channels"])}, "file_ending": ".nii.gz", "numTraining": 1}
    if case["regions"]:
        labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": [3]}
        dataset["regions_class_order"] = [1, 2, 3]
    dataset["labels"] = labels
    image, image_options = resampling_function(case["image"])
    logits, logits_options = resampling_function(case["logits"])
    mask, mask_options = resampling_function(case["mask"])
    configuration = {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": list(case["patch"]),
        "median_image_size_in_voxels": [1] * case["dimensions"], "spacing": list(case["target"]),
        "normalization_schemes": [case["scheme"]] * case["channels"], "use_mask_for_norm": [case["masked"]] * case["channels"],
        "resampling_fn_data": image, "resampling_fn_data_kwargs": image_options | {"is_seg": False},
        "resampling_fn_seg": mask, "resampling_fn_seg_kwargs": mask_options | {"is_seg": True},
        "resampling_fn_probabilities": logits, "resampling_fn_probabilities_kwargs": logits_options | {"is_seg": False},
        "architecture": {}, "batch_dice": True,
    }
    transpose = list(case["transpose"])
    plans = PlansManager({
        "dataset_name": "Dataset001_Test", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": transpose, "transpose_backward": [transpose.index(i) for i in range(3)],
        "configurations": {"x": configuration}, "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(c): {} for c in range(case["channels"])},
    })
    manager = plans.get_configuration("x")
    predictor = nnUNetPredictor(tile_step_size=case["step"], use_gaussian=True, use_mirroring=case["mirror"] is not None,
                                perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    network = Affine(case["dimensions"], case["channels"])
    predictor.manual_initialization(network, plans, manager, list(zip(gains, slopes)), dataset, "nnUNetTrainer", case["mirror"])
    scan = scan_of(case["shape"], case["channels"], case["margin"], case["corner"])
    properties = {"spacing": list(case["spacing"])}
    seg = None
    if before is not None:
        seg = np.array([int(digit, 16) for digit in before["labels"]], "f4").reshape(1, *case["shape"])
    data, seg, properties = manager.preprocessor_class(verbose=False).run_case_npy(scan, seg, properties, plans, manager, dataset)
    if before is not None:
        # As nnU-Net's data iterators do.
        labels = plans.get_label_manager(dataset).foreground_labels
        data = np.vstack((data, convert_labelmap_to_one_hot(seg[0], labels, data.dtype)))
    on_grid = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data.astype("f4")).contiguous())
    found = convert_predicted_logits_to_segmentation_with_correct_shape(
        on_grid.cpu().detach().numpy(), plans, manager, plans.get_label_manager(dataset), properties)
    found = np.asarray(found)
    case = {key: value for key, value in case.items() if key != "scheme"}
    digits = "".join("0123456789abcdef"[v] for v in found.ravel())
    return case | {
        "gains": hexadecimal(gains), "slopes": hexadecimal(slopes), "grid": list(data.shape[1:]),
        "preprocessed_checksum": checksum(np.ascontiguousarray(data, dtype="f4").ravel().view("u4")),
        "logits_checksum": checksum(on_grid.numpy().ravel().view("u2")), "labels": digits,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    functions = {
        "resampling": list(resampling_cases()), "masks": list(mask_cases()), "normalisation": list(normalisation_cases()), "gaussian": list(gaussian_cases()),
        "steps": list(step_cases()), "shapes": list(shape_cases()),
    }
    (folder / "nnunet_functions.json").write_text(json.dumps(functions))
    (folder / "nnunet_predictor.json").write_text(json.dumps(list(predictor_cases())))
