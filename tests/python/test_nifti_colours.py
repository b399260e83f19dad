"""Colour images in NIfTI are refused, and the command that the message names makes a volume that is read.

Needs numpy, nibabel, pytest; SULCUS_BIN names the program.
"""

import json
import os
import re
import shlex
import subprocess
import sys

import nibabel
import numpy as np
import pytest

SULCUS = os.environ.get("SULCUS_BIN")
pytestmark = pytest.mark.skipif(not SULCUS, reason="SULCUS_BIN does not name the program")

AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])
SHAPE = (4, 5, 6)
STACK = "np.stack([a[c] for c in 'RGB'], -1)"


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
@pytest.mark.parametrize("grey", [False, True])
def test_command_in_the_message_separates_the_colours(tmp_path, channels, grey):
    colours = np.zeros(SHAPE, [(c, "u1") for c in channels])
    for number, channel in enumerate(channels):
        colours[channel] = np.random.default_rng(0 if grey else number).integers(0, 256, SHAPE)
    source, separate, copy = (tmp_path / name for name in ("colours.nii.gz", "channels.nii.gz", "copy.nrrd"))
    nibabel.save(nibabel.Nifti1Image(colours, AFFINE), source)

    refused = subprocess.run([SULCUS, "convert", source, copy], capture_output=True, text=True)
    assert refused.returncode == 1 and not copy.exists()
    command = re.search(r"`(python -c .* IN OUT)`", refused.stderr)[1]
    assert STACK in command and f"`{STACK}`" in refused.stderr.replace("instead of ", "")
    if grey:
        command = command.replace(STACK, re.search(r"`(a\[.*?\])` instead of", refused.stderr)[1])
    words = {"python": sys.executable, "IN": source, "OUT": separate}
    subprocess.run([words.get(word, word) for word in shlex.split(command)], check=True)

    subprocess.run([SULCUS, "convert", separate, copy], check=True, capture_output=True)
    info = subprocess.run([SULCUS, "info", "--json", copy], check=True, capture_output=True, text=True)
    found = json.loads(info.stdout)
    assert found["shape"] == [*SHAPE, *([] if grey else [3])]
    values = nibabel.load(separate).get_fdata()
    for number, channel in enumerate("R" if grey else "RGB"):
        assert np.array_equal(values if grey else values[..., number], colours[channel])
    assert np.allclose(nibabel.load(separate).affine, AFFINE)
