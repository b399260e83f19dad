"""Where ONNX Runtime may be installed. Nothing is imported or loaded here."""

import importlib.util
import os
import sys
from pathlib import Path


def packages() -> list[str]:
    """The folders of the `onnxruntime` package that `import onnxruntime` would load. `onnxruntime-gpu` and similar
    distributions have the same package name."""
    try:
        spec = importlib.util.find_spec("onnxruntime")
    except (ImportError, ValueError):
        return []
    locations = spec.submodule_search_locations if spec is not None else None
    return [os.path.dirname(location) for location in locations or []]


def data_folder() -> str | None:
    """The folder of `sulcus runtime install`, as in environment.rs of the command line."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        home = str(Path.home() / "Library" / "Application Support")
    else:
        home = os.environ.get("XDG_DATA_HOME", "")
        if not os.path.isabs(home):
            home = os.path.join(os.environ.get("HOME", ""), ".local", "share")
    return os.path.join(home, "sulcus", "onnxruntime") if home and os.path.isabs(home) else None
