"""Measures the time from the start of a process to the written mask of one small scan: `sulcus predict` and the Python
program.

    python first_mask.py SULCUS ORT_LIB MODEL SCAN [--rounds 20]

The programs run alternately, with the files in the system's cache. `cargo run --release --workspace --example held`
measures how much time a loaded segmenter needs in addition to the engine.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sulcus")
    parser.add_argument("ort_lib")
    parser.add_argument("model")
    parser.add_argument("scan")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    mask = str(pathlib.Path(tempfile.mkdtemp(prefix="sulcus-peers-")) / "mask.nii.gz")
    predict = [args.sulcus, "predict", "-m", args.model, args.scan, "-o", mask, "--quiet", "--threads", "2"]
    contenders = {
        "sulcus": [*predict, "--engine", "ort", "--device", "cpu", "--ort-lib", args.ort_lib],
        "sulcus, built-in engine": [*predict, "--engine", "tract"],
        "python": [sys.executable, str(HERE / "python_predict.py"), args.model, args.scan, mask],
    }
    seconds = {name: [] for name in contenders}
    for _ in range(args.rounds + 1):
        for name, command in contenders.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - begun)
    for name, runs in seconds.items():
        # The first run reads the files from the disk.
        runs = runs[1:]
        print(json.dumps({"name": name, "least": min(runs), "median": statistics.median(runs), "most": max(runs)}))


if __name__ == "__main__":
    main()
