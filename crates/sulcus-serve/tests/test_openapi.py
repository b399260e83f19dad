"""Compares `sulcus serve` with its OpenAPI description, by requests that schemathesis generates from it, and parses its multipart
responses.

SULCUS_BIN is the binary, SULCUS_REPO the repository's root. `pip install pytest schemathesis openapi-spec-validator`.
"""

import contextlib
import email
import email.policy
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

# For each operation; half a minute in all. They are the same on every run, because the name of the test is their seed.
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
    """A scan with changed bytes in its header or a cut end, gzipped or not."""
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


@contextlib.contextmanager
def serving(model):
    """A running server's address. The process must still run at the end, and stop when it gets SIGTERM."""
    command = [os.environ["SULCUS_BIN"], "serve", "-m", str(model), "--engine", "tract", "--port", "0", "--json"]
    environment = {**os.environ, "SULCUS_TOKEN": TOKEN}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        yield json.loads(child.stdout.readline())["url"]
        assert child.poll() is None, "the server has ended"
        child.terminate()
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()


@pytest.fixture(scope="module")
def server():
    with serving(MODEL) as url:
        yield url


def varint(number):
    """A protobuf varint."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def with_label_names(names):
    """The bytes of MODEL with other names of its labels."""

    def entry(spec):
        key = b"sulcus.spec"
        body = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(spec)) + spec
        return b"\x72" + varint(len(body)) + body

    content = MODEL.read_bytes()
    text = content[content.index(b'{"format_version"') :].decode("utf-8", "replace")
    spec, end = json.JSONDecoder().raw_decode(text)
    old = entry(text[:end].encode())
    assert content.count(old) == 1 and len(spec["labels"]) == len(names)
    for label, name in zip(spec["labels"], names):
        label["name"] = name
    return content.replace(old, entry(json.dumps(spec).encode()))


def fetch(server, path):
    request = urllib.request.Request(server + path, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def description():
    """The description that a server with a token returns. The tests are generated from it before a server runs."""
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


def test_description_is_valid_openapi_3_1_and_equals_the_served_one(server):
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
def test_responses_match_the_description(case, server):
    # A schema cannot describe which bodies are scans, so the server correctly refuses random bodies that match it.
    case.call_and_validate(
        base_url=server,
        headers={"Authorization": f"Bearer {TOKEN}"},
        excluded_checks=[positive_data_acceptance, negative_data_rejection],
        timeout=60,
    )


def test_server_works_after_the_generated_requests(server):
    """Scans were segmented and refused, the engine did not fail, and a scan still gets its mask."""
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
    # The shape and the sform.
    assert mask[40:48] == SCAN[40:48] and mask[252:328] == SCAN[252:328]
    # This scan gives no warnings, and only packs have steps.
    absent = {"warnings", "steps"}
    assert set(result) == set(DESCRIPTION["components"]["schemas"]["Result"]["properties"]) - absent


def test_multipart_has_labels_beyond_4_kb_and_the_mask(tmp_path):
    """A standard MIME parser reads both parts. The header of a plain response has no room for these labels."""
    names = ["Großhirn-" * 300, "Kleinhirn-" * 300]
    model = tmp_path / "model.onnx"
    model.write_bytes(with_label_names(names))
    with serving(model) as server:

        def segment(accept):
            headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept, "Content-Type": "application/gzip"}
            request = urllib.request.Request(server + "/v1/segment", data=SCAN, headers=headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.headers, answer.read()

        headers, mask = segment("application/gzip")
        assert "labels" not in json.loads(headers["sulcus-result"])
        for media_type in ["multipart/form-data", "multipart/mixed"]:
            headers, body = segment(media_type)
            head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
            message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
            assert message.get_content_type() == media_type and not message.defects
            result, part = message.iter_parts()
            assert (result.get_content_type(), part.get_content_type()) == ("application/json", "application/gzip")
            assert part.get_filename() == "mask.nii.gz"
            assert part.get_payload(decode=True) == mask
            labels = json.loads(result.get_payload(decode=True))["labels"]
            assert list(labels) == names and all(label["ml"] >= 0 for label in labels.values())
