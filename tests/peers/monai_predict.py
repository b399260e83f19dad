"""Predicts a mask with MONAI's `sliding_window_inferer` and the model file's own weights in PyTorch, to
compare with `sulcus predict` for 3-D models that use the scan's own spacing.

    python monai_predict.py MODEL IMAGE OUT

The graph in the file is rebuilt from PyTorch layers, node by node, so that both programs compute the same network. Prints
one JSON line with the seconds of each stage. MONAI places tiles at a fixed distance, nnU-Net and Sulcus distribute them
evenly: the number of tiles is the same here, but not their positions.
"""

import json
import sys
import time

BEGUN = time.perf_counter()

import nibabel
import numpy as np
import onnx
import torch
from monai.inferers import sliding_window_inference
from onnx import numpy_helper

from python_predict import check_spacing, normalise

THREADS = 2


class Network(torch.nn.Module):
    """What an ONNX graph of a U-Net with instance normalisation computes."""

    def __init__(self, graph):
        super().__init__()
        self.nodes = list(graph.node)
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.names = {t.name: f"w{i}" for i, t in enumerate(graph.initializer)}
        for tensor in graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            self.register_buffer(self.names[tensor.name], values)
        # A value is freed after its last use, as in an engine.
        self.last = {name: i for i, node in enumerate(self.nodes) for name in node.input}

    def forward(self, image):
        functional = torch.nn.functional
        values = {self.input: image}
        get = lambda name: getattr(self, self.names[name]) if name in self.names else values[name]
        for i, node in enumerate(self.nodes):
            given = [get(name) for name in node.input]
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            strides, pads = options.get("strides", 1), options.get("pads", [0] * 6)[:3]
            if node.op_type == "Conv":
                answer = functional.conv3d(*given, stride=strides, padding=pads)
            elif node.op_type == "ConvTranspose":
                answer = functional.conv_transpose3d(*given, stride=strides)
            elif node.op_type == "InstanceNormalization":
                answer = functional.instance_norm(given[0], weight=given[1], bias=given[2], eps=options["epsilon"])
            elif node.op_type == "LeakyRelu":
                answer = functional.leaky_relu(given[0], options["alpha"], inplace=True)
            elif node.op_type == "Concat":
                answer = torch.cat(given, options["axis"])
            else:
                sys.exit(f"this comparison does not know the operation {node.op_type}")
            values[node.output[0]] = answer
            for name in node.input:
                if self.last[name] == i:
                    values.pop(name, None)
        return values[self.output]


def main():
    model, image_path, out = sys.argv[1:4]
    seconds = {"imports": time.perf_counter() - BEGUN}
    torch.set_num_threads(THREADS)

    begun = time.perf_counter()
    file = onnx.load(model)
    spec = json.loads({p.key: p.value for p in file.metadata_props}["sulcus.spec"])
    if spec["network"]["dimensions"] != 3 or spec["orientation"] != "RAS":
        sys.exit("only 3-D models in RAS are compared")
    network = Network(file.graph).eval()
    seconds["load"] = time.perf_counter() - begun

    begun = time.perf_counter()
    scan = nibabel.load(image_path)
    if nibabel.aff2axcodes(scan.affine) != ("R", "A", "S"):
        sys.exit("only scans in RAS are compared")
    check_spacing(spec, scan.header.get_zooms()[:3])
    values = normalise(scan.get_fdata(dtype=np.float32), spec["channels"][0]["normalisation"])
    volume = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0))).float()[None, None]
    seconds["preprocess"] = time.perf_counter() - begun

    begun, engine, tiles = time.perf_counter(), 0.0, 0

    def ask(tile):
        nonlocal engine, tiles
        before = time.perf_counter()
        answer = network(tile)
        engine, tiles = engine + time.perf_counter() - before, tiles + 1
        return answer

    with torch.inference_mode():
        logits = sliding_window_inference(
            volume, spec["patch"], 1, ask, overlap=1 - spec["overlap"], mode="gaussian", sigma_scale=0.125)
    seconds["infer"], seconds["engine"] = time.perf_counter() - begun, engine

    begun = time.perf_counter()
    labels = np.array([0] + [label["value"] for label in spec["labels"]], np.uint8)
    mask = labels[logits[0].argmax(0).numpy()].transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(mask, scan.affine), out)
    seconds["write"] = time.perf_counter() - begun
    seconds["total"] = time.perf_counter() - BEGUN
    print(json.dumps({"seconds": seconds, "tiles": tiles}))


if __name__ == "__main__":
    main()
