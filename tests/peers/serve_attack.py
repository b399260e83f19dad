#!/usr/bin/env python3
"""`sulcus serve` under slow connections: how long do `/healthz` and real clients take?

    python serve_attack.py SULCUS MODEL [--connections 530] [--seconds 30] [-- OPTIONS OF serve]

Half of the slow connections never end the head of their request, the other half send their body one byte at a time. Each is
opened again when the server closes it. One thread reads `/healthz` all the time, another one segments the bundled case; both
first without the attack and then during it. Uses only the standard library and loopback.
"""

import argparse
import http.client
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

CASE = pathlib.Path(__file__).parents[2] / "examples/data/case/image.nii.gz"


def attack(address, count, stop):
    """Keeps `count` slow connections open until `stop`. Sends one byte on each of them every 0.5 s."""
    starts = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n",
    ]
    slow = [None] * count
    opened = 0
    while not stop.is_set():
        for number, connection in enumerate(slow):
            try:
                connection.send(b"x")
            except (AttributeError, OSError):
                try:
                    slow[number] = socket.create_connection(address, 5)
                    slow[number].send(starts[number % 2])
                    opened += 1
                except OSError:
                    slow[number] = None
        stop.wait(0.5)
    for connection in slow:
        if connection:
            connection.close()
    print(f"slow connections opened: {opened}")


def measure(address, method, path, body, until):
    """The seconds of each request, and what went wrong."""
    seconds, wrong = [], []
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            connection = http.client.HTTPConnection(*address, timeout=60)
            connection.request(method, path, body, {"Content-Type": "application/gzip"} if body else {})
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status != 200:
                wrong.append(response.status)
        except (OSError, http.client.HTTPException) as error:
            wrong.append(repr(error))
        seconds.append(time.monotonic() - start)
        if not body:
            time.sleep(0.02)
    return seconds, wrong


def both(address, seconds):
    """Measures `/healthz` and a client that segments, at the same time."""
    until = time.monotonic() + seconds
    found = {}

    def run(name, *request):
        found[name] = measure(address, *request, until)

    threads = [
        threading.Thread(target=run, args=("/healthz", "GET", "/healthz", None)),
        threading.Thread(target=run, args=("/v1/segment", "POST", "/v1/segment", CASE.read_bytes())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sulcus")
    parser.add_argument("model")
    parser.add_argument("--connections", type=int, default=530)
    parser.add_argument("--seconds", type=float, default=30)
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = sys.argv[1:end], sys.argv[end + 1 :]
    given = parser.parse_args(arguments)
    command = [given.sulcus, "serve", "-q", "-m", given.model, "--port", "0", "--json", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    failed = False
    try:
        host, port = json.loads(server.stdout.readline())["url"].removeprefix("http://").rsplit(":", 1)
        address = (host, int(port))
        quiet = both(address, given.seconds / 3)
        stop = threading.Event()
        attacker = threading.Thread(target=attack, args=(address, given.connections, stop))
        attacker.start()
        time.sleep(2)
        attacked = both(address, given.seconds)
        stop.set()
        attacker.join()
        for name in quiet:
            for label, (seconds, wrong) in [("quiet", quiet[name]), ("attack", attacked[name])]:
                median, longest = statistics.median(seconds), max(seconds)
                print(f"{name:12} {label:7} n {len(seconds):4}  median {median:.3f} s  longest {longest:.3f} s  wrong {wrong[:3]}")
                failed |= bool(wrong)
        failed |= max(attacked["/healthz"][0]) > 1
        failed |= statistics.median(attacked["/v1/segment"][0]) > 2 * statistics.median(quiet["/v1/segment"][0])
    finally:
        server.terminate()
        server.wait()
    sys.exit(failed)


if __name__ == "__main__":
    main()
