"""Measures the milliseconds of a training step of U-Nets in PyTorch, to compare with `cargo bench -p sulcus-train --bench step`.

Same structure (Ronneberger et al. 2015, padded; Isensee et al. 2021 for blocks), same batch, same loss (batch Dice over
the foreground + cross-entropy), same optimiser, same number of threads. Prints one JSON line for each case.

    pytorch_step.py [--threads 2] [--steps 9] [--device cpu] [--mode fp32] [CASE ...]

On a GPU, `--mode` chooses fp32 (TF32 off), tf32, bf16 (autocast, channels last) or compile (bf16 with torch.compile). The case
nnunet-3d_fullres_128x128x128 runs only on request or on a GPU.
"""

import argparse
import json
import resource
import time

import torch
from torch import nn

CLASSES = 3
# Name: stages' channels, batch, size, whether pooled with batch normalisation (else strided with instance normalisation).
CASES = {
    "unet2d-lite_48x64": ([16, 32, 64, 128, 256], 8, (48, 64), True),
    "unet2d-classic_64x64": ([64, 128, 256, 512, 1024], 8, (64, 64), True),
    "unet2d-base32_64x64": ([32, 64, 128, 256], 8, (64, 64), True),
    "unet3d-base16_40x56x40": ([16, 32, 64, 128], 2, (40, 56, 40), False),
    "unet3d-base32_40x56x40": ([32, 64, 128, 256], 2, (40, 56, 40), False),
}
LARGE = {"nnunet-3d_fullres_128x128x128": ([32, 64, 128, 256, 320, 320], 2, (128, 128, 128), False)}


class UNet(nn.Module):
    def __init__(self, widths, dimensions, pooled):
        super().__init__()
        conv, up, norm, pool = {
            2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d),
            3: (nn.Conv3d, nn.ConvTranspose3d, lambda c: nn.InstanceNorm3d(c, affine=True), nn.MaxPool3d),
        }[dimensions]

        def block(source, channels, stride=1):
            activation = nn.ReLU(inplace=True) if pooled else nn.LeakyReLU(0.01, inplace=True)
            return [conv(source, channels, 3, stride=stride, padding=1), norm(channels), activation]

        self.down = nn.ModuleList()
        for depth, (source, channels) in enumerate(zip([1] + widths, widths)):
            before = [pool(2)] if depth and pooled else []
            stride = 2 if depth and not pooled else 1
            self.down.append(nn.Sequential(*before, *block(source, channels, stride), *block(channels, channels)))
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for finer, coarser in zip(reversed(widths[:-1]), reversed(widths)):
            self.up.append(up(coarser, finer, 2, stride=2))
            self.merge.append(nn.Sequential(*block(2 * finer, finer), *block(finer, finer)))
        self.head = conv(widths[0], CLASSES, 1)

    def forward(self, maps):
        skips = []
        for stage in self.down:
            maps = stage(maps)
            skips.append(maps)
        skips.pop()
        for up, merge in zip(self.up, self.merge):
            maps = merge(torch.cat([skips.pop(), up(maps)], dim=1))
        return self.head(maps)


def loss_of(logits, target):
    truth = torch.stack([target == k for k in range(CLASSES)], dim=1).float()
    axes = [0] + list(range(2, logits.ndim))
    p, t = logits.softmax(1)[:, 1:], truth[:, 1:]
    both, either = (p * t).sum(axes), p.sum(axes) + t.sum(axes)
    dice = ((2 * both + 1e-5) / (either + 1e-5)).mean()
    return nn.functional.cross_entropy(logits, target) + 1 - dice


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mode", choices=["fp32", "tf32", "bf16", "compile"], default="fp32")
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_gpu = arguments.device != "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.mode == "tf32"
    torch.backends.cudnn.benchmark = True
    half = arguments.mode in ("bf16", "compile")
    every = CASES | LARGE

    def now():
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    for name in arguments.cases or (every if on_gpu else CASES):
        widths, batch, size, pooled = every[name]
        torch.manual_seed(0)
        network = UNet(widths, len(size), pooled).train().to(arguments.device)
        layout = torch.channels_last if len(size) == 2 else torch.channels_last_3d
        if half:
            network = network.to(memory_format=layout)
        step_network = torch.compile(network) if arguments.mode == "compile" else network
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        image = torch.randn(batch, 1, *size, device=arguments.device)
        target = torch.randint(0, CLASSES, (batch, *size), device=arguments.device)
        times, forward, backward = [], [], []
        for _ in range(arguments.steps):
            begun = now()
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(arguments.device.split(":")[0], torch.bfloat16, enabled=half):
                loss = loss_of(step_network(image).float(), target)
            middle = now()
            loss.backward()
            after = now()
            optimiser.step()
            times.append(1000 * (now() - begun))
            forward.append(1000 * (middle - begun))
            backward.append(1000 * (after - middle))
        parameters = sum(p.numel() for p in network.parameters())
        peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        # The first two steps allocate memory. Other load on the machine can only increase the times, so the minimum is reported.
        print(json.dumps({"case": name, "device": arguments.device, "mode": arguments.mode, "ms": min(times[2:]),
                          "median_ms": sorted(times[2:])[len(times[2:]) // 2], "first_ms": times[0],
                          "forward_ms": min(forward[2:]), "backward_ms": min(backward[2:]), "peak_mb": peak,
                          "parameters": parameters, "threads": arguments.threads, "torch": torch.__version__}),
              flush=True)


if __name__ == "__main__":
    main()
