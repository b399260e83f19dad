"""Milliseconds a training step of the 2-D presets in PyTorch: the peer of `cargo bench -p sulcus-train --bench step`.

Same structure (Ronneberger et al. 2015, padded, batch normalisation), same batch, same loss (batch Dice over the
foreground + cross-entropy), same optimiser, same number of threads. One JSON line a case on stdout.
"""

import json
import statistics
import sys
import time

import torch
from torch import nn

BATCH, CLASSES, STEPS = 8, 3, 9
CASES = [("unet2d-lite", 16, (48, 64)), ("unet2d-lite", 16, (64, 64)), ("unet2d-classic", 64, (64, 64))]


def double_conv(channels_in, channels):
    layers = []
    for source in (channels_in, channels):
        layers += [nn.Conv2d(source, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    def __init__(self, base):
        super().__init__()
        widths = [base << depth for depth in range(5)]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([1] + widths, widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(double_conv(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(base, CLASSES, 1)

    def forward(self, maps):
        skips = []
        for depth, stage in enumerate(self.down):
            maps = stage(nn.functional.max_pool2d(maps, 2) if depth else maps)
            skips.append(maps)
        skips.pop()
        for up, merge in zip(self.up, self.merge):
            maps = merge(torch.cat([skips.pop(), up(maps)], dim=1))
        return self.head(maps)


def loss_of(logits, target):
    truth = nn.functional.one_hot(target, CLASSES).permute(0, 3, 1, 2).float()
    p, t = logits.softmax(1)[:, 1:], truth[:, 1:]
    both, either = (p * t).sum((0, 2, 3)), p.sum((0, 2, 3)) + t.sum((0, 2, 3))
    dice = ((2 * both + 1e-5) / (either + 1e-5)).mean()
    return nn.functional.cross_entropy(logits, target) + 1 - dice


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    torch.set_num_threads(threads)
    for name, base, (height, width) in CASES:
        torch.manual_seed(0)
        network = UNet(base).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        image = torch.randn(BATCH, 1, height, width)
        target = torch.randint(0, CLASSES, (BATCH, height, width))
        times = []
        for _ in range(STEPS):
            begun = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            loss_of(network(image), target).backward()
            optimiser.step()
            times.append(1000 * (time.perf_counter() - begun))
        parameters = sum(p.numel() for p in network.parameters())
        # The first two steps allocate.
        print(json.dumps({"case": f"{name}_{height}x{width}", "ms": statistics.median(times[2:]),
                          "parameters": parameters, "threads": threads, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
