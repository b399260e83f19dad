"""Runs the workflow on this machine, with a cohort in parts, a kill in the middle and a damaged scan; plans the other profiles.

Needs SULCUS_BIN and SULCUS_REPO; SULCUS_ORT_LIB names ONNX Runtime, without it the built-in engine is used.
"""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(os.environ["SULCUS_REPO"])
HERE = ROOT / "examples" / "cluster"
SULCUS = os.environ["SULCUS_BIN"]
MODEL = ROOT / "models" / "hippocampus" / "model.onnx"
DATA = ROOT / "examples" / "data" / "hippocampus"
CASES = sorted(path.name for path in (DATA / "imagesTr").iterdir())[:12]
PARTS = 3
# Limit for a workflow that hangs, in seconds. A run takes half a minute on a busy machine.
TIMEOUT = 300


def cohort(folder, names=CASES):
    """A folder of real scans."""
    scans = folder / "scans"
    scans.mkdir()
    for name in names:
        shutil.copy(DATA / "imagesTr" / name, scans / name)
    return scans


def command(folder, *more, profile="local", **settings):
    settings = {
        "scans": folder / "scans",
        "model": MODEL,
        "out": folder / "out",
        "parts": PARTS,
        "threads": 1,
        "sulcus": SULCUS,
        "ort_lib": os.environ.get("SULCUS_ORT_LIB", ""),
        **settings,
    }
    given = [f"{name}={value}" for name, value in settings.items()]
    words = [sys.executable, "-B", "-m", "snakemake", "-s", HERE / "Snakefile", "--directory", folder]
    return [str(word) for word in [*words, "--profile", HERE / "profiles" / profile, *more, "--config", *given]]


def environment(folder):
    """Keeps the caches of the user unchanged."""
    return os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}


def snakemake(folder, *more, **settings):
    ended = subprocess.run(
        command(folder, *more, **settings),
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    ended.said = ended.stdout + ended.stderr
    return ended


def masks(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.nii.gz"))}


def lines(folder):
    """The lines of `--json` from all parts."""
    parts = sorted((folder / "out" / "parts").glob("*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    """The masks of one `sulcus predict` over the whole cohort."""
    folder = tmp_path_factory.mktemp("direct")
    library = ["--ort-lib", os.environ["SULCUS_ORT_LIB"]] if "SULCUS_ORT_LIB" in os.environ else []
    words = [SULCUS, "predict", "-m", MODEL, cohort(folder), "-o", folder / "masks", "--threads", "1", *library]
    subprocess.run(words, check=True, capture_output=True, timeout=TIMEOUT)
    found = masks(folder / "masks")
    assert list(found) == CASES
    return found


def test_killed_run_resumes_and_gives_the_masks_of_a_single_run(tmp_path, direct):
    cohort(tmp_path)
    out = tmp_path / "out"
    running = subprocess.Popen(
        command(tmp_path, "--cores", "1"),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    records = out / "masks" / ".sulcus"
    begun = time.monotonic()
    while not records.is_dir() or len(list(records.glob("*.json"))) < 2:
        assert running.poll() is None and time.monotonic() - begun < TIMEOUT, "it ended before it was killed"
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    done = {path.stem: (out / "masks" / f"{path.stem}.nii.gz").stat() for path in records.glob("*.json")}
    assert 2 <= len(done) < len(CASES), "it was killed in the middle"

    # A killed Snakemake leaves its lock.
    assert snakemake(tmp_path, "--unlock").returncode == 0
    ended = snakemake(tmp_path)
    assert ended.returncode == 0, ended.said
    assert masks(out / "masks") == direct
    before = {Path(line["input"]).name.removesuffix(".nii.gz") for line in lines(tmp_path) if line.get("done_before")}
    assert before == set(done)
    for name, there in done.items():
        now = (out / "masks" / f"{name}.nii.gz").stat()
        assert (now.st_ino, now.st_mtime_ns) == (there.st_ino, there.st_mtime_ns), f"{name} was written again"
    with (out / "cohort.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] + ".nii.gz" for row in rows] == [name for name in CASES for _ in range(2)]
    assert all(float(row["ml"]) > 0 for row in rows)
    assert "Nothing to be done" in snakemake(tmp_path).said


def test_damaged_scan_is_named_and_the_cohort_is_scored_after_its_repair(tmp_path, direct):
    scans = cohort(tmp_path)
    broken = scans / CASES[4]
    broken.write_bytes(broken.read_bytes()[:1000])
    truth = tmp_path / "truth"
    truth.mkdir()
    for name in CASES:
        shutil.copy(DATA / "labelsTr" / name, truth / name)
    ended = snakemake(tmp_path, truth=truth)
    assert ended.returncode == 1, ended.said
    # Snakemake prints the log of the part.
    assert f"cut short, get the file again: {broken}" in ended.said
    out = tmp_path / "out"
    assert masks(out / "masks") == {name: mask for name, mask in direct.items() if name != broken.name}
    assert not (out / "cohort.csv").exists(), "a table of a part of the cohort would look like all of it"

    shutil.copy(DATA / "imagesTr" / broken.name, broken)
    ended = snakemake(tmp_path, truth=truth)
    assert ended.returncode == 0, ended.said
    assert masks(out / "masks") == direct
    assert [Path(line["input"]).name for line in lines(tmp_path) if not line.get("done_before")] == [broken.name]
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(CASES)
    assert summary["foreground_mean"]["Dice"] > 0.8
    assert (out / "report.html").stat().st_size > 10_000


def test_incomplete_or_overlapping_parts_give_no_table(tmp_path):
    scans, out = cohort(tmp_path, CASES[:3]), tmp_path / "masks"
    out.mkdir()

    def line(name, **more):
        (out / name).write_bytes(b"x")
        return json.dumps({"input": name, "output": str(out / name), "labels": {}, **more})

    def merge(*parts):
        files = []
        for number, part in enumerate(parts):
            files.append(tmp_path / f"{number}.jsonl")
            files[-1].write_text("".join(text + "\n" for text in part))
        words = [sys.executable, HERE / "merge.py", *files, "--scans", scans, "--masks", out, "-o", tmp_path / "t.csv"]
        return subprocess.run(words, capture_output=True, text=True)

    whole = [line(name) for name in CASES[:3]]
    ended = merge(whole[:1], whole[1:])
    assert (ended.returncode, ended.stderr) == (0, "")
    (tmp_path / "t.csv").unlink()
    for parts, wrong in [
        ([whole[:1], whole[2:]], "no part has this scan"),
        ([whole, whole[:1]], "two parts have the case"),
        ([whole, [json.dumps({"input": "x", "error": "it is broken: x"})]], "failed: it is broken: x"),
        ([whole, [line("stray.nii.gz")]], None),
    ]:
        ended = merge(*parts)
        if wrong is None:
            # A mask from a part whose scan was deleted later belongs to the cohort. A mask from no part does not.
            assert ended.returncode == 0, ended.stderr
            ended, wrong = merge(whole), "belongs to no scan of the cohort"
        assert ended.returncode == 1 and wrong in ended.stderr, ended.stderr
    (out / "stray.nii.gz").unlink()
    (out / CASES[0]).unlink()
    assert "the mask is missing" in merge(whole).stderr


@pytest.mark.parametrize(
    "profile, plugins",
    [
        ("slurm", ["snakemake_executor_plugin_slurm"]),
        ("kubernetes", ["snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"]),
    ],
)
def test_other_profiles_plan_the_same_jobs(tmp_path, profile, plugins):
    for plugin in plugins:
        if importlib.util.find_spec(plugin) is None:
            pytest.skip(f"{plugin.replace('_', '-')} is not installed")
    cohort(tmp_path, CASES[:3])
    ended = snakemake(tmp_path, "-n", profile=profile)
    assert ended.returncode == 0, ended.said
    for part in range(1, PARTS + 1):
        assert f"part {part} of {PARTS}" in ended.said, ended.said
    assert not (tmp_path / "out").exists()


def test_missing_or_wrong_setting_is_named(tmp_path):
    (tmp_path / "scans").mkdir()
    ended = snakemake(tmp_path, "-n")
    assert ended.returncode == 1 and "the folder of scans is empty" in ended.said
    words = command(tmp_path, "-n")
    ended = subprocess.run(words[: words.index("--config")], env=environment(tmp_path), capture_output=True, text=True)
    assert ended.returncode == 1 and "the setting `scans` is missing" in ended.stdout + ended.stderr
