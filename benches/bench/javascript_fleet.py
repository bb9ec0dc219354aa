"""Many JavaScript functions with distinct code on one node: at random, cold, at rest, on disk."""

import os
import time

from . import apps, load
from .report import Row, at_least
from .servers import Squall

DISTINCT = 300
RESTING = 5_000
CALLED = 500
ON_DISK = 100


def check_own_answers(squall, count):
    for n in range(count):
        answer = load.Target(squall.tree, squall.url, f"j{n}.localhost").ask()
        if answer[2] != f'{{"hello":"j{n}"}}'.encode():
            raise load.Failed(f"j{n}: a wrong answer: {answer}")


def js_distinct(squall):
    many = load.size(DISTINCT)
    apps.deploy_js_hellos(squall, many)
    check_own_answers(squall, many)
    figures = load.measured({
        "many": load.Target(squall.tree, squall.url, script="distinct.lua",
                            arguments=("j", str(many))),
        "one": load.Target(squall.tree, squall.url, "j0.localhost"),
    })
    ours, theirs = figures["many"], figures["one"]
    return [at_least(f"{many} distinct functions at random, instance per request", ours.per_s,
                     theirs.per_s, 0.6, "one function",
                     f"{ours.cpu_us:,.0f} µs, one function {theirs.cpu_us:,.0f} µs")]


def js_first(squall):
    """The first request ever to each function after a start."""
    many = load.size(DISTINCT)
    apps.deploy_js_hellos(squall, many)
    squall.stop()
    squall.start()
    hosts = [f"j{n}.localhost" for n in range(many)]
    times = load.first_requests_ms(squall.port, hosts, "j0.localhost", "/fixed")
    p50, p99 = load.percentile(times, 0.5), load.percentile(times, 0.99)
    check_own_answers(squall, many)
    return [Row(f"first request to each of {many} functions, p99",
                f"{p99:.2f} ms (p50 {p50:.2f} ms)", bar="at most 3 ms", met=p99 <= 3)]


def js_resting(other):
    """A node of its own with many functions: its start, and what it holds when all are idle."""
    many, called = load.size(RESTING), load.size(CALLED)
    squall = Squall(other.binary)
    try:
        apps.deploy_js_hellos(squall, many)
        squall.stop()
        seconds = squall.start()
        start = squall.tree.resident_mib()
        client = load.Client(squall.port)
        for n in range(called):
            client.get_ms(f"j{n}.localhost")
        client.close()
        peak = squall.tree.resident_mib()
        # What is not called for 60 s is unloaded within another 15 s.
        time.sleep(2 if load.QUICK else 80)
        rest = squall.tree.resident_mib()
    finally:
        squall.close()
    return [
        Row(f"start with {many:,} functions", f"{seconds:.2f} s", bar="under 2 s", met=seconds < 2),
        Row(f"memory with {many:,} functions after {called} were called once and became idle",
            f"{rest:.0f} MiB", f"{start:.0f} MiB after the start, {peak:.0f} MiB after the calls",
            bar="under 150 MiB", met=rest < 150),
    ]


def js_disk(other):
    """What a stopped node's folder grows by, less the code that was uploaded."""
    def grown_kb(deploy, count):
        squall = Squall(other.binary)
        try:
            # What all functions share comes with the first.
            deploy(squall, 0)
            squall.stop()
            before = disk_bytes(squall.data), uploaded_bytes(squall.data)
            squall.start()
            for n in range(1, count + 1):
                deploy(squall, n)
            squall.stop()
            after = disk_bytes(squall.data), uploaded_bytes(squall.data)
        finally:
            squall.close()
        return (after[0] - before[0] - (after[1] - before[1])) / count / 1000

    hello = grown_kb(lambda squall, n: apps.deploy(squall, f"j{n}", apps.js_hello(f"j{n}")),
                     load.size(ON_DISK))
    hono = grown_kb(lambda squall, n: apps.deploy_handler(
        squall, f"hono{n}", "hono", suffix=f"\nglobalThis.number = {n};\n"), load.size(ON_DISK) // 5)
    return [Row(f"disk for a function beyond its bundle, {name}", f"{kb:,.0f} kB",
                bar=f"at most {bar:,} kB", met=kb <= bar)
            for name, kb, bar in (("hello", hello, 400), ("hono", hono, 1_200))]


def disk_bytes(folder):
    """As the file system allots it, folders too."""
    return sum(os.lstat(os.path.join(where, name)).st_blocks * 512
               for where, folders, files in os.walk(folder) for name in folders + files)


def uploaded_bytes(data):
    return sum(path.stat().st_size for path in (data / "blobs").rglob("*") if path.is_file())


ALL = [js_distinct, js_first, js_resting, js_disk]
