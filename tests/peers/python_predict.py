"""Predicts a mask with nibabel, numpy and onnxruntime from the model file alone, to compare with `sulcus predict`.

It shares no code with Sulcus, so it shows that the file has everything that another program needs, and how long such a
program takes. Models that resample are refused: another program compares them.

    python python_predict.py MODEL IMAGE OUT

Prints one JSON line with the seconds of each stage.
"""

import itertools
import json
import math
import sys
import time

BEGUN = time.perf_counter()

import nibabel
import numpy as np
import onnxruntime

THREADS = 2


def load_model(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    spec = json.loads(session.get_modelmeta().custom_metadata_map["sulcus.spec"])
    schemes = {channel["normalisation"]["scheme"] for channel in spec["channels"]}
    if "crop" in spec or "regions" in spec or "z_score_nonzero" in schemes or spec["orientation"] == "acquired":
        sys.exit("models with cropping, regions or acquired axes are not compared")
    return session, spec


def check_spacing(spec, zooms):
    """Resampling is not compared: the scan must be one that the model takes in its own voxel size."""
    rule = spec["spacing"]
    if rule == "native":
        return
    target, tolerance = rule["resample"]["mm"], rule["resample"].get("tolerance", 1.0)
    if any(max(own / mm, mm / own) > tolerance for own in zooms for mm in target):
        sys.exit(f"only scans of about {target} mm are compared, which this model does not resample")


def normalise(values, rule):
    scheme = rule["scheme"]
    if scheme == "min_max":
        shift, scale = values.min(), values.max() - values.min()
    elif scheme == "z_score":
        shift, scale = values.mean(), values.std()
    elif scheme == "percentile":
        low, high = np.percentile(values, [rule["low"], rule["high"]])
        values, shift, scale = values.clip(low, high), low, high - low
    else:
        values, shift, scale = values.clip(*rule["clip"]), rule["mean"], rule["sd"]
    return (values - shift) / scale if scale > 0 else np.zeros_like(values)


def starts(size, tile, step):
    room = size - tile
    if room <= 0:
        return [0]
    count = math.ceil(room / (step * tile)) + 1
    return sorted({round(i * (room / (count - 1))) for i in range(count)})


def gaussian(tile):
    at = np.arange(tile) - (tile - 1) / 2
    return np.maximum(np.exp(-0.5 * (at / (tile / 8)) ** 2), 1e-4)


def predict(session, spec, volume, classes):
    """`volume` [C, z, y, x] -> logits [K, z, y, x]."""
    planar = spec["network"]["dimensions"] == 2
    shape, missing = volume.shape[1:], 1 if planar else 0
    if spec["tiling"] == "whole":
        tile = [1] * missing + [math.ceil(n / m) * m for n, m in zip(shape[missing:], spec["padding_multiple"])]
    else:
        tile = [1] * missing + spec["patch"]
    total = np.zeros((classes, *shape), np.float32)
    weight_sum = np.zeros(shape, np.float32)
    weights = np.einsum("i,j,k->ijk", *(gaussian(n) for n in tile)).astype(np.float32)
    tiles, engine = 0, 0.0
    for corner in itertools.product(*(starts(n, t, spec["overlap"]) for n, t in zip(shape, tile))):
        inside = tuple(slice(c, min(c + t, n)) for c, t, n in zip(corner, tile, shape))
        used = tuple(slice(0, s.stop - s.start) for s in inside)
        block = np.zeros((1, volume.shape[0], *tile), np.float32)
        block[(0, slice(None), *used)] = volume[(slice(None), *inside)]
        begun = time.perf_counter()
        answer = session.run(None, {"image": block[:, :, 0] if planar else block})[0][0]
        engine += time.perf_counter() - begun
        answer = answer[:, None] if planar else answer
        total[(slice(None), *inside)] += (answer * weights)[(slice(None), *used)]
        weight_sum[inside] += weights[used]
        tiles += 1
    return total / weight_sum, tiles, engine


def keep_largest(mask, labels):
    from scipy import ndimage

    group = np.isin(mask, labels)
    components, count = ndimage.label(group, np.ones((3, 3, 3)))
    if count > 1:
        largest = 1 + np.argmax(np.bincount(components.ravel())[1:])
        mask[group & (components != largest)] = 0


def main():
    model, image_path, out = sys.argv[1:4]
    seconds = {"imports": time.perf_counter() - BEGUN}

    def stage(name, begun):
        seconds[name] = time.perf_counter() - begun

    begun = time.perf_counter()
    session, spec = load_model(model)
    stage("load", begun)

    begun = time.perf_counter()
    image = nibabel.load(image_path)
    check_spacing(spec, image.header.get_zooms()[:3])
    scan = image.get_fdata()
    stage("read", begun)

    begun = time.perf_counter()
    to_model = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(spec["orientation"]))
    channels = scan[..., None] if scan.ndim == 3 else scan
    turned = [nibabel.orientations.apply_orientation(channels[..., c], to_model) for c in range(channels.shape[3])]
    normal = [normalise(v, c["normalisation"]) for v, c in zip(turned, spec["channels"], strict=True)]
    volume = np.stack([v.transpose(2, 1, 0) for v in normal]).astype(np.float32)
    stage("preprocess", begun)

    begun = time.perf_counter()
    values = np.array([0] + [label["value"] for label in spec["labels"]])
    sigmoid = spec["activation"] == "sigmoid"
    logits, tiles, seconds["engine"] = predict(session, spec, volume, 1 if sigmoid else len(values))
    stage("infer", begun)

    begun = time.perf_counter()
    indices = (logits[0] > 0).astype(int) if sigmoid else logits.argmax(0)
    mask = values[indices].transpose(2, 1, 0)
    back = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(spec["orientation"]), nibabel.io_orientation(image.affine))
    mask = nibabel.orientations.apply_orientation(mask, back).astype(np.uint8)
    for rule in spec["postprocessing"]:
        keep_largest(mask, rule["keep_largest_component"]["labels"])
    stage("postprocess", begun)

    begun = time.perf_counter()
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), out)
    stage("write", begun)
    seconds["total"] = time.perf_counter() - BEGUN
    print(json.dumps({"seconds": seconds, "tiles": tiles}))


if __name__ == "__main__":
    main()
