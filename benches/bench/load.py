"""Load generators: the same wrk line for everyone, h2load for HTTP/2, one whose clock does
not wait for the server, and a plain client where single requests are timed."""

import json
import math
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time

SECONDS = int(os.environ.get("SQUALL_BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("SQUALL_BENCH_ROUNDS", "3"))
CONNECTIONS = 32


class Failed(Exception):
    pass


def wrk(url, host=None, script=None, seconds=None, connections=CONNECTIONS, arguments=()):
    """Requests per second, requests in all, and wrk's own text."""
    line = ["wrk", "-t2", f"-c{connections}", f"-d{seconds or SECONDS}s", "--latency"]
    if host:
        line += ["-H", f"Host: {host}"]
    if script:
        line += ["-s", str(script)]
    done = subprocess.run([*line, url, "--", *arguments], capture_output=True, text=True)
    text = done.stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if done.returncode != 0 or not rate:
        raise Failed(f"wrk {url}: {text}{done.stderr}")
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        raise Failed(f"{url} ({host}): {bad.group(1)} answers were errors")
    count = int(re.search(r"(\d+) requests in", text).group(1))
    return float(rate.group(1)), count, text


def rates(contestants):
    """Runs each in turn, round after round, so that a busy moment of the machine meets
    all of them. `contestants` maps a name to a function that returns a rate."""
    measured = {name: [] for name in contestants}
    for run in contestants.values():
        run(1)
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            measured[name].append(run(SECONDS))
    return {name: statistics.median(all_rates) for name, all_rates in measured.items()}


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)]


def h2load(url, host, requests, connections=1, streams=1):
    """All requests over cleartext HTTP/2, as many at once as there are streams."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        line = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-n{requests}",
                f"--log-file={log}", "-H", f":authority: {host}"]
        done = subprocess.run([*line, url], capture_output=True, text=True)
        rows = [row.split() for row in log.read_text().splitlines()] if log.exists() else []
    bad = [row for row in rows if row[1] != "200"]
    if done.returncode != 0 or len(rows) != requests or bad:
        raise Failed(f"h2load {url}: {len(rows)} of {requests} answered, {len(bad)} badly\n"
                     f"{done.stdout[-1500:]}{done.stderr}")


class OpenLoop:
    """Requests of a given rate at random moments; latencies in milliseconds by their share,
    counted from the moment that a request was due."""

    def __init__(self, binary, url, host, rate, seconds=None, connections=CONNECTIONS):
        line = [binary, url, f"{rate:.3f}", seconds or SECONDS, connections, host]
        self.process = subprocess.Popen([str(part) for part in line], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def result(self):
        text, problem = self.process.communicate()
        if self.process.returncode != 0:
            raise Failed(problem.strip())
        return {name.removesuffix("_us"): value / 1000 for name, value in json.loads(text).items()
                if name.endswith("_us")}


class Client:
    """One keep-alive connection, and the time from the first byte sent to the last byte
    of the answer."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_ms(self, host, path="/"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        started = time.perf_counter()
        self.socket.sendall(request)
        answer = b""
        while not complete(answer):
            piece = self.socket.recv(65536)
            if not piece:
                raise Failed(f"{host}: the connection was closed")
            answer += piece
        took = (time.perf_counter() - started) * 1000
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Failed(f"{host}: {answer[:200]!r}")
        return took

    def close(self):
        self.socket.close()


def complete(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if length := re.search(rb"(?i)content-length: *(\d+)", head):
        return len(body) >= int(length.group(1))
    return body.endswith(b"0\r\n\r\n")
