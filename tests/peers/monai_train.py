"""Trains MONAI's DynUNet on a data set in nnU-Net's layout within a time budget, and prints its Dice on held-out cases.

The recipe is that of MONAI's tutorial `dynunet_pipeline`: kernels and strides from patch and spacing, deep supervision,
RandCropByPosNegLabel with as many patches around foreground as elsewhere, zoom, noise, smoothing, intensity scaling and flips,
Dice + cross-entropy, SGD with Nesterov momentum 0.99. Its learning rate decays with the spent time, so that it ends low within
any budget. `--optimizer adamw` is AdamW with a cosine, which suits budgets of minutes better. Images are resampled to the median
voxel size and normalised to mean 0 and standard deviation 1 (CT: clipped to the 0.5th and 99.5th percentile of the foreground,
as nnU-Net does). Masks are scored on the scans' own grids.

    python monai_train.py DATASET --splits splits.json --fold 0 --minutes 30 [--patch 160,160] [--optimizer adamw]

Prints one JSON line at the end. `cpu_minutes` is the processor time, for comparisons on a shared machine. The same budget and
cases for Sulcus: `sulcus train DATASET -o RUN --splits splits.json --fold 0 --time-budget 30m`. Only binary masks (foreground
against background) and label maps with consecutive values are supported.
"""

import argparse
import json
import math
import pathlib
import time

BEGUN = time.perf_counter()

import nibabel
import numpy
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandZoomd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
    SqueezeDimd,
)

KEYS = ["image", "label"]


def cases_of(root, names, ending):
    found = []
    for name in names:
        channels = sorted((root / "imagesTr").glob(f"{name}_????{ending}"))
        found.append({"name": name, "image": [str(c) for c in channels],
                      "label": str(root / "labelsTr" / f"{name}{ending}")})
    return found


def kernels_and_strides(patch, spacing):
    """The rule of MONAI's dynunet_pipeline: halve each axis whose voxels are within a factor of 2 of the finest and that keeps
    8 voxels or more."""
    sizes, spacing = list(patch), list(spacing)
    kernels, strides = [], []
    while True:
        ratios = [s / min(spacing) for s in spacing]
        stride = [2 if ratio <= 2 and size >= 8 else 1 for ratio, size in zip(ratios, sizes)]
        if all(s == 1 for s in stride):
            break
        kernels.append([3 if ratio <= 2 else 1 for ratio in ratios])
        strides.append(stride)
        sizes = [n / s for n, s in zip(sizes, stride)]
        spacing = [n * s for n, s in zip(spacing, stride)]
    strides.insert(0, len(patch) * [1])
    kernels.append(len(patch) * [3])
    return kernels, strides


def survey(cases, flat):
    """Median shape and voxel size, and the percentiles of the foreground."""
    shapes, spacings, inside = [], [], []
    for case in cases:
        image, label = nibabel.load(case["image"][0]), nibabel.load(case["label"])
        shapes.append(image.shape[:3])
        spacings.append(image.header.get_zooms()[:3])
        values = numpy.asarray(image.dataobj)[numpy.asarray(label.dataobj) > 0]
        inside.append(values[:: max(1, len(values) // 10_000)])
    shape, spacing = numpy.median(shapes, axis=0), numpy.median(spacings, axis=0)
    if flat:
        shape, spacing = shape[:2], spacing[:2]
    return shape, spacing, numpy.concatenate(inside)


def transforms(arguments, flat, spacing, ct, inside):
    """Deterministic ones, which are cached, and random ones."""
    fixed = [LoadImaged(KEYS), EnsureChannelFirstd(KEYS)]
    if flat:
        fixed += [SqueezeDimd(KEYS, dim=-1)]
    else:
        fixed += [Orientationd(KEYS, axcodes="RAS"), Spacingd(KEYS, pixdim=spacing, mode=("bilinear", "nearest"))]
    if ct:
        low, high = numpy.percentile(inside, [0.5, 99.5])
        mean, sd = inside.mean(), inside.std()
        to = [(low - mean) / sd, (high - mean) / sd]
        fixed += [ScaleIntensityRanged("image", low, high, *to, clip=True)]
    else:
        fixed += [NormalizeIntensityd("image", channel_wise=True)]
    fixed += [EnsureTyped(KEYS, track_meta=False)]
    patch = arguments.patch
    draw = [
        SpatialPadd(KEYS, patch),
        RandCropByPosNegLabeld(KEYS, label_key="label", spatial_size=patch, pos=1, neg=1,
                               num_samples=arguments.samples, image_key="image", image_threshold=-1e9),
        RandZoomd(KEYS, min_zoom=0.9, max_zoom=1.2, mode=("bicubic" if flat else "trilinear", "nearest"), prob=0.15),
        RandGaussianNoised("image", std=0.01, prob=0.15),
        RandGaussianSmoothd("image", sigma_x=(0.5, 1.15), sigma_y=(0.5, 1.15), sigma_z=(0.5, 1.15), prob=0.15),
        RandScaleIntensityd("image", factors=0.3, prob=0.15),
        *[RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in range(len(patch))],
        EnsureTyped(KEYS, track_meta=False),
    ]
    return fixed, draw


def loss_of(function, found, label):
    """With deep supervision, [N, heads, C, ...]: the weight halves with each coarser head."""
    if found.dim() == label.dim():
        return function(found, label)
    heads = torch.unbind(found, dim=1)
    weights = [0.5**i for i in range(len(heads))]
    return sum(w * function(head, label) for w, head in zip(weights, heads)) / sum(weights)


@torch.no_grad()
def dice_of(network, case, load, arguments, classes, flat):
    network.eval()
    item = load({k: case[k] for k in KEYS})
    # The prepared grid runs along RAS; so does the reference.
    image = nibabel.load(case["label"])
    truth = numpy.asarray((image if flat else nibabel.as_closest_canonical(image)).dataobj)
    truth = truth[..., 0] if flat else truth
    logits = sliding_window_inference(item["image"][None], arguments.patch, 1, network, overlap=0.5, mode="gaussian")
    if tuple(logits.shape[2:]) != truth.shape:
        logits = torch.nn.functional.interpolate(logits, truth.shape, mode="bilinear" if flat else "trilinear")
    found = logits[0].argmax(0).numpy()
    network.train()
    scores = []
    for label in range(1, classes):
        a, b = found == label, truth == label
        if a.any() or b.any():
            scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(numpy.mean(scores)) if scores else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--splits", type=pathlib.Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patch", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--samples", type=int, default=2, help="patches of a step, all from one case")
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    description = json.loads((arguments.dataset / "dataset.json").read_text())
    names = description.get("channel_names", description.get("modality", {}))
    classes = len(description["labels"])
    fold = json.loads(arguments.splits.read_text())[arguments.fold]
    train, held_out = (cases_of(arguments.dataset, fold[part], description["file_ending"]) for part in ("train", "val"))
    flat = nibabel.load(train[0]["image"][0]).shape[2] == 1
    shape, spacing, inside = survey(train, flat)
    if arguments.patch is None:
        most = 192 if flat else 96
        arguments.patch = [int(min(most, 16 * math.ceil(n / 16))) for n in shape]
    fixed, draw = transforms(arguments, flat, spacing, names.get("0") == "CT", inside)
    for transform in draw:
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(arguments.seed)
    data = CacheDataset(train, Compose([*fixed, *draw]), num_workers=0, progress=False)
    loader = DataLoader(data, batch_size=1, shuffle=True, num_workers=0, collate_fn=list_data_collate)
    kernels, strides = kernels_and_strides(arguments.patch, spacing)
    most = 512 if flat else 320
    filters = [min(arguments.filters * 2**i, most) for i in range(len(strides))]
    network = DynUNet(len(arguments.patch), len(names), classes, kernels, strides, strides[1:], filters=filters,
                      norm_name="instance", deep_supervision=True, deep_supr_num=max(1, min(3, len(strides) - 2)))
    function = DiceCELoss(to_onehot_y=True, softmax=True, batch=flat)
    if arguments.optimizer == "sgd":
        top, decay = 1e-2, lambda share: (1 - share) ** 0.9
        optimizer = torch.optim.SGD(network.parameters(), lr=top, momentum=0.99, weight_decay=3e-5, nesterov=True)
    else:
        top, decay = 1e-3, lambda share: 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        optimizer = torch.optim.AdamW(network.parameters(), lr=top, weight_decay=1e-2)

    load = Compose(fixed)
    before = time.perf_counter()
    dice_of(network, held_out[0], load, arguments, classes, flat)
    budget = 60 * arguments.minutes
    # The final prediction of the held-out cases is part of the budget.
    reserve = min(0.5 * budget, 1.3 * (time.perf_counter() - before) * len(held_out))
    steps = 0
    while (spent := time.perf_counter() - BEGUN) < budget - reserve:
        for batch in loader:
            spent = time.perf_counter() - BEGUN
            if spent >= budget - reserve:
                break
            for group in optimizer.param_groups:
                group["lr"] = top * decay(spent / (budget - reserve))
            optimizer.zero_grad(set_to_none=True)
            loss_of(function, network(batch["image"]), batch["label"]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
            optimizer.step()
            steps += 1
    trained = time.perf_counter() - BEGUN
    scores = {case["name"]: dice_of(network, case, load, arguments, classes, flat) for case in held_out}
    defined = [score for score in scores.values() if score is not None]
    print(json.dumps({
        "mean_dice": float(numpy.mean(defined)), "cases": len(defined), "steps": steps, "patch": arguments.patch,
        "samples": arguments.samples, "filters": filters, "optimizer": arguments.optimizer, "seed": arguments.seed,
        "trained_minutes": trained / 60, "minutes": (time.perf_counter() - BEGUN) / 60,
        "cpu_minutes": time.process_time() / 60, "dice": scores,
    }))


if __name__ == "__main__":
    main()
