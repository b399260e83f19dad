"""Measures the milliseconds of the layers between convolutions in PyTorch, to compare with
`cargo bench -p sulcus-kernels --bench blocks`.

The sizes are the same. The first argument is the number of threads, 2 by default. Prints one JSON line for each layer.
"""

import json
import statistics
import sys
import time

import torch
from torch.nn import functional

REPEATS = 40


def report(layer, size, work):
    for _ in range(5):
        work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    milliseconds = [round(1e3 * pick(seconds), 3) for pick in (min, statistics.median)]
    print(json.dumps({"layer": layer, "size": size, "min_ms": milliseconds[0], "median_ms": milliseconds[1]}))


def both_ways(layer, size, forward, inputs):
    with torch.no_grad():
        report(f"{layer} forward", size, forward)
    result = forward()
    gradient = torch.randn_like(result)
    report(f"{layer} backward", size, lambda: torch.autograd.grad(result, inputs, gradient, retain_graph=True))


def tensor(*size):
    return torch.randn(*size, requires_grad=True)


def norms():
    for size in [(2, 16, 40, 56, 40), (2, 32, 40, 56, 40), (8, 64, 64, 64)]:
        x, scale, offset = tensor(*size), tensor(size[1]), tensor(size[1])

        def forward():
            return functional.leaky_relu_(functional.instance_norm(x, weight=scale, bias=offset), 0.01)

        both_ways("instance norm and leaky ReLU", size, forward, [x, scale, offset])


def ups():
    for batch, source, channels, grid in [(2, 32, 16, (20, 28, 20)), (2, 128, 64, (5, 7, 5)), (8, 128, 64, (32, 32))]:
        x, bias = tensor(batch, source, *grid), tensor(channels)
        weight = tensor(source, channels, *[2] * len(grid))
        up = functional.conv_transpose3d if len(grid) == 3 else functional.conv_transpose2d
        both_ways("transposed convolution", (batch, source, channels, *grid), lambda: up(x, weight, bias, stride=2), [x, weight, bias])


def pools():
    x = tensor(2, 16, 40, 56, 40)
    both_ways("max pooling", tuple(x.shape), lambda: functional.max_pool3d(x, 2), [x])


def dice_and_cross_entropy(logits, classes):
    axes = tuple(range(2, logits.ndim))
    probabilities = torch.softmax(logits, 1)
    with torch.no_grad():
        truth = torch.zeros_like(probabilities).scatter_(1, classes[:, None], 1)[:, 1:]
        true_voxels = truth.sum(axes)
    foreground = probabilities[:, 1:]
    both = (foreground * truth).sum(axes)
    dice = (2 * both + 1e-5) / (foreground.sum(axes) + true_voxels + 1e-5)
    return functional.cross_entropy(logits, classes) + 1 - dice.mean()


def losses():
    for size in [(2, 3, 40, 56, 40), (8, 3, 64, 64)]:
        logits, classes = tensor(*size), torch.randint(0, size[1], (size[0], *size[2:]))
        work = lambda: torch.autograd.grad(dice_and_cross_entropy(logits, classes), [logits])
        report("Dice and cross-entropy, both ways", size, work)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    torch.manual_seed(0)
    norms()
    ups()
    pools()
    losses()
