"""Writes crates/sulcus-nnunet/src/totalsegmentator/tasks.json from the tables of an installed TotalSegmentator: which networks a task has,
on which voxel size they see a scan, where they look, and the names of their labels.

    python totalsegmentator_tasks.py ../../crates/sulcus-nnunet/src/totalsegmentator/tasks.json
"""

import importlib.metadata
import json
import sys
from pathlib import Path

from totalsegmentator import map_tasks_config, map_to_binary

CLASSES = map_to_binary.class_map
FOLDERS = {key: value["foldername"] for key, value in map_tasks_config.TASK_ID_WEIGHTS_CONFIGS.items()}

PARTS = {}
for table, ids in [
    (map_to_binary.class_map_5_parts, map_to_binary.map_taskid_to_partname_ct),
    (map_to_binary.class_map_5_parts_total_v3, map_to_binary.map_taskid_to_partname_ct_v3),
    (map_to_binary.class_map_parts_mr, map_to_binary.map_taskid_to_partname_mr),
    (map_to_binary.class_map_parts_headneck_muscles, map_to_binary.map_taskid_to_partname_headneck_muscles),
]:
    PARTS |= {dataset: table[part] for dataset, part in ids.items() if part in table}

# What a recipe does not have.
UNSUPPORTED = {
    "body": "TotalSegmentator removes small components of its mask",
    "body_fast": "TotalSegmentator removes small components of its mask",
    "vertebrae_pp": "TotalSegmentator corrects its mask by rules about vertebrae",
    "vertebrae_pp_refined": "TotalSegmentator corrects its mask by rules about vertebrae",
    "abdominal_muscles": "it looks inside the mask of the task `body`, of which TotalSegmentator removes small components",
    "teeth": "it looks inside the mask of the task `craniofacial_structures`, which has a rough step of its own",
    "total_highres_test": "its weights are not published",
}


def names(classes: dict[int, str]) -> list[str]:
    """The names of labels 1, 2, 3, …"""
    assert sorted(classes) == list(range(1, len(classes) + 1)), classes
    return [classes[value] for value in sorted(classes)]


def millimetres(resample) -> list[float] | None:
    if resample is None:
        return None
    return [float(resample)] * 3 if isinstance(resample, (int, float)) else [float(mm) for mm in resample]


def describe(name: str, config: dict) -> dict:
    config = map_tasks_config.DEFAULT_CONFIG | config
    datasets = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
    assert not (config["cascade"] or config["remove_outside"] or config["crop_model"]), name
    task = {
        "labels": name.removesuffix("_fast").removesuffix("_fastest"),
        "configuration": config["model"],
        "trainer": config["trainer"],
        "folds": config["folds"],
        "mm": millimetres(config["resample"]),
        # nnunet.py: `step_size`
        "tile_step": 0.8 if name.startswith("total") else 0.5,
        "datasets": datasets,
    }
    if config["crop"] is not None:
        # python_api.py: the rough model, whose margin is 20 mm for every task
        mr = name.endswith("_mr") or config["modality"] == "mr"
        rough, mm = (852, 3.0) if mr else (297, 3.0) if config["robust_crop"] else (298, 6.0)
        trainer = "nnUNetTrainer_2000epochs_NoMirroring" if mr else "nnUNetTrainer_4000epochs_NoMirroring"
        labels = "total_mr" if mr else "total"
        task["locate"] = {"dataset": rough, "trainer": trainer, "mm": [mm] * 3, "labels": labels, "inside": config["crop"]}
    return task


def main() -> None:
    tasks = {}
    for name, config in map_tasks_config.TASK_CONFIGS.items():
        if config.get("commercial") or name == "test":
            continue
        modes = config.get("sub_modes", {"default": config})
        for mode, of_mode in modes.items():
            full = name if mode == "default" else f"{name}_{mode}"
            if full not in UNSUPPORTED:
                tasks[full] = describe(full, of_mode)
    used = {d for t in tasks.values() for d in [*t["datasets"], *([t["locate"]["dataset"]] if "locate" in t else [])]}
    tables = {t["labels"] for t in tasks.values()} | {t["locate"]["labels"] for t in tasks.values() if "locate" in t}
    auxiliary = {name: sorted(CLASSES[f"{name}_auxiliary"]) for name in sorted(tables) if f"{name}_auxiliary" in CLASSES}
    several = {d for t in tasks.values() if len(t["datasets"]) > 1 for d in t["datasets"]}
    table = {
        "source": f"TotalSegmentator {importlib.metadata.version('TotalSegmentator')}, map_tasks_config.py and map_to_binary.py "
        "(Wasserthal et al. 2023, doi:10.1148/ryai.230024; Apache-2.0)",
        "folders": {str(d): FOLDERS[d] for d in sorted(used)},
        "tasks": tasks,
        "labels": {name: names(CLASSES[name]) for name in sorted(tables)},
        "auxiliary_labels": auxiliary,
        "part_labels": {str(d): names(PARTS[d]) for d in sorted(several)},
        "licensed": sorted(map_to_binary.commercial_models),
        "unsupported": UNSUPPORTED,
    }
    lines = json.dumps(table, indent=1)
    # Lists in one line.
    while "\n" in lines and (shorter := shorten(lines)) != lines:
        lines = shorter
    Path(sys.argv[1]).write_text(lines + "\n")


def shorten(text: str) -> str:
    import re

    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m.group(1)) + "]", text)


if __name__ == "__main__":
    main()
