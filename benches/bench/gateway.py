"""The gateway: what a request costs on its way to somebody else, beside nginx in front of the
same server. Each scenario returns rows for the report; none asserts a time."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

from . import load
from .peers import BytePump, Nginx, nginx_binary
from .report import Row, at_least
from .servers import ROOT, Squall, free_port

IDLE = 10_000
WEBSOCKETS = 5_000
SLOW_CLIENTS = 1_000
SWAPS = 1_000
ROUTES = 10_000
NEED_NGINX = {"proxied", "proxied-posts", "proxied-added-latency", "proxied-guarded",
              "tls-handshakes", "tls-http2"}

PROXY = """
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
"""
GUARDED = """
  map_hash_bucket_size 256;
  map $http_x_api_key $known {{ default 0; "{key}" 1; }}
  limit_req_zone $binary_remote_addr zone=all:10m rate=1000000r/s;
  log_format line escape=json '{{"at":"$time_iso8601","method":"$request_method","path":"$uri",'
    '"status":$status,"bytes":$bytes_sent,"seconds":$request_time,"client":"$remote_addr",'
    '"upstream":"$upstream_addr","agent":"$http_user_agent"}}';
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    access_log {folder}/access.log line buffer=64k flush=1s;
    location / {{
      if ($known = 0) {{ return 401; }}
      limit_req zone=all burst=1000000 nodelay;
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
"""
TLS = """
  server {{
    listen 127.0.0.1:{port} ssl http2 reuseport;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    ssl_session_cache off; ssl_session_tickets on; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ default_type text/plain; return 200 "ok\\n"; }}
  }}
"""
# As large as nginx's answer, so that both carry the same.
PLAIN = 'response = { status = 200, body = "ok\\n" }'


def prepare(squall):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    deploy(squall, "plain", f"[[routes]]\n{PLAIN}\n")


def deploy(squall, name, tables, command="deploy"):
    """An app without functions."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "squall.toml").write_text(f'name = "{name}"\n{tables}')
        words = ["deploy", folder] if command == "deploy" else ["gateway", "apply", folder]
        squall.command(*words)


def to(origin, route=""):
    return (f'[upstreams.origin]\ntargets = ["http://127.0.0.1:{origin.port}"]\n'
            f'allow_private = true\n[[routes]]\nupstream = "origin"\n{route}')


@contextlib.contextmanager
def running(*servers):
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


def proxied(squall):
    with running(Nginx()) as (origin,), running(Nginx(PROXY, origin=origin.port)) as (peer,):
        deploy(squall, "proxied", to(origin))
        medians = load.rates({
            "squall": lambda s: load.wrk(squall.url, "proxied.localhost", seconds=s)[0],
            "peer": lambda s: load.wrk(peer.url, "proxied.localhost", seconds=s)[0],
        })
    return [at_least("proxied", medians["squall"], medians["peer"], 0.8,
                     "nginx, keep-alive to the same server")]


def proxied_posts(squall):
    """What clients of APIs send: a short body in the same packet as its head."""
    script = ROOT / "benches/bench/post.lua"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        json.dump({"items": [{"name": "a", "count": n} for n in range(10)]}, body)
        body.flush()

        def rate(url, seconds):
            return load.wrk(url, "posts.localhost", script, seconds, arguments=[body.name])[0]

        with running(Nginx()) as (origin,), running(Nginx(PROXY, origin=origin.port)) as (peer,):
            deploy(squall, "posts", to(origin))
            medians = load.rates({"squall": lambda s: rate(squall.url, s),
                                  "peer": lambda s: rate(peer.url, s)})
    return [at_least("proxied POST of a short JSON body", medians["squall"], medians["peer"], 0.8,
                     "nginx")]


def proxied_added_latency(squall):
    """The same rate for all, once where half of the machine's CPU time is used and once half of
    what the generator gets through Squall: there are two that may be called half load. What the
    machine itself takes shows beside: a pump of bytes, and one that computes for 2 us for each
    request, which is about what nginx does."""
    with running(Nginx()) as (origin,), running(
            Nginx(PROXY, origin=origin.port), BytePump(squall.byte_pump, origin),
            BytePump(squall.byte_pump, origin, work_us=2)) as (peer, pump, busy_pump):
        deploy(squall, "proxied", to(origin))
        asked = squall.open_loop, squall.url, "proxied.localhost"
        most = load.most_per_s(*asked)
        servers = origin, squall, peer, pump, busy_pump
        return [added_latency(squall.open_loop, servers, rate, which)
                for rate, which in ((load.half_busy_per_s(*asked, most), "CPUs half busy"),
                                    (most / 2, "half of the most"))]


def added_latency(open_loop, servers, rate, which):
    # In turn, so that a busy moment of the machine meets all of them.
    p99 = {server.url: [] for server in servers}
    for _ in range(load.ROUNDS):
        for url, rounds in p99.items():
            run = load.OpenLoop(open_loop, url, "proxied.localhost", rate)
            rounds.append(run.result()["p99"])
    direct, *through = (statistics.median(rounds) for rounds in p99.values())
    ours, theirs, pumped, worked = (p99 - direct for p99 in through)
    return Row(f"p99 that a proxied request adds at {rate:,.0f}/s, {which} (open loop)",
               f"{ours:.2f} ms", f"{theirs:.2f} ms nginx; {pumped:.2f} ms a pump of bytes, "
               f"{worked:.2f} ms with 2 µs of work; {direct:.2f} ms direct",
               bar="at most 0.3 ms", met=ours <= 0.3)


def proxied_guarded(squall):
    """With a key, a rate limit, metrics and an access log on both sides."""
    policy = ('[identity.keys.api_key]\n[gateway.policy]\nauth = ["keys"]\n'
              'rate_limits = [{ by = ["ip"], limit = 1000000, per = "second" }]\n')
    with running(Nginx()) as (origin,):
        deploy(squall, "guarded", policy + to(origin))
        squall.command("clients", "create", "guarded", "acme")
        made = squall.command("clients", "keys", "create", "guarded", "acme", "--json")
        key = json.loads(made)["key"]
        with running(Nginx(GUARDED, origin=origin.port, key=key)) as (peer,):
            script = ROOT / "benches/bench/key.lua"

            def rate(url, seconds):
                return load.wrk(url, "guarded.localhost", script, seconds, arguments=[key])[0]

            medians = load.rates({"squall": lambda s: rate(squall.url, s),
                                  "peer": lambda s: rate(peer.url, s)})
    return [at_least("proxied, with key, rate limit, metrics and access log", medians["squall"],
                     medians["peer"], 0.65, "nginx with map, limit_req, access_log")]


def certificate(folder):
    """ECDSA P-256, for 127.0.0.1 and names under localhost."""
    folder = pathlib.Path(folder)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,DNS:*.localhost,IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True)


@contextlib.contextmanager
def with_tls(squall, connections_max=30_000):
    """A server of its own that speaks TLS, and where."""
    with tempfile.TemporaryDirectory() as folder:
        certificate(folder)
        port = free_port()
        toml = (f'[gateway]\nconnections_max = {connections_max}\nfixed_response_path = "/fixed"\n'
                f'[gateway.tls]\nlisten = ["127.0.0.1:{port}"]\n'
                f'certificates = [{{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}]\n')
        own = Squall(squall.binary, toml)
        try:
            deploy(own, "plain", f"[[routes]]\n{PLAIN}\n")
            yield own, f"https://localhost:{port}", folder
        finally:
            own.close()


def tls_handshakes(squall):
    """wrk closes after each answer and keeps no session: every request is a full handshake."""
    with with_tls(squall) as (_, url, folder), running(Nginx(TLS, keys=folder)) as (peer,):
        script = ROOT / "benches/bench/close.lua"
        theirs = f"https://localhost:{peer.port}"
        medians = load.rates({
            "squall": lambda s: load.wrk(url + "/", None, script, s)[0],
            "peer": lambda s: load.wrk(theirs + "/", None, script, s)[0],
        })
    return [at_least("TLS 1.3 handshakes, ECDSA P-256", medians["squall"], medians["peer"], 0.8,
                     "nginx, the same key")]


def tls_http2(squall):
    def rate(url, seconds):
        line = ["h2load", "-t1", "-c32", "-m10", f"-D{seconds}", url + "/"]
        text = subprocess.run(line, capture_output=True, text=True).stdout
        found = re.search(r"finished in .*?, ([\d.]+) req/s", text)
        bad = re.search(r"(\d+) failed, (\d+) errored", text)
        if not found or not bad or bad.groups() != ("0", "0"):
            raise load.Failed(f"h2load {url}: {text[-800:]}")
        return float(found.group(1))

    with with_tls(squall) as (_, url, folder), running(Nginx(TLS, keys=folder)) as (peer,):
        theirs = f"https://localhost:{peer.port}"
        medians = load.rates({"squall": lambda s: rate(url, s), "peer": lambda s: rate(theirs, s)})
    return [at_least("fixed response over HTTP/2 and TLS, 32 connections of 10 streams",
                     medians["squall"], medians["peer"], 1.0, "nginx")]


REQUEST = b"GET / HTTP/1.1\r\nHost: plain.localhost\r\n\r\n"


def served(connection):
    connection.sendall(REQUEST)
    answer = b""
    while not load.complete(answer):
        piece = connection.recv(4096)
        if not piece:
            raise load.Failed("a connection was closed")
        answer += piece


def idle_connections(squall):
    rows = []
    wanted = load.size(IDLE)
    with with_tls(squall) as (own, url, _):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls_port = int(url.rsplit(":", 1)[1])
        for what, port, wrap, bar in (
            ("cleartext", own.port, lambda plain: plain, 200),
            ("TLS", tls_port,
             lambda plain: context.wrap_socket(plain, server_hostname="localhost"), 400),
        ):
            before = own.server.rss_mib()
            held = []
            for _ in range(wanted):
                connection = wrap(socket.create_connection(("127.0.0.1", port)))
                served(connection)
                held.append(connection)
            # Idle ones are taken apart after a while, and their memory is given back.
            time.sleep(2 if load.QUICK else 20)
            after = own.server.rss_mib()
            for connection in held:
                served(connection)
            for connection in held:
                connection.close()
            rows.append(Row(f"{wanted:,} idle {what} connections", f"{after:.0f} MiB",
                            f"{before:.0f} MiB before", bar=f"under {bar} MiB",
                            met=after < bar))
    return rows


def upgraded(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: sockets.localhost\r\nConnection: Upgrade\r\n"
                       b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            raise load.Failed(f"no WebSocket: {head!r}")
        head += piece
    if not head.startswith(b"HTTP/1.1 101"):
        raise load.Failed(f"no WebSocket: {head!r}")
    return connection


def echoed(connection):
    """A masked text frame there, the same text back."""
    text, mask = b"hello", b"abcd"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
    connection.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
    answer = b""
    while len(answer) < 2 + len(text):
        piece = connection.recv(64)
        if not piece:
            raise load.Failed("a WebSocket was closed")
        answer += piece
    if answer != bytes([0x81, len(text)]) + text:
        raise load.Failed(f"a WebSocket answered {answer!r}")


class Echo:
    """A WebSocket server that echoes, one process."""

    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen(
            ["python3", ROOT / "benches/bench/echo.py", str(self.port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def close(self):
        self.process.kill()
        self.process.wait()


def websockets(squall):
    wanted = load.size(WEBSOCKETS)
    with running(Echo()) as (origin,):
        deploy(squall, "sockets", to(origin))
        before = squall.server.rss_mib()
        held = [upgraded(squall.port) for _ in range(wanted)]
        time.sleep(1)
        after = squall.server.rss_mib()
        # A swap of the configuration between two echoes of each.
        for connection in held:
            echoed(connection)
        deploy(squall, "sockets", to(origin, 'name = "renamed"\n'), "apply")
        for connection in held:
            echoed(connection)
        for connection in held:
            connection.close()
    return [Row(f"{wanted:,} idle WebSockets through the gateway", f"{after:.0f} MiB",
                f"{before:.0f} MiB before; each echoed before and after a swap",
                bar="all echo", met=True)]


def config_swaps(squall):
    """Two configurations in turn, while wrk asks and a WebSocket echoes."""
    wanted = load.size(SWAPS)
    with running(Nginx(), Echo()) as (origin, echo):
        sides = [to(origin, f'response_headers = {{ set = {{ x-side = "{side}" }} }}\n')
                 for side in ("a", "b")]
        deploy(squall, "swapped", sides[0])
        deploy(squall, "sockets", to(echo))
        connection = upgraded(squall.port)
        with tempfile.TemporaryDirectory() as folder:
            folders = []
            for index, side in enumerate(sides):
                one = pathlib.Path(folder, str(index))
                one.mkdir()
                (one / "squall.toml").write_text(f'name = "swapped"\n{side}')
                folders.append(one)
            apply = lambda index: squall.command("gateway", "apply", folders[index % 2])
            for index in range(min(100, wanted)):
                apply(index)
            before = squall.server.rss_mib()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                stop = time.monotonic()
                rates = []

                def drive():
                    while not done:
                        rates.append(load.wrk(squall.url, "swapped.localhost", seconds=2)[1])

                done = []
                driving = pool.submit(drive)
                for index in range(wanted):
                    apply(index)
                    if index % 50 == 0:
                        echoed(connection)
                took = time.monotonic() - stop
                done.append(True)
                driving.result()
            after = squall.server.rss_mib()
        connection.close()
    return [Row(f"{wanted:,} swaps of the configuration under load",
                f"{sum(rates):,} requests, none failed; {after - before:+.0f} MiB",
                f"{wanted / took:.0f} swaps each second", bar="none failed, no growth",
                met=after - before < 30)]


def rate_limit(squall):
    """Ten seconds of many more requests than the limit admits."""
    limit, seconds = 2_000, 2 if load.QUICK else 10
    deploy(squall, "limited", "[gateway.policy]\n"
           f'rate_limits = [{{ limit = {limit}, per = "second", burst = 10 }}]\n'
           f"[[routes]]\n{PLAIN}\n")
    line = ["wrk", "-t2", "-c32", f"-d{seconds}s", "-H", "Host: limited.localhost", squall.url]
    began = time.monotonic()
    text = subprocess.run(line, capture_output=True, text=True).stdout
    took = time.monotonic() - began
    total = int(re.search(r"(\d+) requests in ([\d.]+)s", text).group(1))
    span = float(re.search(r"(\d+) requests in ([\d.]+)s", text).group(2))
    refused = int(re.search(r"Non-2xx or 3xx responses: (\d+)", text).group(1))
    admitted, allowed = total - refused, limit * span + 10
    off = admitted / allowed - 1
    return [Row(f"rate limit of {limit:,}/s, asked for {total / span:,.0f}/s over {span:.0f} s",
                f"{admitted:,} admitted", f"{allowed:,.0f} allowed", f"{1 + off:.3f}",
                "within 2 %", abs(off) <= 0.02 and took >= span)]


SINK = """
export default {
  async fetch(request) {
    let bytes = 0;
    if (request.body) for await (const chunk of request.body) bytes += chunk.length;
    return new Response(String(bytes));
  },
};
"""


@contextlib.contextmanager
def slow_ones(squall):
    """A thousand clients that drip. Gives what became of them when they are gone."""
    fate = {}
    with subprocess.Popen(
            [squall.slow_clients, f"127.0.0.1:{squall.port}", str(load.size(SLOW_CLIENTS))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        # Until the first of them are cut off and come again.
        time.sleep(1 if load.QUICK else 8)
        yield fate
        fate.update(json.loads(process.communicate()[0]))


def slow_clients(squall):
    """What 64 clients notice of many that send their heads and bodies a byte a second."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "index.js").write_text(SINK)
        pathlib.Path(folder, "squall.toml").write_text(
            'name = "sink"\n[functions.api]\nsource = "index.js"\nroutes = ["/*"]\n')
        squall.command("deploy", folder)
    rate = load.most_per_s(squall.open_loop, squall.url, "plain.localhost", connections=64) / 4

    def p99():
        run = load.OpenLoop(squall.open_loop, squall.url, "plain.localhost", rate,
                            seconds=2 * load.SECONDS, connections=64)
        return run.result()["p99"]

    quiet, attacked, made, cut = [], [], 0, 0
    for _ in range(load.ROUNDS):
        quiet.append(p99())
        with slow_ones(squall) as fate:
            attacked.append(p99())
        made, cut = made + fate["made"], cut + fate["cut"]
    before, under = statistics.median(quiet), statistics.median(attacked)
    return [Row(f"p99 of 64 clients at {rate:,.0f}/s (open loop) beside "
                f"{load.size(SLOW_CLIENTS):,} that drip heads and bodies", f"{under:.2f} ms",
                f"{before:.2f} ms without them; {cut:,} of {made:,} connections were cut off",
                f"{under / before:.2f}", "at most 2x", under <= 2 * before)]


def many_routes(squall):
    """The slowest request of each kind among ten thousand routes, beside an app of one."""
    routes = "".join(f'[[routes]]\npaths = ["/v1/g{n // 10}/r{n}/{{id}}"]\n{PLAIN}\n'
                     for n in range(load.size(ROUTES)))
    deploy(squall, "many", routes)
    last = f"/v1/g{(load.size(ROUTES) - 1) // 10}/r{load.size(ROUTES) - 1}/42"
    medians = load.rates({
        "many": lambda s: load.wrk(squall.url + last, "many.localhost", seconds=s)[0],
        "one": lambda s: load.wrk(squall.url, "plain.localhost", seconds=s)[0],
    })
    return [at_least(f"fixed response among {load.size(ROUTES):,} routes", medians["many"],
                     medians["one"], 0.9, "one route")]


ALL = [
    proxied, proxied_posts, proxied_added_latency, proxied_guarded, tls_handshakes, tls_http2,
    idle_connections, slow_clients, websockets, config_swaps, rate_limit, many_routes,
]
