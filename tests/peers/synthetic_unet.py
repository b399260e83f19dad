"""Writes a 3-D U-Net with random weights as a model file, or a synthetic scan, to measure memory and speed.

    python synthetic_unet.py model.onnx --classes 8 --patch 96
    python synthetic_unet.py model.onnx --scan scan.nii --shape 512 512 512
"""

import argparse
import json

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


def unet(base: int, levels: int, classes: int, patch: int) -> onnx.ModelProto:
    rng = numpy.random.default_rng(1)
    nodes, weights = [], []

    def constant(name, shape, scale):
        values = (rng.standard_normal(shape) * scale).astype(numpy.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(name, source, inputs, outputs, stride=1):
        w = constant(f"{name}.w", (outputs, inputs, 3, 3, 3), (2 / (27 * inputs)) ** 0.5)
        b = constant(f"{name}.b", (outputs,), 0.01)
        g = numpy_helper.from_array(numpy.ones(outputs, numpy.float32), f"{name}.g")
        weights.append(g)
        z = constant(f"{name}.z", (outputs,), 0.01)
        nodes.append(helper.make_node("Conv", [source, w, b], [f"{name}.c"], kernel_shape=[3] * 3, pads=[1] * 6, strides=[stride] * 3))
        nodes.append(helper.make_node("InstanceNormalization", [f"{name}.c", f"{name}.g", z], [f"{name}.n"], epsilon=1e-5))
        nodes.append(helper.make_node("LeakyRelu", [f"{name}.n"], [name], alpha=0.01))
        return name

    channels = [base << level for level in range(levels)]
    x, skips, before = "image", [], 1
    for level, width in enumerate(channels):
        x = conv(f"e{level}a", x, before, width, 1 if level == 0 else 2)
        x = conv(f"e{level}b", x, width, width)
        skips.append(x)
        before = width
    for level in reversed(range(levels - 1)):
        width = channels[level]
        w = constant(f"u{level}.w", (before, width, 2, 2, 2), (1 / before) ** 0.5)
        nodes.append(helper.make_node("ConvTranspose", [x, w], [f"u{level}"], kernel_shape=[2] * 3, strides=[2] * 3))
        nodes.append(helper.make_node("Concat", [skips[level], f"u{level}"], [f"j{level}"], axis=1))
        x = conv(f"d{level}a", f"j{level}", 2 * width, width)
        x = conv(f"d{level}b", x, width, width)
        before = width
    w = constant("head.w", (classes, before, 1, 1, 1), (1 / before) ** 0.5)
    nodes.append(helper.make_node("Conv", [x, w], ["logits"], kernel_shape=[1] * 3))
    value = lambda name, c: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", c, "D", "H", "W"])
    graph = helper.make_graph(nodes, "synthetic", [value("image", 1)], [value("logits", classes)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stage = lambda level, width: {
        "channels": width, "convolutions": 2, "kernel": [3] * 3, "stride": [1 if level == 0 else 2] * 3,
    }
    spec = {
        "format_version": 1,
        "name": "synthetic",
        "network": {
            "name": "synthetic", "dimensions": 3, "stages": [stage(*s) for s in enumerate(channels)],
            "norm": "instance", "activation": {"leaky_relu": {"slope": 0.01}}, "downsampling": "strided_convolution",
        },
        "channels": [{"name": "MRI", "normalisation": {"scheme": "z_score"}}],
        "labels": [{"value": k, "name": f"label {k}", "color": [k * 25 % 256, k * 60 % 256, 200]} for k in range(1, classes)],
        "activation": "softmax", "orientation": "RAS", "spacing": "native", "patch": [patch] * 3, "tiling": "patch",
        "overlap": 0.5, "mirror_axes": [0, 1, 2], "padding_multiple": [1 << (levels - 1)] * 3, "postprocessing": [],
        "training": {
            "tool_version": "none", "dataset": "none", "data_sha256": "", "training_cases": 0, "validation_cases": 0,
            "validation_dice": None, "epochs": 0, "seed": 1,
        },
        "golden_case": None,
    }
    helper.set_model_props(model, {"sulcus.spec": json.dumps(spec)})
    return model


def write_scan(path: str, shape: list[int]) -> None:
    """Writes a float32 NIfTI-1 file slice by slice, so that it needs little memory."""
    header = bytearray(352)
    put = lambda at, values, kind: header.__setitem__(slice(at, at + len(b := numpy.asarray(values, kind).tobytes())), b)
    put(0, [348], "<i4")
    put(40, [3, *shape, 1, 1, 1, 1], "<i2")
    put(70, [16, 32], "<i2")
    put(76, [1] * 4, "<f4")
    put(108, [352, 1], "<f4")
    put(254, [1], "<i2")
    for row in range(3):
        put(280 + 16 * row + 4 * row, [1], "<f4")
    header[344:348] = b"n+1\0"
    rng = numpy.random.default_rng(2)
    with open(path, "wb") as file:
        file.write(header)
        for _ in range(shape[2]):
            file.write(rng.standard_normal((shape[1], shape[0]), numpy.float32).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--base", type=int, default=16)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--scan")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 512])
    args = parser.parse_args()
    onnx.save(unet(args.base, args.levels, args.classes, args.patch), args.model)
    if args.scan:
        write_scan(args.scan, args.shape)


if __name__ == "__main__":
    main()
