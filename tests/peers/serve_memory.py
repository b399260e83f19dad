#!/usr/bin/env python3
"""`sulcus serve` under hostile uploads: how much memory does it take?

    python serve_memory.py SULCUS MODEL [--ceilings 500MB,1GB,2GB,default] [--clients 4] [-- OPTIONS OF serve]

Small files that inflate or resample to large volumes, headers that announce more than the file holds, and large bodies are sent by
several clients at a time, each of them twice. The peak memory of the process (`VmHWM`, Linux) must stay below the ceiling of
`--max-memory`, or below the default, three quarters of the machine's memory. During the uploads `/healthz` must respond, and
afterwards a normal scan must be segmented. Uses only the standard library and loopback.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import time
import zlib

CASE = pathlib.Path(__file__).parents[2] / "examples/data/case/image.nii.gz"
BITS = {2: 8, 4: 16, 16: 32, 64: 64}
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def header(shape, datatype=2, mm=1.0, offset=352.0):
    """The 352 bytes before the voxels of a NIfTI file."""
    out = bytearray(352)
    struct.pack_into("<i", out, 0, 348)
    struct.pack_into("<8h", out, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", out, 70, datatype, BITS[datatype])
    struct.pack_into("<8f", out, 76, 1, mm, mm, mm, 1, 1, 1, 1)
    struct.pack_into("<f", out, 108, offset)
    struct.pack_into("<ff", out, 112, 1, 0)
    struct.pack_into("<h", out, 254, 1)
    for row in range(3):
        struct.pack_into("<f", out, 280 + 20 * row, mm)
    out[344:348] = b"n+1\0"
    return bytes(out)


def gzipped(start, zeros=0):
    """`start` and then `zeros` bytes of zero."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(start)]
    block = bytes(1 << 20)
    for at in range(0, zeros, len(block)):
        pieces.append(packer.compress(block[: zeros - at]))
    return b"".join([*pieces, packer.flush()])


def noise(count):
    return random.Random(1).randbytes(count)


def volume(shape, datatype=2):
    """A volume of zeros with a little noise at its start."""
    size = shape[0] * shape[1] * shape[2] * BITS[datatype] // 8
    return gzipped(header(shape, datatype) + noise(1000), size - 1000)


def uploads():
    """What is sent, with its name."""
    small = header((20, 20, 20)) + noise(8000)
    return {
        "900 million voxels of 8 bits": volume((1000, 1000, 900)),
        "130 million voxels of 64 bits": volume((512, 512, 500), 64),
        "20 million voxels of 16 bits": volume((320, 320, 200), 4),
        "one long row": volume((32767, 2, 2000)),
        "8000 voxels of 100 mm": gzipped(header((20, 20, 20), mm=100.0) + noise(8000)),
        "8000 voxels of 0.001 mm": gzipped(header((20, 20, 20), mm=0.001) + noise(8000)),
        "32767 voxels along each axis announced": gzipped(header((32767, 32767, 32767)) + noise(8000)),
        "4 GB of zeros after 8000 voxels": gzipped(small, 4 << 30),
        "voxels announced at byte 4e9": gzipped(header((20, 20, 20), offset=4e9) + noise(8000), 1 << 30),
        "200 MB that do not compress": header((1000, 1000, 200)) + noise(200 * 10**6),
        "not a scan, 100 MB": noise(100 * 10**6),
    }


def send(address, body):
    """The status of a segmentation."""
    kind = "application/gzip" if body[:2] == b"\x1f\x8b" else "application/octet-stream"
    connection = http.client.HTTPConnection(*address, timeout=400)
    try:
        connection.request("POST", "/v1/segment", body, {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except (OSError, http.client.HTTPException) as error:
        # The server closes a connection whose body it refuses, possibly before the client has sent it.
        return type(error).__name__
    finally:
        connection.close()


def watch_health(address, stop, seconds):
    while not stop.wait(0.1):
        start = time.monotonic()
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        seconds.append(time.monotonic() - start)


def memory_bytes(process, field):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def measure(command, ceiling, clients, bodies):
    """Returns whether the server kept to its ceiling."""
    if ceiling != "default":
        limit = int(ceiling[:-2]) * UNITS[ceiling[-2:]]
        command = [*command, "--max-memory", ceiling]
    else:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        host, port = json.loads(server.stdout.readline())["url"].removeprefix("http://").rsplit(":", 1)
        address = (host, int(port))
        at_start = memory_bytes(server, "VmHWM")
        stop, seconds = threading.Event(), []
        health = threading.Thread(target=watch_health, args=(address, stop, seconds))
        health.start()
        begun = time.monotonic()
        names = [*bodies, *bodies]
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            statuses = list(pool.map(lambda name: send(address, bodies[name]), names))
        took = time.monotonic() - begun
        stop.set()
        health.join()
        afterwards = send(address, CASE.read_bytes())
        peak = memory_bytes(server, "VmHWM")
    finally:
        server.terminate()
        server.wait()
    print(f"\nceiling {ceiling}: {limit / 1e6:.0f} MB; at the start {at_start / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB; "
          f"{len(names)} uploads in {took:.0f} s; longest /healthz {max(seconds):.3f} s; a normal scan afterwards: {afterwards}")
    for name, body in bodies.items():
        answers = [status for sent, status in zip(names, statuses) if sent == name]
        print(f"  {name} ({len(body) / 1e6:.2f} MB): {', '.join(answers)}")
    return peak <= limit and afterwards == "200"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sulcus")
    parser.add_argument("model")
    parser.add_argument("--ceilings", default="500MB,1GB,2GB,default")
    parser.add_argument("--clients", type=int, default=4)
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:end])
    bodies = uploads()
    command = [given.sulcus, "serve", "-q", "-m", given.model, "--port", "0", "--json", *sys.argv[end + 1 :]]
    kept = [measure(command, ceiling, given.clients, bodies) for ceiling in given.ceilings.split(",")]
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
