"""Segments a whole head with a 3-D network: `sulcus predict` compared with ONNX Runtime alone, a simple Python program and
MONAI, with the same weights and the same number of tiles.

    python whole_volume.py SULCUS ORT_LIB SCAN MODEL [--int8 MODEL] [--openvino ORT_LIB] [--rounds 3] [--without monai]

synthetic_unet.py writes MODEL, and `cargo run --release --workspace --example to_int8` converts it to the int8 model.
Each program runs in its own process, alternately, so that other load on the machine affects all of them. "ONNX Runtime
alone" is the time that the Python program spends inside `session.run`: the same tiles, and nothing else. On a busy machine,
processor time is more reliable than wall-clock time.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
THREADS = "2"


def timed(command):
    """Seconds from start to end, the last printed line as JSON, processor seconds, and peak memory in MB."""
    begun = time.perf_counter()
    wrapped = ["/usr/bin/env", "python3", "-c", MEASURE, *command]
    ended = subprocess.run(wrapped, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stderr}")
    *_, line, used = ended.stdout.splitlines()
    processor, peak = map(float, used.split())
    return seconds, json.loads(line), processor, peak / 1e3


# The usage of one child. For all children of this process, only the sum and the maximum are available.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, flush=True)
sys.exit(code)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sulcus")
    parser.add_argument("ort_lib")
    parser.add_argument("scan")
    parser.add_argument("model")
    parser.add_argument("--int8")
    parser.add_argument("--openvino", help="a library with the OpenVINO provider")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", action="append", default=[])
    args = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="sulcus-peers-"))
    mask = lambda name: str(folder / f"{name.replace(' ', '_')}.nii.gz")

    def sulcus(name, model, library, *more):
        return [args.sulcus, "predict", "-m", model, args.scan, "-o", mask(name), "--json", "--quiet",
                "--threads", THREADS, "--engine", "ort", "--ort-lib", library, *more]

    script = lambda name, file: [sys.executable, str(HERE / file), args.model, args.scan, mask(name)]
    contenders = {
        "python": script("python", "python_predict.py"),
        "sulcus": sulcus("sulcus", args.model, args.ort_lib, "--device", "cpu"),
        "monai": script("monai", "monai_predict.py"),
    }
    if args.int8:
        contenders["sulcus int8"] = sulcus("sulcus int8", args.int8, args.ort_lib, "--device", "cpu")
    if args.openvino:
        contenders["sulcus openvino"] = sulcus("sulcus openvino", args.model, args.openvino, "--device", "openvino")
        contenders["sulcus openvino bf16"] = sulcus(
            "sulcus openvino bf16", args.model, args.openvino, "--device", "openvino", "--half")
    for name in args.without:
        contenders.pop(name, None)

    runs = {name: [] for name in contenders}
    for number in range(args.rounds):
        # The order rotates, so that no program always runs after the same one.
        names = list(contenders)
        for name in names[number % len(names):] + names[:number % len(names)]:
            seconds, line, processor, peak = timed(contenders[name])
            run = {"name": name, "round": number + 1, "wall": seconds, "engine": line["seconds"]["engine"],
                   "processor": processor, "tiles": line["tiles"], "peak_mb": peak}
            runs[name].append(run)
            print(json.dumps(run), flush=True)

    walls = lambda name: [run["wall"] for run in runs[name]]
    alone = min(run["engine"] for run in runs["python"])
    python = min(walls("python"))
    print("\n| | whole process, s | processor, s | tiles | peak, MB | × ONNX Runtime alone | × Python | × MONAI | "
          "voxels that differ from Python's |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    print(f"| ONNX Runtime alone | {alone:.1f} | | {runs['python'][0]['tiles']} | | 1 | {alone / python:.2f} | | |")
    for name in contenders:
        best = min(walls(name))
        compared = subprocess.run([sys.executable, str(HERE / "compare_masks.py"), mask(name), mask("python")],
                                  capture_output=True, text=True, check=True)
        compared = json.loads(compared.stdout)
        monai = f"{best / min(walls('monai')):.2f}" if "monai" in runs else ""
        processor = min(run["processor"] for run in runs[name])
        print(f"| {name} | {', '.join(f'{w:.1f}' for w in walls(name))} | {processor:.1f} | {runs[name][0]['tiles']} | "
              f"{max(run['peak_mb'] for run in runs[name]):.0f} | {best / alone:.2f} | {best / python:.2f} | {monai} | "
              f"{compared['different']} of {compared['voxels']} |")


if __name__ == "__main__":
    main()
