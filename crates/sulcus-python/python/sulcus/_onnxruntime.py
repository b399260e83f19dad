"""Where a Python program has ONNX Runtime. Nothing is imported or loaded here."""

import importlib.util
import os
import sys
from pathlib import Path


def packages() -> list[str]:
    """The folders that hold the `onnxruntime` package of the running interpreter, the one that `import onnxruntime` would
    take (`onnxruntime-gpu` and its like have the same name)."""
    try:
        spec = importlib.util.find_spec("onnxruntime")
    except (ImportError, ValueError):
        return []
    places = spec.submodule_search_locations if spec is not None else None
    return [os.path.dirname(place) for place in places or []]


def data_folder() -> str | None:
    """Where `sulcus runtime install` puts the library: the same folder as in the command line's environment.rs."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        home = str(Path.home() / "Library" / "Application Support")
    else:
        home = os.environ.get("XDG_DATA_HOME", "")
        if not os.path.isabs(home):
            home = os.path.join(os.environ.get("HOME", ""), ".local", "share")
    return os.path.join(home, "sulcus", "onnxruntime") if home and os.path.isabs(home) else None
