"""`sulcus info --json` against nibabel on more than two thousand NIfTI files.

The files are generated with nibabel's headers: all types, byte orders, versions, layouts, transforms, scales, shapes and unusual
headers, the same on every run. `sulcus info` must agree with nibabel about each file, or both must refuse it. If only Sulcus
refuses a file, the reason is in STRICTER: the result of nibabel would be wrong or meaningless.

Needs numpy, nibabel, pytest; SULCUS_BIN names the program.
"""

import concurrent.futures
import dataclasses
import gzip
import json
import logging
import math
import os
import pathlib
import subprocess
import warnings

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension, Nifti1PairHeader
from nibabel.nifti2 import Nifti2PairHeader

SULCUS = os.environ.get("SULCUS_BIN")
pytestmark = pytest.mark.skipif(not SULCUS, reason="SULCUS_BIN does not name the program")

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
CONTAINERS = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
SHAPES = (
    (4, 5, 6),
    (1, 1, 1),
    (7, 3, 2, 4),
    (3, 4, 5, 1, 2),
    (3, 4, 5, 1, 1),
    (6, 5),
    (24,),
    (5, 1, 4),
    (2, 3, 4, 2, 3),
    (2, 2, 2, 1, 2, 1, 2),
    (33, 31, 3),
    # More values than are processed at a time.
    (17, 19, 23, 2),
)
AFFINE_TOLERANCE = 1e-5
VALUE_TOLERANCE = 1e-9
# Relative to the largest magnitude: the rounding error in double precision of the mean of values that cancel out.
CANCELLATION = 1e-15

# Why Sulcus refuses a file that nibabel reads.
STRICTER = {
    "complex": "a voxel is not a single real number (nibabel drops the imaginary part)",
    "offset in header": "vox_offset 0 in a single file: nibabel reads the header as voxels",
    "no inverse": "a transform that maps the volume to a plane or to non-finite coordinates",
    "no voxels": "an axis of length 0",
    "checksum": "gzip data whose checksum is wrong (nibabel stops before it)",
    "magic": "a header that is no longer NIfTI, which nibabel reads as Analyze: left and right are unknown",
}


@dataclasses.dataclass
class Case:
    name: str
    paths: tuple
    stricter: str | None = None

    @property
    def path(self):
        return self.paths[0]


def rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def rigid(rng, left_handed=False):
    affine = np.eye(4)
    affine[:3, :3] = rotation(rng) * rng.uniform(0.3, 4.0, 3)
    if left_handed:
        affine[:3, 2] *= -1
    affine[:3, 3] = rng.uniform(-150, 150, 3)
    return affine


def sform(h, rng, code=1):
    affine = rigid(rng)
    affine[:3, :3] += rng.uniform(-0.05, 0.05, (3, 3))
    h["srow_x"], h["srow_y"], h["srow_z"] = affine[:3]
    h["sform_code"] = code


def qform(h, rng, code=1, left_handed=False):
    h.set_qform(rigid(rng, left_handed), code=1)
    h["qform_code"] = code


def zooms(h, rng):
    h["pixdim"][1:4] = rng.uniform(0.3, 5.0, 3)


def forms(h, rng, kind):
    """One of the ways in which a header gives the position of the volume, or none."""
    zooms(h, rng)
    if kind == "sform":
        sform(h, rng, code=rng.integers(1, 6))
    elif kind == "qform":
        qform(h, rng, code=rng.integers(1, 6))
    elif kind == "left-handed qform":
        qform(h, rng, left_handed=True)
    elif kind == "conflict":
        qform(h, rng)
        sform(h, rng, code=2)
    elif kind == "neither":
        pass
    elif kind == "codes that mean nothing":
        sform(h, rng, code=rng.choice([-1, 6, 77]))
        qform(h, rng, code=rng.choice([0, 3]))
    elif kind == "qfac 0":
        qform(h, rng)
        h["pixdim"][0] = rng.choice([0, 2, -3, np.nan])
    elif kind == "negative sizes":
        h["pixdim"][1:4] *= rng.choice([-1, 1], 3)
        if rng.random() < 0.5:
            qform(h, rng)
            h["pixdim"][1:4] *= -1
    elif kind == "sizes of 0":
        h["pixdim"][1 + rng.integers(3)] = 0
    elif kind == "half turn":
        # The scalar part of the quaternion is 0, except for rounding.
        axis = rng.normal(size=3)
        h["quatern_b"], h["quatern_c"], h["quatern_d"] = axis / np.linalg.norm(axis)
        h["qform_code"] = 1
    elif kind == "mirrored sform":
        sform(h, rng)
        h["srow_x"] *= -1
    elif kind == "units":
        sform(h, rng)
        h["xyzt_units"] = rng.integers(0, 64)


FORMS = (
    "sform",
    "qform",
    "left-handed qform",
    "conflict",
    "neither",
    "codes that mean nothing",
    "qfac 0",
    "negative sizes",
    "sizes of 0",
    "half turn",
    "mirrored sform",
    "units",
)
SCALES = (
    (np.nan, np.nan),
    (1.0, 0.0),
    (0.0, 0.0),
    (0.0, 5.0),
    (0.0, np.nan),
    (np.inf, 3.0),
    (-np.inf, np.nan),
    (np.nan, 7.0),
    (2.5, -3.0),
    (-1.5, 10.0),
    (-1.0, 0.0),
    (1.0, 1024.0),
    (1e-30, 0.0),
    (1e20, 1e10),
    (0.1, 0.0),
)


def values(dtype, shape, rng):
    count = math.prod(shape)
    kind = np.dtype(dtype).kind
    if kind in "iu":
        limits = np.iinfo(dtype)
        out = rng.integers(limits.min, limits.max, count, dtype=dtype, endpoint=True)
        if rng.random() < 0.3:
            out //= limits.max // 9
        return out
    out = rng.normal(50, 30, count) * rng.choice([1.0, 1e-40, 1e30] if dtype == "float32" else [1.0, 1e-300, 1e250])
    odd = rng.integers(6)
    if odd < 3 and count > 3:
        at = rng.choice(count, 3, replace=False)
        out[at] = [[np.nan] * 3, [np.inf, -np.inf, np.nan], [-0.0, np.inf, np.nan]][odd]
    elif odd == 3:
        out[:] = rng.choice([np.nan, np.inf, 0.0, -2.0])
    return out.astype(dtype)


class Maker:
    """Writes the files. Nothing in them depends on Sulcus."""

    def __init__(self, folder):
        self.folder = folder
        self.cases = []

    def header(self, version, endian, dtype, shape, single):
        kind = Nifti1PairHeader if version == 1 else Nifti2PairHeader
        h = kind(endianness=endian)
        h.set_data_dtype(dtype)
        h.set_data_shape(shape)
        h["magic"] = (b"n+1" if version == 1 else b"n+2") if single else (b"ni1" if version == 1 else b"ni2")
        h["vox_offset"] = {1: 352, 2: 544}[version] if single else 0
        return h

    def write(self, name, h, between, voxels, container, stricter=None, pack=gzip.compress):
        """`between` follows the header, up to the first voxel or the end of the header file."""
        path = self.folder / f"{len(self.cases):05d}-{name.replace(' ', '-')}{container}"
        packed = container.endswith(".gz")
        head = h.binaryblock + between
        if container.startswith(".nii"):
            parts = {path: head + voxels}
        else:
            image = path.with_name(path.name.replace(".hdr", ".img"))
            parts = {path: head, image: voxels}
        for file, content in parts.items():
            file.write_bytes(pack(content) if packed else content)
        self.cases.append(Case(name, tuple(parts), stricter))

    def volume(
        self,
        name,
        rng,
        version=1,
        endian="<",
        dtype="int16",
        shape=(4, 5, 6),
        container=".nii",
        form="sform",
        scale=(np.nan, np.nan),
        texts=0,
        gap=0,
        tail=b"",
        edit=None,
        **kwargs,
    ):
        single = container.startswith(".nii")
        h = self.header(version, endian, dtype, shape, single)
        forms(h, rng, form)
        h["scl_slope"], h["scl_inter"] = scale
        notes = [Nifti1Extension(6, rng.bytes(int(rng.integers(1, 90))).replace(b"\0", b"x")) for _ in range(texts)]
        between = b"\0\0\0\0"
        if notes:
            between = b"\1\0\0\0"
            for note in notes:
                content = note.get_content()
                size = -(-(8 + len(content)) // 16) * 16
                numbers = np.array([size, 6], endian + "i4").tobytes()
                between += numbers + content.ljust(size - 8, b"\0")
        filler = rng.bytes(gap)
        if single:
            # nibabel reads a gap after extensions as another extension, and refuses it.
            gap = 0 if notes else gap
            h["vox_offset"] = len(h.binaryblock) + len(between) + gap
            between += b"\0" * gap
            voxels = b""
        else:
            h["vox_offset"] = gap
            voxels = filler
        if edit:
            edit(h)
        data = values(dtype, shape, rng).astype(np.dtype(dtype).newbyteorder(endian)).tobytes()
        self.write(name, h, between, voxels + data + tail, container, **kwargs)


def regular(make, rng):
    """Every type in every container, byte order and version, with the other properties at random: thirteen files each."""
    for dtype in TYPES:
        for endian in "<>":
            for version in (1, 2):
                for container in CONTAINERS:
                    for round in range(13):
                        form = FORMS[(round + rng.integers(2)) % len(FORMS)]
                        make.volume(
                            f"{dtype} {form}",
                            rng,
                            version,
                            endian,
                            dtype,
                            SHAPES[rng.integers(len(SHAPES))],
                            container,
                            form,
                            SCALES[rng.integers(len(SCALES))],
                            texts=int(rng.choice([0, 0, 1, 3])),
                            # The voxels of pairs may also start at any offset.
                            gap=int(rng.choice([0, 0, 16, 1, 500])),
                            tail=rng.bytes(int(rng.choice([0, 0, 7, 3000]))),
                        )


def every_scale_form_and_shape(make, rng):
    for scale in SCALES:
        for dtype in TYPES:
            make.volume(f"scale {scale}", rng, dtype=dtype, scale=scale, version=int(rng.integers(1, 3)))
    for form in FORMS:
        for version in (1, 2):
            for endian in "<>":
                for shape in SHAPES:
                    make.volume(f"form {form}", rng, version, endian, shape=shape, form=form, dtype="uint8")


def unusual_headers(make, rng):
    """Headers that nibabel corrects, and Sulcus also."""

    def fields(**those):
        def edit(h):
            for field, value in those.items():
                h[field] = value

        return edit

    for container in CONTAINERS[:2]:
        make.volume("wrong bitpix", rng, container=container, edit=fields(bitpix=7))
        make.volume("wrong size of header", rng, container=container, edit=fields(sizeof_hdr=0))
        make.volume("big and wrong size", rng, endian=">", container=container, edit=fields(sizeof_hdr=12))
        make.volume("half a byte of offset", rng, container=container, edit=fields(vox_offset=352.75))
        make.volume("several members", rng, container=container, pack=members)
        make.volume("one byte a member", rng, container=container, shape=(2, 2, 2), pack=bytewise)
        make.volume("pixdim nan under an sform", rng, container=container, edit=lambda h: h["pixdim"].fill(np.nan))
        make.volume("metres", rng, container=container, edit=fields(xyzt_units=1))
        make.volume("microns", rng, container=container, edit=fields(xyzt_units=3))
    make.volume("ico7", rng, shape=(27307, 1, 6), dtype="uint8")

    def long_vector(h):
        h["dim"][1], h["glmin"] = -1, 40000

    make.volume("freesurfer vector", rng, shape=(20000, 2, 1), dtype="uint8", edit=lambda h: (long_vector(h), h["dim"].__setitem__(2, 1)))


def members(content):
    cuts = [0, 3, 400, 401, len(content)]
    return b"".join(gzip.compress(content[a:b]) for a, b in zip(cuts, cuts[1:]))


def bytewise(content):
    return b"".join(gzip.compress(content[i : i + 1]) for i in range(len(content)))


def refused(make, rng):
    def field(name, value, index=None):
        def edit(h):
            if index is None:
                h[name] = value
            else:
                h[name][index] = value

        return edit

    for version in (1, 2):
        for container in CONTAINERS:
            say = dict(version=version, container=container)
            make.volume("intercept nan", rng, scale=(2.0, np.nan), **say)
            make.volume("intercept inf", rng, scale=(2.0, -np.inf), **say)
            make.volume("too few voxels", rng, edit=field("dim", 50, 3), **say)
            make.volume("unknown type", rng, edit=field("datatype", 3), **say)
            make.volume("one bit", rng, edit=field("datatype", 1), **say)
            # So few bytes that nibabel refuses it on any processor.
            make.volume("float128 without the rest", rng, edit=field("datatype", 1536), **say)
            make.volume("rgb", rng, edit=field("datatype", 128), tail=bytes(900), **say)
            make.volume("rgba", rng, edit=field("datatype", 2304), tail=bytes(900), **say)
            make.volume("voxels beyond the end", rng, edit=field("vox_offset", 4096), **say)

            def long_quaternion(h):
                h["qform_code"], h["sform_code"] = 1, 0
                h["quatern_b"] = h["quatern_c"] = 0.9

            make.volume("long quaternion", rng, edit=long_quaternion, **say)
            if container.startswith(".nii"):
                make.volume("voxels in the header", rng, edit=field("vox_offset", 16), **say)
            if container.endswith(".gz"):
                make.volume("cut gzip", rng, shape=(9, 9, 9), pack=lambda c: gzip.compress(c)[:-200], **say)
                # nibabel notices it only if it cannot continue.
                make.volume("damaged gzip", rng, shape=(9, 9, 9), pack=damaged, stricter="checksum", **say)
        make.volume("line ends", rng, version=2, edit=field("eol_check", 7, 1))
    for content in (b"", b"\x1f\x8b", b"text", bytes(400), b"\xff" * 4000):
        path = make.folder / f"{len(make.cases):05d}-nothing.nii"
        path.write_bytes(content)
        make.cases.append(Case("no NIfTI", (path,)))
    make.volume("half a pair", rng, container=".hdr")
    make.cases[-1].paths[1].unlink()


def damaged(content):
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


def wrong_checksum(content):
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1
    return bytes(packed)


def refused_by_sulcus_only(make, rng):
    for version in (1, 2):
        for dtype in ("complex64", "complex128"):
            make.volume("complex", rng, version, shape=(2, 3, 4), stricter="complex", edit=retyped(dtype), tail=bytes(999))

        def zero_offset(h):
            h["vox_offset"] = 0

        make.volume("offset 0", rng, version, edit=zero_offset, stricter="offset in header")

        def flat(h):
            h["srow_z"] = h["srow_x"]

        def nowhere(h):
            h["srow_y"] = 0

        def nan(h):
            h["srow_x"][1] = np.nan

        for edit in (flat, nowhere, nan):
            make.volume("singular sform", rng, version, edit=edit, stricter="no inverse")

        def nan_sizes(h):
            h["pixdim"][2] = np.nan

        make.volume("pixdim nan", rng, version, form="neither", edit=nan_sizes, stricter="no inverse")

        def empty(h):
            h["dim"][2] = 0

        make.volume("empty", rng, version, edit=empty, stricter="no voxels")
        make.volume("checksum", rng, version, container=".nii.gz", pack=wrong_checksum, stricter="checksum")
        make.volume("checksum and more", rng, version, container=".nii.gz", pack=wrong_checksum, tail=bytes(3 * 10**5), stricter="checksum")

    def magic(h):
        h["magic"] = b"n*1"

    make.volume("magic", rng, edit=magic, stricter="magic")


def retyped(dtype):
    return lambda h: h.set_data_dtype(dtype)


def reference(case):
    """What nibabel reads, or None if it refuses the file."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            image = nibabel.load(case.path)
            data = image.get_fdata(dtype=np.float64)
            affine = image.affine
    except Exception:
        return None
    finite = data[np.isfinite(data)]
    if finite.size == 0:
        statistics = (None, None, None)
    else:
        # The exact sum. NumPy's mean may lose digits, or overflow although no value does.
        mean = float(math.fsum(finite / finite.size)) if np.abs(finite).max() > 1e290 else math.fsum(finite) / finite.size
        statistics = (float(finite.min()), float(finite.max()), mean)
    return {
        "shape": list(data.shape),
        "dtype": image.get_data_dtype().name,
        "affine": affine,
        "statistics": statistics,
        "largest": float(np.abs(finite).max()) if finite.size else 0.0,
        "non_finite": data.size - finite.size,
    }


def described(path):
    done = subprocess.run([SULCUS, "info", str(path), "--json"], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout), ""
    assert done.returncode == 1 and not done.stdout, f"{path}: exit code {done.returncode}\n{done.stderr}"
    assert "cannot " in done.stderr and "panicked" not in done.stderr, f"{path}: {done.stderr}"
    return None, done.stderr


def differences(ours, theirs):
    found = []
    for key in ("shape", "dtype", "non_finite"):
        if ours[key] != theirs[key]:
            found.append(f"{key} {ours[key]}, nibabel {theirs[key]}")
    if not np.allclose(ours["ras_from_voxel"], theirs["affine"], rtol=0, atol=AFFINE_TOLERANCE):
        found.append(f"affine {ours['ras_from_voxel']}, nibabel {theirs['affine'].tolist()}")
    for key, value in zip(("min", "max", "mean"), theirs["statistics"]):
        mine = ours[key]
        if (mine is None) != (value is None):
            found.append(f"{key} {mine}, nibabel {value}")
        elif value is not None:
            room = VALUE_TOLERANCE * abs(value) + (CANCELLATION * theirs["largest"] if key == "mean" else 0.0)
            if not abs(mine - value) <= room:
                found.append(f"{key} {mine!r}, nibabel {value!r}")
    return found


def test_every_file_is_described_as_nibabel_reads_it(tmp_path):
    # nibabel logs its corrections there.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)
    rng = np.random.default_rng(20)
    make = Maker(tmp_path)
    for part in (regular, every_scale_form_and_shape, unusual_headers, refused, refused_by_sulcus_only):
        part(make, rng)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(described, [case.path for case in make.cases]))
    wrong, equal, both, stricter = [], 0, 0, set()
    for case, (ours, error) in zip(make.cases, answers):
        theirs = reference(case)
        if case.stricter:
            # No file with a reason in the list may also be refused by nibabel or be read by Sulcus.
            if ours is not None:
                wrong.append(f"{case.path.name}: read, though {STRICTER[case.stricter]}")
            stricter.add(case.stricter)
        elif theirs is None:
            both += 1
            if ours is not None:
                wrong.append(f"{case.path.name}: read, though nibabel refuses it")
        elif ours is None:
            wrong.append(f"{case.path.name}: refused: {error.strip()}")
        else:
            equal += 1
            wrong += [f"{case.path.name}: {text}" for text in differences(ours, theirs)]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong[:20])
    assert stricter == set(STRICTER)
    print(f"{len(make.cases)} files: {equal} described as by nibabel, {both} refused by both")
    assert equal >= 2000 and both >= 50, (equal, both)
