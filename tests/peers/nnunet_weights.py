"""Writes small weight files with nnU-Net's own network classes, and the outputs of these networks.

    pip install --no-deps dynamic-network-architectures==0.4.4
    python nnunet_weights.py ../../crates/sulcus-train/tests/weights

The tests of `sulcus train --init` read the files and compare the outputs.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

COMMON = dict(
    input_channels=2,
    num_classes=3,
    conv_bias=True,
    norm_op_kwargs={"eps": 1e-5, "affine": True},
    nonlin=nn.LeakyReLU,
    nonlin_kwargs={"inplace": True},
)
NETWORKS = {
    "plain_2d": (
        PlainConvUNet(
            n_stages=3,
            features_per_stage=[3, 4, 5],
            conv_op=nn.Conv2d,
            norm_op=nn.InstanceNorm2d,
            kernel_sizes=[[3, 3], [1, 3], [5, 3]],
            strides=[[1, 1], [2, 2], [1, 2]],
            n_conv_per_stage=[1, 1, 1],
            n_conv_per_stage_decoder=[1, 1],
            **COMMON,
        ),
        [1, 2, 8, 8],
    ),
    "residual_3d": (
        ResidualEncoderUNet(
            n_stages=4,
            features_per_stage=[2, 3, 4, 4],
            conv_op=nn.Conv3d,
            norm_op=nn.InstanceNorm3d,
            kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 1]],
            strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 1]],
            n_blocks_per_stage=[1, 2, 1, 1],
            n_conv_per_stage_decoder=[1, 1, 1],
            **COMMON,
        ),
        [1, 2, 4, 16, 4],
    ),
}


def noise(shape, seed):
    """The same numbers as `noise` in the tests."""
    values, state = np.empty(int(np.prod(shape)), np.float32), seed
    for i in range(values.size):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        values[i] = np.float32((state >> 8) / 2**23) - np.float32(1)
    return torch.from_numpy(values.reshape(shape))


def main(folder):
    torch.manual_seed(0)
    for name, (network, shape) in NETWORKS.items():
        network.eval()
        with torch.no_grad():
            for parameter in network.parameters():
                # Normalisation layers with initial weights would hide a mistake in reading them.
                nn.init.uniform_(parameter, 0.2, 0.9) if parameter.ndim == 1 else nn.init.normal_(parameter, 0, 0.3)
            logits = network(noise(shape, 99))
        # The residual network is large, so it is saved in the format of PyTorch before 1.6 and with each tensor under one name only.
        is_whole = name == "plain_2d"
        weights = network.state_dict()
        if not is_whole:
            twice = [k for k in weights if k.startswith("decoder.encoder.") or ".all_modules." in k]
            weights = {key: value for key, value in weights.items() if key not in twice}
        # Like nnU-Net's checkpoint_final.pth, which has other content beside the weights.
        checkpoint = {
            "network_weights": weights,
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.full((3,), float("nan"))}}},
            "trainer_name": "nnUNetTrainer",
            "current_epoch": 1000,
            "_best_ema": np.float64(0.9),
        }
        torch.save(checkpoint, folder / f"{name}.pth", _use_new_zipfile_serialization=is_whole)
        answer = {"shape": list(logits.shape), "logits": [round(float(v), 6) for v in logits.flatten()]}
        (folder / f"{name}.json").write_text(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
