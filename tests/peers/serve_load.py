#!/usr/bin/env python3
"""`sulcus serve` with many simultaneous clients: each checks that the response is the mask of its own scan, byte for byte.

    python serve_load.py SULCUS MODEL [--clients 50] [--seconds 120] [--queue 16] [--workers 1] [-- OPTIONS OF serve AND predict]

Scans are variants of the bundled case (mirrored, cropped, darkened), so that no two have the same mask. Each response must
equal the mask that `sulcus predict` writes. A refusal must have status 429; the client then tries again after a short time.
The server's memory is read from /proc while it runs. Uses only the standard library and loopback.
"""

import argparse
import gzip
import http.client
import json
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

CASE = pathlib.Path(__file__).parents[2] / "examples/data/case/image.nii.gz"
SHAPE = slice(42, 48)


def variants():
    """Scans of several sizes, whose voxels are mirrored, cropped or scaled. The affine is unchanged."""
    whole = gzip.decompress(CASE.read_bytes())
    offset = int(struct.unpack_from("<f", whole, 108)[0])
    header, voxels = whole[:offset], whole[offset:]
    x, y, z = struct.unpack_from("<3h", whole, 42)
    assert struct.unpack_from("<h", whole, 70)[0] == 16, "the bundled case is float32"
    rows = [voxels[4 * x * i : 4 * x * (i + 1)] for i in range(y * z)]
    mirrored = [b"".join(row[4 * i : 4 * i + 4] for i in reversed(range(x))) for row in rows]
    for turned in (rows, mirrored):
        for cut in (0, 3, 6):
            for low in (0, 4):
                kept = [turned[y * k + j] for k in range(low, z - cut) for j in range(cut, y)]
                scan = bytearray(header)
                scan[SHAPE] = struct.pack("<3h", x, y - cut, z - cut - low)
                scan = bytes(scan) + b"".join(kept)
                yield scan if cut == 3 else gzip.compress(scan, 1)


def memory(pid):
    """The process's resident memory, in MB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


class Client(threading.Thread):
    def __init__(self, number, address, cases, until):
        super().__init__(daemon=True)
        self.number, self.address, self.cases, self.until = number, address, cases, until
        self.answered, self.refused, self.wrong, self.seconds, self.beside = 0, 0, [], [], []

    def run(self):
        turn = self.number
        connection = None
        while time.monotonic() < self.until:
            name, scan, mask = self.cases[turn % len(self.cases)]
            try:
                connection = connection or http.client.HTTPConnection(*self.address, timeout=120)
                start = time.monotonic()
                connection.request("POST", "/v1/segment", scan, {"Content-Type": "application/gzip"})
                answer = connection.getresponse()
                body = answer.read()
                took = time.monotonic() - start
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"{name}: {error!r}")
                connection = None
                continue
            # A new connection from time to time, as from new clients.
            if answer.will_close or turn % 7 == 0:
                connection.close()
                connection = None
            if answer.status == 200:
                turn += 1
                self.answered += 1
                self.seconds.append(took)
                seconds = json.loads(answer.getheader("sulcus-result"))["seconds"]
                self.beside.append(took - seconds["queue"] - seconds["engine"])
                if body != mask:
                    self.wrong.append(f"{name}: another mask")
            elif answer.status == 429:
                self.refused += 1
                assert int(answer.getheader("Retry-After")) >= 1
                # Sooner than the response requests, to keep the load high.
                time.sleep(0.05)
            else:
                self.wrong.append(f"{name}: {answer.status} {body[:200]!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sulcus")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    own, _, options = "\0".join(sys.argv[1:]).partition("\0--\0")
    args = parser.parse_args(own.split("\0"))
    # The options that both predict and serve accept.
    args.options = options.split("\0") if options else []

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "scans").mkdir()
        scans = list(variants())
        for number, scan in enumerate(scans):
            ending = "nii.gz" if scan.startswith(b"\x1f\x8b") else "nii"
            (folder / f"scans/scan_{number:02}.{ending}").write_bytes(scan)
        predict = [args.sulcus, "-q", "predict", "-m", args.model, *args.options, folder / "scans", "-o", folder / "masks"]
        subprocess.run(predict, check=True)
        masks = [(folder / f"masks/scan_{number:02}.nii.gz").read_bytes() for number in range(len(scans))]
        assert len(set(masks)) == len(masks), "two scans have the same mask, so that a mix-up would not show"
    cases = [(f"scan {number}", scan, mask) for number, (scan, mask) in enumerate(zip(scans, masks))]

    serve = [args.sulcus, "-q", "serve", "-m", args.model, "--port", "0", "--json", "--queue", str(args.queue)]
    server = subprocess.Popen([*serve, "--workers", str(args.workers), *args.options], stdout=subprocess.PIPE)
    try:
        said = json.loads(server.stdout.readline())
        host, port = said["url"].removeprefix("http://").rsplit(":", 1)
        start = time.monotonic()
        clients = [Client(n, (host, int(port)), cases, start + args.seconds) for n in range(args.clients)]
        for client in clients:
            client.start()
        samples = []
        while any(client.is_alive() for client in clients):
            samples.append((time.monotonic() - start, memory(server.pid)))
            time.sleep(0.5)
        took = time.monotonic() - start
        server.terminate()
        code = server.wait(timeout=60)
    finally:
        server.kill()

    answered, refused = (sum(getattr(client, what) for client in clients) for what in ("answered", "refused"))
    wrong = [text for client in clients for text in client.wrong]
    seconds = sorted(second for client in clients for second in client.seconds)
    beside = sorted(second for client in clients for second in client.beside)
    # The first responses allocate memory that is kept, which is not a leak: compare from a quarter of the time on.
    settled = [mb for at, mb in samples if at > took / 4]
    third = len(settled) // 3 or 1
    print(f"engine {said['engine']} on {said['device']}, {args.clients} clients, {took:.0f} s, {len(cases)} scans")
    print(f"segmented {answered} ({answered / took:.1f} per second), refused {refused} (429), wrong {len(wrong)}")
    print(f"a client waited {statistics.median(seconds):.3f} s (median), {seconds[-1]:.3f} s at most")
    print(f"time outside queue and engine {1000 * statistics.median(beside):.1f} ms (median, on a busy machine)")
    print(
        f"memory {settled[0]:.0f} MB after a quarter, {settled[-1]:.0f} MB at the end; "
        f"median of the first third {statistics.median(settled[:third]):.0f} MB, of the last {statistics.median(settled[-third:]):.0f} MB; "
        f"most {max(mb for _, mb in samples):.0f} MB"
    )
    print(f"ended with {code}")
    for text in wrong[:10]:
        print("wrong:", text, file=sys.stderr)
    grown = statistics.median(settled[-third:]) / statistics.median(settled[:third])
    flat = grown < 1.05
    if not flat:
        print(f"memory has grown by a factor of {grown:.2f}", file=sys.stderr)
    return 0 if answered and not wrong and code == 0 and flat else 1


if __name__ == "__main__":
    sys.exit(main())
