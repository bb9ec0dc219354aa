"""Components, and what all functions share. Each scenario returns rows for the report; none
asserts a time."""

import concurrent.futures
import os
import statistics
import tempfile
import time

from . import apps, load
from .peers import Nginx, Wasmtime, nginx_binary
from .report import Row, at_least
from .servers import Squall

MANY = 500
RESTING = 2_000
# What docs/guides/limits.md says.
TICK_MS = 1
NEED_WASMTIME = {"hello-per-request", "hello-shared", "sort-per-request"}
NEED_NGINX = {"fixed-response"}


def prepare(squall):
    apps.deploy(squall, "fresh", apps.HELLO)
    apps.deploy(squall, "shared", apps.HELLO, 'instances = "shared"')
    apps.deploy(squall, "probe", apps.PROBE)


def beside_wasmtime(squall, what, app, path, component, reuse, bar):
    with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
        file.write(component)
        file.flush()
        peer = Wasmtime(file.name, reuse)
        try:
            medians = load.rates({
                "squall": lambda s: load.wrk(squall.url + path, f"{app}.localhost", seconds=s)[0],
                "peer": lambda s: load.wrk(peer.url + path, seconds=s)[0],
            })
        finally:
            peer.close()
    name = "wasmtime serve, " + ("new instance" if reuse == 1 else f"reuse {reuse}")
    return at_least(what, medians["squall"], medians["peer"], bar, name)


def hello_per_request(squall):
    return [beside_wasmtime(squall, "hello, instance per request", "fresh", "/", apps.HELLO, 1, 5)]


def hello_shared(squall):
    return [beside_wasmtime(squall, "hello, shared instances", "shared", "/", apps.HELLO, 128, 1.3)]


def sort_per_request(squall):
    return [beside_wasmtime(squall, "validate and sort 20 objects, instance per request", "probe",
                            "/sort", apps.PROBE, 1, None)]


def fixed_response(squall):
    peer = Nginx()
    try:
        medians = load.rates({
            "squall": lambda s: load.wrk(squall.url + "/fixed", "fresh.localhost", seconds=s)[0],
            "peer": lambda s: load.wrk(peer.url + "/", seconds=s)[0],
        })
    finally:
        peer.close()
    return [at_least("fixed response in process", medians["squall"], medians["peer"], 0.75,
                     "nginx return 200, no access log")]


def latency_at_half_load(squall):
    """Half of what the generator, which shares the cores, gets through: what nginx shows at its
    own half says how much of the figure is the machine's."""
    def at_half_load(url, host):
        rate = load.most_per_s(squall.open_loop, url, host) / 2
        runs = [load.OpenLoop(squall.open_loop, url, host, rate).result()
                for _ in range(load.ROUNDS)]
        p50, p99 = (statistics.median(run[share] for run in runs) for share in ("p50", "p99"))
        return rate, p99, f"{p99:.2f} ms (p50 {p50:.2f} ms)"

    rate, p99, ours = at_half_load(squall.url, "fresh.localhost")
    beside = ""
    if nginx_binary():
        peer = Nginx()
        try:
            peer_rate, _, theirs = at_half_load(peer.url, "localhost")
        finally:
            peer.close()
        beside = f"{theirs} nginx at its own half load, {peer_rate:,.0f}/s"
    return [Row(f"p99 at half load ({rate:,.0f}/s, open loop)", ours, beside,
                bar="below 1 ms", met=p99 < 1)]


def many_components(squall):
    many = load.size(MANY)
    apps.deploy_distinct(squall, many)
    medians = load.rates({
        "many": lambda s: load.wrk(squall.url, script=load.SCRIPTS / "distinct.lua",
                                   arguments=["d", str(many)], seconds=s)[0],
        "one": lambda s: load.wrk(squall.url, "fresh.localhost", seconds=s)[0],
    })
    return [at_least(f"{many} distinct components at random", medians["many"], medians["one"], 0.4,
                     "one component")]


def one_connection_on_all_cores(squall):
    server = squall.server
    load.h2load(squall.url + "/spin?ms=5", "probe.localhost", 100, streams=100)
    before, started = server.cpu_seconds(), time.monotonic()
    load.h2load(squall.url + "/spin?ms=5", "probe.localhost", 2_000, streams=100)
    cores = (server.cpu_seconds() - before) / (time.monotonic() - started)
    return [Row("cores used by one HTTP/2 connection, 100 streams of 5 ms CPU", f"{cores:.2f}",
                bar="at least 1.6 of 2", met=cores >= 1.6)]


def busy_neighbours(squall):
    """Four functions that never wait on each core, and a neighbour that is called now and
    then. How often the node lets others run is in its documentation."""
    def neighbour():
        return load.OpenLoop(squall.open_loop, squall.url, "fresh.localhost", 200,
                             connections=4).result()["p99"]

    quiet = neighbour()
    busy_count = 4 * os.cpu_count()
    spin_ms = (load.SECONDS + 2) * 1000
    apps.deploy(squall, "busy", apps.PROBE,
                "limits = { cpu_time_ms = 60000, wall_time_ms = 120000 }")
    with concurrent.futures.ThreadPoolExecutor(busy_count) as pool:
        def spin(_):
            client = load.Client(squall.port)
            try:
                client.get_ms("busy.localhost", f"/spin?ms={spin_ms}")
            finally:
                client.close()
        spinning = [pool.submit(spin, n) for n in range(busy_count)]
        time.sleep(0.5)
        loaded = neighbour()
        for one in spinning:
            one.result()
    return [Row(f"p99 of a neighbour of {busy_count} CPU-bound guests", f"{loaded:.2f} ms",
                f"{quiet:.2f} ms when quiet", bar=f"quiet value plus 5 epoch ticks of {TICK_MS} ms",
                met=loaded <= quiet + 5 * TICK_MS)]


def metered_cpu(squall):
    """The CPU time that is billed beside what the kernel says: for a function that computes,
    of the threads that run guests; for hello, of the whole process."""
    rows = []
    server = squall.server

    def measure(app, requests, run, seconds=server.core_seconds):
        time.sleep(1.2)
        billed, taken = squall.usage(app)["cpu_ns"], seconds()
        run(requests)
        taken = seconds() - taken
        time.sleep(1.2)
        return (squall.usage(app)["cpu_ns"] - billed) / 1e9, taken

    def alone(requests):
        client = load.Client(squall.port)
        for _ in range(requests):
            client.get_ms("probe.localhost", "/spin?ms=30")
        client.close()

    billed, taken = measure("probe", 100, alone)
    rows.append(Row("CPU time billed, 30 ms a request, alone", f"{billed:.3f} s",
                    f"{taken:.3f} s on the request cores", f"{billed / taken:.3f}",
                    "0.95 to 1.00", 0.95 <= billed / taken <= 1))

    neighbour_per_s, neighbour_s = 100, 10

    def neighbour():
        return load.OpenLoop(squall.open_loop, squall.url, "fresh.localhost", neighbour_per_s,
                             seconds=neighbour_s, connections=4)

    before = server.core_seconds()
    neighbour().result()
    its_share = (server.core_seconds() - before) / neighbour_s

    def interleaved(requests):
        light = neighbour()
        started = time.monotonic()
        while time.monotonic() < started + neighbour_s - 1:
            load.h2load(squall.url + "/spin?ms=30", "probe.localhost", requests, streams=16)
        light.result()

    billed, taken = measure("probe", 100, interleaved)
    taken -= its_share * neighbour_s
    rows.append(Row("CPU time billed, 16 at once beside a light neighbour", f"{billed:.3f} s",
                    f"{taken:.3f} s on the request cores without the neighbour's",
                    f"{billed / taken:.3f}", "0.95 to 1.00", 0.95 <= billed / taken <= 1))

    billed, taken = measure(
        "fresh", 0, lambda _: load.wrk(squall.url, "fresh.localhost", seconds=3),
        server.cpu_seconds)
    rows.append(Row("CPU time billed, hello under load", f"{billed:.3f} s",
                    f"{taken:.3f} s in the whole process", f"{billed / taken:.3f}",
                    "at most 1", billed <= taken))
    return rows


def usage_is_exact(squall):
    """A count that the ledger has to meet, and again after kill -9."""
    apps.deploy(squall, "metered", apps.HELLO)
    _, completed, _ = load.wrk(squall.url, "metered.localhost", seconds=2)
    exact = 20_000
    load.h2load(squall.url, "metered.localhost", exact, connections=16, streams=8)
    # The window in which a crash may lose records is one second.
    time.sleep(1.5)
    before = squall.usage("metered")
    squall.kill()
    squall.start()
    after = squall.usage("metered")
    # wrk counts what was complete when it stopped; what was under way is counted by the
    # node as completed or aborted.
    sent = completed + exact
    most = sent + load.CONNECTIONS
    met = sent <= before["invocations"] <= most and after["invocations"] == before["invocations"]
    return [Row("usage records beside requests sent, then kill -9",
                f"{before['invocations']:,}, then {after['invocations']:,}",
                f"{sent:,} completed and up to {load.CONNECTIONS} aborted",
                bar="equal", met=met)]


def first_requests(squall):
    """The first request ever to each component after a start."""
    many = load.size(MANY)
    apps.deploy_distinct(squall, many)
    squall.stop()
    squall.start()
    hosts = [f"d{n}.localhost" for n in range(many)]
    times = load.first_requests_ms(squall.port, hosts, "fresh.localhost")
    p50, p99 = load.percentile(times, 0.5), load.percentile(times, 0.99)
    return [Row(f"first request to each of {many} components, p99", f"{p99:.2f} ms (p50 {p50:.2f} ms)",
                bar="at most 3 ms", met=p99 <= 3)]


def resting(other):
    """A node of its own with many apps: its start, and what it holds when all are idle."""
    many = load.size(RESTING)
    squall = Squall(other.binary)
    try:
        apps.deploy_distinct(squall, many)
        squall.stop()
        seconds = squall.start()
        server = squall.server
        start = (server.rss_mib(), server.descriptors(), server.mappings())
        client = load.Client(squall.port)
        for n in range(many):
            client.get_ms(f"d{n}.localhost")
        client.close()
        peak = (server.rss_mib(), server.descriptors(), server.mappings())
        # Code that is not called for 60 s is unmapped within another 15 s.
        for _ in range(150):
            time.sleep(1)
            if server.rss_mib() < 150 and server.descriptors() <= start[1] + 50 \
                    and server.mappings() <= start[2] + 200:
                break
        rest = (server.rss_mib(), server.descriptors(), server.mappings())
    finally:
        squall.close()
    show = lambda figures: "{:.0f} MiB, {} descriptors, {} mappings".format(*figures)
    return [
        Row(f"start with {many:,} components", f"{seconds:.2f} s", bar="under 2 s",
            met=seconds < 2),
        Row(f"at rest after each of {many:,} was called", show(rest),
            f"{show(start)} after the start; {show(peak)} after the calls",
            bar="under 150 MiB, near the start", met=rest[0] < 150),
    ]


ALL = [
    hello_per_request, hello_shared, fixed_response, sort_per_request, latency_at_half_load,
    one_connection_on_all_cores, busy_neighbours, metered_cpu, many_components, first_requests,
    usage_is_exact, resting,
]
