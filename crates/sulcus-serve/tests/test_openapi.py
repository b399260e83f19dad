"""The description of `sulcus serve` against the server itself: schemathesis makes requests by it and compares the answers.

SULCUS_BIN is the binary, SULCUS_REPO the repository's root. `pip install pytest schemathesis openapi-spec-validator`.
"""

import gzip
import json
import os
import pathlib
import secrets
import struct
import subprocess
import urllib.request

import openapi_spec_validator
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

REPO = pathlib.Path(os.environ["SULCUS_REPO"])
MODEL = REPO / "crates/sulcus-cli/assets/tiny.onnx"
SCAN = gzip.decompress((REPO / "examples/data/case/image.nii.gz").read_bytes())
TOKEN = secrets.token_hex(16)

# Of each operation, half a minute in all. The same ones on every run: they are drawn from the test's own name.
EXAMPLES = 1000


def nifti(shape, values):
    """A NIfTI-1 file of float32 values with an sform."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    struct.pack_into("<hh", header, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *[float(row == column) for column in range(4)])
    header[344:348] = b"n+1\0"
    return bytes(header) + struct.pack(f"<{len(values)}f", *values)


SMALL = nifti([8, 8, 4], [float(i % 97) for i in range(256)])


@st.composite
def damaged(draw):
    """A scan with bytes of its header changed, or cut short, gzipped or not."""
    scan = bytearray(SMALL)
    for _ in range(draw(st.integers(1, 4))):
        scan[draw(st.integers(0, 351))] = draw(st.integers(0, 255))
    scan = bytes(scan[: draw(st.sampled_from([len(scan), len(scan) - 7, 351, 100]))])
    return gzip.compress(scan, 1) if draw(st.booleans()) else scan


SCANS = st.one_of(
    st.sampled_from([SMALL, gzip.compress(SMALL), nifti([3, 2, 1], [0.0] * 6), nifti([4, 4, 4, 2], [1.0] * 128)]),
    damaged(),
    st.binary(min_size=1, max_size=2000),
)
schemathesis.openapi.media_type("application/gzip", SCANS)
schemathesis.openapi.media_type("application/octet-stream", SCANS)


@pytest.fixture(scope="module")
def server():
    """A running server's address. The process must still be there at the end, and stop when it is asked to."""
    command = [os.environ["SULCUS_BIN"], "serve", "-m", str(MODEL), "--engine", "tract", "--port", "0", "--json"]
    environment = {**os.environ, "SULCUS_TOKEN": TOKEN}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        yield json.loads(child.stdout.readline())["url"]
        assert child.poll() is None, "the server has ended"
        child.terminate()
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()


def fetch(server, path):
    request = urllib.request.Request(server + path, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def description():
    """As a server with a token gives it, before there is one: the tests are made from it."""
    text = (REPO / "crates/sulcus-serve/src/openapi.json").read_text()
    page = json.loads(text) | {"security": [{"token": []}]}
    for content in page["paths"]["/v1/segment"]["post"]["requestBody"]["content"].values():
        content["schema"]["maxLength"] = 512_000_000
    return page


DESCRIPTION = description()
API = schemathesis.openapi.from_dict(
    DESCRIPTION,
    config=SchemathesisConfig.from_dict({"generation": {"deterministic": True, "max-examples": EXAMPLES}}),
)


def test_the_description_is_openapi_3_1_and_the_server_s_own(server):
    openapi_spec_validator.validate(DESCRIPTION)
    served = json.loads(fetch(server, "/v1/openapi.json"))
    DESCRIPTION["info"]["version"] = served["info"]["version"]
    assert served == DESCRIPTION


@API.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case, server):
    # Which bodies are scans, a schema can't say: random ones that fit it are refused, and are meant to be.
    case.call_and_validate(
        base_url=server,
        headers={"Authorization": f"Bearer {TOKEN}"},
        excluded_checks=[positive_data_acceptance, negative_data_rejection],
        timeout=60,
    )


def test_what_was_fuzzed_was_answered(server):
    """After the fuzzing: scans were segmented and refused, nothing failed in the engine, and a scan gets its mask still."""
    text = fetch(server, "/metrics").decode()
    ends = {
        end: int(line.split()[-1])
        for end in ["done", "failed", "panicked", "cancelled"]
        for line in text.splitlines()
        if line.startswith(f'sulcus_jobs_total{{end="{end}"}}')
    }
    assert ends["done"] > 0 and ends["failed"] > 0 and ends["panicked"] == 0, ends
    assert 'status="500"' not in text, text
    request = urllib.request.Request(
        server + "/v1/segment",
        data=SCAN,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "application/gzip"
        result = json.loads(answer.headers["sulcus-result"])
        mask = gzip.decompress(answer.read())
    # Shape, and the three rows that place it.
    assert mask[40:48] == SCAN[40:48] and mask[252:328] == SCAN[252:328]
    assert set(result) == set(DESCRIPTION["components"]["schemas"]["Result"]["properties"]) - {"warnings"}
