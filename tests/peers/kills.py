"""Kills training and prediction at random moments and compares what they end with: no other program is involved.

    python kills.py SULCUS MODEL DATASET SCANS [KILLS]

A short training with a fixed number of epochs is run once without interruption. Then it is killed (SIGKILL) at random moments
and resumed until it is complete, again and again; each time the exported model must have the same bytes. The same is done with
the prediction of a folder of scans and its masks. Each of the two gets half of KILLS (default 500).
"""

import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEED = 1
TRAINING = ["--preset", "unet2d-lite", "--patch", "48,32", "--fold", "0", "--epochs", "3", "--seed", "3", "--quiet"]


def digest(folder, pattern):
    files = sorted(folder.glob(pattern))
    return [(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]


def run(command, seconds=None):
    """Runs a command, kills it after some seconds, and returns whether it ended by itself."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode != 0:
        sys.exit(f"{command} failed with {process.returncode}: {errors.decode()}")
    return True


def measure(name, start, resume, folder, pattern, kills, rng):
    """`start` begins the work in `folder`, `resume` continues it, if there is something to continue."""
    begun = time.perf_counter()
    run(start)
    whole = time.perf_counter() - begun
    expected = digest(folder, pattern)
    assert expected, f"{name} wrote no {pattern}"
    done = complete = 0
    while done < kills:
        shutil.rmtree(folder)
        command, longest, before, begun = start, 0.4 * whole, done, time.perf_counter()
        while not run(command, rng.uniform(0.02 * whole, longest)):
            done += 1
            # Where other programs run, the next checkpoint may take longer than before.
            longest *= 1.02
            command = resume(folder)
        if done == before:
            # It ended before the first kill.
            whole = time.perf_counter() - begun
            continue
        complete += 1
        found = digest(folder, pattern)
        if found != expected:
            sys.exit(f"{name}: after {done} kills, run {complete} ended with {found}, expected {expected}")
        print(f"{name}: {done} kills, {complete} complete runs, all with the same files", flush=True)


def main():
    sulcus, model, dataset, scans = sys.argv[1:5]
    kills = int(sys.argv[5]) if len(sys.argv) > 5 else 500
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        train = [sulcus, "train", dataset, "-o", str(out), *TRAINING]

        def resume_training(folder):
            return [*train, "--resume"] if (folder / "run.json").exists() else train

        measure("train", train, resume_training, out, "model.onnx", kills // 2, rng)
        masks = Path(place) / "masks"
        predict = [sulcus, "predict", "--quiet", "-m", model, scans, "-o", str(masks)]
        measure("predict", predict, lambda _: [*predict, "--resume"], masks, "*.nii.gz", kills - kills // 2, rng)


main()
