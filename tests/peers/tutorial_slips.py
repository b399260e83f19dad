"""What the repairs of the classic U-Net tutorial are worth, on the pictures of examples/retina.

The tutorial: a 2-D U-Net with batch normalisation, soft Dice on a sigmoid, Adam with a constant rate, random rotation,
translation, flips, brightness and contrast, Jaccard of the thresholded prediction. As it was published, its image and mask are
transformed independently, its two output channels are compared with a mask of one channel and thresholded as if they were one,
and a scan that is predicted is not normalised as in training. Each step below repairs one of these and keeps the ones before.

    python tutorial_slips.py ../../examples/retina/data [--steps 300] [--width 16] [--seed 0]

`--width 64` is the tutorial's own network (31.0 M parameters). The last two children are held out. Prints a Markdown table: Jaccard
index and Dice on the pictures that were trained on, and on those that were not.
"""

import argparse
import math
import pathlib
import time

import numpy
import torch
from PIL import Image

PATCH, BATCH, RATE, SMOOTH = 128, 4, 1e-3, 1e-6
STEPS = [
    ("as published", set()),
    ("the same transform for image and mask", {"transform"}),
    ("pictures normalised at prediction as in training", {"transform", "normalise"}),
    ("one output channel for one structure", {"transform", "normalise", "channel"}),
]


class DoubleConv(torch.nn.Sequential):
    def __init__(self, inputs, outputs):
        layers = []
        for n in (inputs, outputs):
            layers += [torch.nn.Conv2d(n, outputs, 3, padding=1), torch.nn.BatchNorm2d(outputs), torch.nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(torch.nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        self.down = torch.nn.ModuleList(DoubleConv(i, o) for i, o in zip([3, *widths], widths))
        pairs = list(zip(widths, widths[1:]))[::-1]
        self.up = torch.nn.ModuleList(torch.nn.ConvTranspose2d(deep, flat, 2, 2) for flat, deep in pairs)
        self.join = torch.nn.ModuleList(DoubleConv(2 * flat, flat) for flat, _ in pairs)
        self.head = torch.nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        kept = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else torch.nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1]):
            x = join(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


def read(folder):
    cases = {}
    for file in sorted((folder / "images").iterdir()):
        image = numpy.asarray(Image.open(file), dtype=numpy.float32).transpose(2, 0, 1)
        mask = (numpy.asarray(Image.open(folder / "masks" / f"{file.stem}.png")) > 0).astype(numpy.float32)
        cases[file.stem] = (torch.from_numpy(image.copy()), torch.from_numpy(mask)[None])
    return cases


def normalised(image):
    return (image - image.min()) / (image.max() - image.min())


def affine(random):
    """Rotation by up to 10°, translation by up to a tenth, flips: a grid for both image and mask."""
    angle = math.radians(random.uniform(-10, 10))
    shift = random.uniform(-0.2, 0.2, 2)
    flips = numpy.where(random.random(2) < 0.5, -1.0, 1.0)
    turn = numpy.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * flips
    matrix = torch.tensor(numpy.column_stack([turn, shift]), dtype=torch.float32)[None]
    return torch.nn.functional.affine_grid(matrix, (1, 1, PATCH, PATCH), align_corners=False)


def draw(cases, random, repaired):
    image, mask = cases[random.integers(len(cases))]
    top, left = (random.integers(n - PATCH + 1) for n in mask.shape[1:])
    cut = (slice(None), slice(top, top + PATCH), slice(left, left + PATCH))
    image, mask = normalised(image)[cut], mask[cut]
    grid = affine(random)
    other = grid if "transform" in repaired else affine(random)
    sample = torch.nn.functional.grid_sample
    image = sample(image[None], grid, align_corners=False)[0]
    mask = sample(mask[None], other, mode="nearest", align_corners=False)[0]
    brightness, contrast = random.uniform(0.8, 1.2, 2)
    mean = image.mean()
    return ((image * brightness - mean) * contrast + mean).clamp(0, 1), mask


def dice_loss(logits, mask):
    found = torch.sigmoid(logits)
    # A mask of one channel is repeated silently for an output of two.
    both = (found * mask).sum()
    return 1 - (2 * both + SMOOTH) / (found.sum() + mask.sum() + SMOOTH)


@torch.no_grad()
def scores(network, cases, repaired):
    network.eval()
    jaccard, dice = [], []
    for image, mask in cases:
        image = normalised(image) if "normalise" in repaired else image
        height, width = (n // 16 * 16 for n in mask.shape[1:])
        found = torch.sigmoid(network(image[None, :, :height, :width]))[0] > 0.5
        truth = mask[:, :height, :width] > 0
        # Two channels thresholded as if they were one structure.
        both, either = (found & truth).sum().item(), (found | truth).sum().item()
        total = found.sum().item() + truth.sum().item() * found.shape[0]
        either = either if found.shape[0] == 1 else total - both
        jaccard.append((both + SMOOTH) / (either + SMOOTH))
        dice.append((2 * both + SMOOTH) / (total + SMOOTH))
    network.train()
    return numpy.mean(jaccard), numpy.mean(dice)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = read(arguments.data)
    children = sorted({name[:-1] for name in cases})
    held_out = [case for name, case in cases.items() if name[:-1] in children[-2:]]
    train = [case for name, case in cases.items() if name[:-1] not in children[-2:]]
    print("| repaired | Jaccard, trained on | Jaccard, held out | Dice, held out | CPU s |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name, repaired in STEPS:
        torch.manual_seed(arguments.seed)
        random = numpy.random.default_rng(arguments.seed)
        network = UNet(arguments.width, 1 if "channel" in repaired else 2).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        before = time.process_time()
        for _ in range(arguments.steps):
            patches = [draw(train, random, repaired) for _ in range(BATCH)]
            image, mask = (torch.stack(part) for part in zip(*patches))
            optimizer.zero_grad(set_to_none=True)
            dice_loss(network(image), mask).backward()
            optimizer.step()
        spent = time.process_time() - before
        (on_train, _), (jaccard, dice) = scores(network, train, repaired), scores(network, held_out, repaired)
        print(f"| {name} | {on_train:.3f} | {jaccard:.3f} | {dice:.3f} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
