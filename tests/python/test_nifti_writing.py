"""NIfTI files of `sulcus convert`, read by nibabel, gzip and zlib: pairs, versions, gzip data.

Needs numpy, nibabel, pytest; SULCUS_BIN names the program. `gunzip` is used if it is installed.
"""

import gzip
import itertools
import os
import shutil
import subprocess
import zlib

import nibabel
import numpy as np
import pytest

SULCUS = os.environ.get("SULCUS_BIN")
pytestmark = pytest.mark.skipif(not SULCUS, reason="SULCUS_BIN does not name the program")

# Enough voxels for several of the blocks that are compressed in parallel.
LARGE = (160, 150, 70)
AFFINE = np.array([[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0], [0, 0, 0, 1]])


def run(*words, code=0, **more):
    done = subprocess.run([SULCUS, *map(str, words)], capture_output=True, text=True, **more)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{done.stderr}"
    return done


def scan(shape=(5, 6, 7), dtype="int16", kind=nibabel.Nifti1Image):
    rng = np.random.default_rng(3)
    # A dark border, as in scans, so that blocks have different compression ratios.
    data = np.zeros(shape, dtype)
    inner = tuple(slice(n // 5, n - n // 5) for n in shape[:3])
    data[inner] = rng.integers(0, 120, data[inner].shape)
    image = kind(data, AFFINE)
    image.set_qform(AFFINE, code=1)
    image.header["descrip"] = b"of the patient"
    return image


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("output", ["out.hdr", "out.img", "out.hdr.gz", "out.img.gz", "OUT.HDR"])
def test_pairs_are_read_by_nibabel_and_sulcus(tmp_path, kind, output):
    for number, (dtype, shape) in enumerate([("uint8", (4, 5, 6)), ("int16", LARGE), ("float64", (3, 4, 5, 2))]):
        image = scan(shape, dtype, kind)
        nibabel.save(image, tmp_path / "in.nii.gz")
        folder = tmp_path / str(number)
        folder.mkdir()
        run("convert", tmp_path / "in.nii.gz", folder / output)
        assert len(list(folder.iterdir())) == 2, "two files, and no temporary files"
        pair = nibabel.load(folder / output)
        assert type(pair) is (nibabel.Nifti1Pair if kind is nibabel.Nifti1Image else nibabel.Nifti2Pair)
        np.testing.assert_array_equal(np.asanyarray(pair.dataobj), np.asanyarray(image.dataobj))
        np.testing.assert_array_equal(pair.affine, nibabel.load(tmp_path / "in.nii.gz").affine)
        assert pair.get_data_dtype() == dtype
        assert pair.header["descrip"].item().startswith(b"sulcus"), "the description is the patient's"
        # And back again, from each of the two files.
        for path in folder.iterdir():
            back = tmp_path / "back.nii"
            run("convert", path, back)
            np.testing.assert_array_equal(np.asanyarray(nibabel.load(back).dataobj), np.asanyarray(image.dataobj))


def test_a_pair_from_nibabel_keeps_scale_and_extensions(tmp_path):
    image = nibabel.Nifti1Pair(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
    image.header.set_slope_inter(0.5, -3)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"a note"))
    nibabel.save(image, tmp_path / "in.img")
    run("convert", tmp_path / "in.hdr", tmp_path / "out.hdr", "--keep-texts")
    back = nibabel.load(tmp_path / "out.hdr")
    np.testing.assert_array_equal(back.get_fdata(), nibabel.load(tmp_path / "in.hdr").get_fdata())
    assert [e.get_content() for e in back.header.extensions] == [b"a note"]


def test_a_pair_does_not_overwrite_its_own_other_half(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(np.ones((2, 3, 4), np.uint8), AFFINE), tmp_path / "a.img")
    before = (tmp_path / "a.img").read_bytes()
    done = run("convert", tmp_path / "a.hdr", tmp_path / "a.img", "--orient", "RAS", code=2)
    assert "would overwrite the input" in done.stderr
    assert (tmp_path / "a.img").read_bytes() == before


def test_a_header_is_paired_with_the_file_of_the_same_compression(tmp_path):
    for suffix, value in (("", 1), (".gz", 2)):
        nibabel.save(nibabel.Nifti1Pair(np.full((2, 3, 4), value, np.uint8), AFFINE), tmp_path / f"a.img{suffix}")
    for suffix, value in (("", 1), (".gz", 2)):
        for half in ("hdr", "img"):
            run("convert", tmp_path / f"a.{half}{suffix}", tmp_path / "out.nii")
            assert np.all(np.asanyarray(nibabel.load(tmp_path / "out.nii").dataobj) == value), f"{half}{suffix}"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_gzip_data_are_one_valid_member_for_every_reader(tmp_path, dtype):
    image = scan(LARGE, dtype)
    nibabel.save(image, tmp_path / "in.nii")
    run("convert", tmp_path / "in.nii", tmp_path / "out.nii.gz")
    run("convert", tmp_path / "in.nii", tmp_path / "out.nii")
    packed, plain = (tmp_path / "out.nii.gz").read_bytes(), (tmp_path / "out.nii").read_bytes()
    assert gzip.decompress(packed) == plain
    # Browsers require this: one member, and nothing after it.
    one = zlib.decompressobj(wbits=31)
    assert one.decompress(packed) == plain
    assert one.eof and not one.unused_data
    back = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), np.asanyarray(image.dataobj))
    if shutil.which("gunzip"):
        unpacked = subprocess.run(["gunzip", "-c", tmp_path / "out.nii.gz"], check=True, capture_output=True).stdout
        assert unpacked == plain
    # At most 5 % larger than with nibabel's own setting.
    assert len(packed) <= 1.05 * len(gzip.compress(plain, 1))


def test_gzip_data_are_the_same_on_any_number_of_threads(tmp_path):
    nibabel.save(scan(LARGE), tmp_path / "in.nii")
    files = []
    for threads, again in itertools.product((1, 2, 5), range(2)):
        output = tmp_path / f"{threads}-{again}.nii.gz"
        run("convert", tmp_path / "in.nii", output, env=os.environ | {"RAYON_NUM_THREADS": str(threads)})
        files.append(output.read_bytes())
    assert len(set(files)) == 1


def test_a_full_disk_or_a_missing_folder_does_not_change_an_older_pair(tmp_path):
    nibabel.save(scan(), tmp_path / "in.nii")
    run("convert", tmp_path / "in.nii", tmp_path / "out.hdr")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    nibabel.save(scan((9, 9, 9)), tmp_path / "other.nii")
    # The size limit of files allows the header but not the voxels.
    limited = ["sh", "-c", 'ulimit -f 2; exec "$0" "$@"', SULCUS, "convert", tmp_path / "other.nii", tmp_path / "out.hdr"]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode != 0
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith((".sulcus-", "other"))}
    assert after == before
