"""Load generators: the same wrk line for everyone, h2load for HTTP/2, one whose clock does
not wait for the server, and a plain client where single requests are timed."""

import concurrent.futures
import http.client
import json
import math
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import tempfile
import time
import typing
import urllib.parse

from .servers import Tree

SECONDS = int(os.environ.get("SQUALL_BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("SQUALL_BENCH_ROUNDS", "3"))
CONNECTIONS = 32
QUICK = False
SCRIPTS = pathlib.Path(__file__).parent


class Failed(Exception):
    pass


def be_quick():
    """From now on everything is short and small: it shows that it works, and measures nothing."""
    global SECONDS, ROUNDS, QUICK
    SECONDS, ROUNDS, QUICK = 1, 1, True


def size(full):
    """How many to make where a measurement makes `full`."""
    return max(10, full // 50) if QUICK else full


class Target(typing.NamedTuple):
    """A server's processes, and what is asked of it: GET, or POST of the JSON in a file. A
    script of wrk may ask something else instead."""

    tree: Tree
    url: str
    host: str = "localhost"
    body: pathlib.Path | None = None
    script: str | None = None
    arguments: tuple[str, ...] = ()

    def ask(self):
        """One request: status, content type and body of its answer."""
        address = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        headers = {"host": self.host}
        body = None
        if self.body:
            body, headers["content-type"] = self.body.read_bytes(), "application/json"
        connection.request("POST" if body else "GET", address.path or "/", body, headers)
        response = connection.getresponse()
        answer = response.status, response.headers["content-type"], response.read()
        connection.close()
        return answer

    def drive(self, seconds=None):
        """Requests per second and requests in all."""
        script, arguments = self.script, self.arguments
        if self.body:
            script, arguments = "post.lua", [str(self.body)]
        rate, count, _ = wrk(self.url, self.host, script and SCRIPTS / script, seconds,
                             arguments=arguments)
        return rate, count

    def peak_mib(self):
        """The most memory that was resident in the server's processes under load."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            load = pool.submit(self.drive, 2 * SECONDS)
            peak = 0
            while not load.done():
                peak = max(peak, self.tree.resident_mib())
                time.sleep(0.1)
            load.result()
        return peak


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
    if bad := re.search(r"Socket errors: .*", text):
        raise Failed(f"{url} ({host}): {bad.group(0)}")
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        raise Failed(f"{url} ({host}): {bad.group(1)} answers were errors")
    count = int(re.search(r"(\d+) requests in", text).group(1))
    return float(rate.group(1)), count, text


class Rate(float):
    """The median of several rounds."""

    def __new__(cls, rounds):
        rate = super().__new__(cls, statistics.median(rounds))
        rate.rounds = rounds
        return rate

    def over(self, other):
        """The median of what the rounds say. A machine may be faster for some seconds and
        slower for others; the two of a round have the same ones."""
        return statistics.median(ours / theirs
                                 for ours, theirs in zip(self.rounds, other.rounds, strict=True))


def rates(contestants):
    """Runs each in turn, round after round, so that a busy moment of the machine meets
    all of them. `contestants` maps a name to a function that returns a rate."""
    measured = {name: [] for name in contestants}
    for run in contestants.values():
        run(1)
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            measured[name].append(run(SECONDS))
    return {name: Rate(all_rates) for name, all_rates in measured.items()}


class Figures(typing.NamedTuple):
    per_s: float
    cpu_us: float


def measured(targets):
    """Of each name's target: median rate, and median CPU time of its processes by request."""
    cpu_us = {name: [] for name in targets}

    def contestant(name, target):
        def run(seconds):
            before = target.tree.cpu_seconds()
            rate, count = target.drive(seconds)
            cpu_us[name].append((target.tree.cpu_seconds() - before) / count * 1e6)
            return rate
        return run

    medians = rates({name: contestant(name, target) for name, target in targets.items()})
    # The first run of each was there to warm it up.
    return {name: Figures(medians[name], statistics.median(cpu_us[name][1:])) for name in targets}


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

    def __init__(self, binary, url, host, rate, seconds=None, connections=CONNECTIONS, body=None):
        line = [binary, url, f"{rate:.3f}", seconds or SECONDS, connections, host]
        if body:
            line.append(body)
        self.process = subprocess.Popen([str(part) for part in line], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def result(self):
        found = self.raw()
        return {name.removesuffix("_us"): value / 1000 for name, value in found.items()
                if name.endswith("_us")}

    def raw(self):
        text, problem = self.process.communicate()
        if self.process.returncode != 0:
            raise Failed(problem.strip())
        return json.loads(text)


def most_per_s(binary, url, host, connections=CONNECTIONS):
    """What the open-loop generator gets through when it asks for more than wrk gets. Shares of
    a load are shares of this: wrk takes less CPU time for a request, so that on CPUs which the
    two share with the server, half of what wrk gets is most of what the generator can get."""
    more = 1.5 * wrk(url, host, seconds=1, connections=connections)[0]
    runs = [OpenLoop(binary, url, host, more, seconds=1, connections=connections).raw()
            for _ in range(ROUNDS)]
    return statistics.median(run["per_s"] for run in runs)


def half_busy_per_s(binary, url, host, most, connections=CONNECTIONS):
    """The rate at which half of the machine's CPU time is used, generator and all. It is less
    than half of the most: under a full load, one look finds the work of many."""
    low, high = most / 16, most
    for _ in range(2 if QUICK else 6):
        rate = (low + high) / 2
        run = OpenLoop(binary, url, host, rate, seconds=1, connections=connections)
        time.sleep(0.2)
        before = cpu_times()
        time.sleep(0.6)
        busy, all_of_it = (now - then for now, then in zip(cpu_times(), before))
        run.result()
        low, high = (low, rate) if busy > all_of_it / 2 else (rate, high)
    return (low + high) / 2


def cpu_times():
    """Ticks since the start of the machine in which its CPUs did something, and all."""
    with open("/proc/stat") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:9]]
    idle, waiting = ticks[3:5]
    return sum(ticks) - idle - waiting, sum(ticks)


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


def first_requests_ms(port, hosts, warm_host, warm_path="/"):
    """How long the first request to each took, in random order. The client and its connection
    are warm; the functions are not."""
    client = Client(port)
    for _ in range(50):
        client.get_ms(warm_host, warm_path)
    order = list(hosts)
    random.shuffle(order)
    times = [client.get_ms(host) for host in order]
    client.close()
    return times


def complete(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if length := re.search(rb"(?i)content-length: *(\d+)", head):
        return len(body) >= int(length.group(1))
    return body.endswith(b"0\r\n\r\n")
