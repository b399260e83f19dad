"""Trains the network that `sulcus train` plans for MSD Task04 in PyTorch, and prints its Dice over time.

A plain training script: the same network, batch, patch, loss, optimiser and learning rates as preset `auto`
(AdamW, Dice + cross-entropy, half a cosine that ends with the budget), foreground in half of the patches, mirroring along all
axes as the only augmentation. Scores are over whole volumes: a sliding window with Gaussian weights (Isensee et al. 2021), mean
of the two structures' Dice. Prints one JSON line for each
evaluation: 16 of the validation cases during training, all of them at the end.

    pytorch_train.py TASK_FOLDER [--fold 0] [--minutes 15] [--threads 2] [--seed 1]

`minutes` is wall-clock time. `cpu_minutes` is the processor time of the process, for comparisons on a shared machine.
"""

import argparse
import json
import math
import pathlib
import time

import nibabel
import numpy
import torch

from pytorch_step import CLASSES, UNet

WIDTHS = [16, 32, 64, 128]
PATCH = (40, 56, 40)
BATCH = 2
RATE, LAST_RATE, WARMUP = 1e-3, 1e-5, 20
CLIP = 12.0
SCORED_WHILE_TRAINING = 16


def read(folder, name):
    image = nibabel.as_closest_canonical(nibabel.load(folder / "imagesTr" / f"{name}.nii.gz")).get_fdata(dtype=numpy.float32)
    label = nibabel.as_closest_canonical(nibabel.load(folder / "labelsTr" / f"{name}.nii.gz")).get_fdata()
    image = (image - image.mean()) / max(image.std(), 1e-8)
    # Axes z, y, x, as in Sulcus's network.
    return image.transpose(2, 1, 0).copy(), label.astype(numpy.int64).transpose(2, 1, 0).copy()


def padded(image, label):
    """Padded to at least the size of a patch, with dark background."""
    lack = [max(0, p - n) for p, n in zip(PATCH, image.shape)]
    around = [(n // 2, n - n // 2) for n in lack]
    return numpy.pad(image, around, constant_values=image.min()), numpy.pad(label, around)


def draw(cases, foreground, random):
    image, label, voxels = cases[random.integers(len(cases))]
    room = [n - p for n, p in zip(image.shape, PATCH)]
    if foreground and len(voxels):
        middle = voxels[random.integers(len(voxels))]
        start = [min(max(0, int(m) - p // 2), r) for m, p, r in zip(middle, PATCH, room)]
    else:
        start = [int(random.integers(r + 1)) for r in room]
    cut = tuple(slice(s, s + p) for s, p in zip(start, PATCH))
    mirrored = tuple(axis for axis in range(3) if random.random() < 0.5)
    return [numpy.flip(a[cut], mirrored).copy() for a in (image, label)]


def loss_of(logits, target):
    """Dice of each patch over the foreground, and cross-entropy."""
    truth = torch.stack([target == k for k in range(CLASSES)], dim=1).float()
    p, t = logits.softmax(1)[:, 1:], truth[:, 1:]
    both, either = (p * t).sum((2, 3, 4)), (p + t).sum((2, 3, 4))
    dice = ((2 * both + 1e-5) / (either + 1e-5)).mean()
    return torch.nn.functional.cross_entropy(logits, target) + 1 - dice


def weights():
    one = [numpy.exp(-((numpy.arange(p) - (p - 1) / 2) ** 2) / (2 * (p / 8) ** 2)) for p in PATCH]
    product = one[0][:, None, None] * one[1][None, :, None] * one[2][None, None, :]
    return torch.from_numpy(numpy.maximum(product, product[product > 0].min()).astype(numpy.float32))


@torch.no_grad()
def segment(network, image, gaussian):
    whole, _ = padded(image, image.astype(numpy.int64))
    total = torch.zeros((CLASSES, *whole.shape))
    starts = []
    for n, p in zip(whole.shape, PATCH):
        steps = math.ceil((n - p) / (p / 2)) + 1
        starts.append([round(i * (n - p) / max(1, steps - 1)) for i in range(steps)])
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                cut = tuple(slice(s, s + p) for s, p in zip((z, y, x), PATCH))
                tile = torch.from_numpy(whole[cut].copy())[None, None]
                total[(slice(None), *cut)] += network(tile)[0] * gaussian
    before = [max(0, p - n) // 2 for p, n in zip(PATCH, image.shape)]
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape))
    return total[(slice(None), *inside)].argmax(0).numpy()


def score(network, cases, gaussian):
    network.eval()
    per_label = {k: [] for k in range(1, CLASSES)}
    for image, label in cases:
        found = segment(network, image, gaussian)
        for k, values in per_label.items():
            a, b = found == k, label == k
            if a.any() or b.any():
                values.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    network.train()
    return {str(k): float(numpy.mean(v)) for k, v in per_label.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=pathlib.Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scorings", type=int, default=12)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    random = numpy.random.default_rng(arguments.seed)
    fold = json.loads((arguments.task / "splits_final.json").read_text())[arguments.fold]
    train = []
    for name in fold["train"]:
        image, label = padded(*read(arguments.task, name))
        train.append((image, label, numpy.argwhere(label > 0)))
    held_out = [read(arguments.task, name) for name in fold["val"]]
    picked = [held_out[i * len(held_out) // SCORED_WHILE_TRAINING] for i in range(SCORED_WHILE_TRAINING)]
    gaussian = weights()
    network = UNet(WIDTHS, 3, False).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    budget = 60 * arguments.minutes
    steps, scored = 0, 0
    # The final evaluation of all cases must fit into the budget. Its duration is estimated from the first evaluation.
    reserve = 0.05 * budget

    def report(cases, last):
        dice = score(network, cases, gaussian)
        print(json.dumps({"minutes": (time.perf_counter() - begun) / 60, "cpu_minutes": time.process_time() / 60,
                          "steps": steps, "dice": dice, "mean_dice": float(numpy.mean(list(dice.values()))),
                          "cases": len(cases), "last": last}), flush=True)

    while (spent := time.perf_counter() - begun) < budget - reserve:
        share = spent / (budget - reserve)
        rate = LAST_RATE + (RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / WARMUP)
        patches = [draw(train, i < BATCH / 2, random) for i in range(BATCH)]
        image = torch.from_numpy(numpy.stack([p[0] for p in patches]))[:, None]
        target = torch.from_numpy(numpy.stack([p[1] for p in patches]))
        optimiser.zero_grad(set_to_none=True)
        loss_of(network(image), target).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        steps += 1
        if share > (scored + 1) / (arguments.scorings + 1):
            scored += 1
            before = time.perf_counter()
            report(picked, False)
            reserve = 1.2 * (time.perf_counter() - before) * len(held_out) / len(picked)
    report(held_out, True)


if __name__ == "__main__":
    main()
