"""The edge cache beside nginx's proxy_cache, in front of the same server."""

import asyncio
import contextlib
import json
import pathlib
import threading
import time

from . import load
from .gateway import deploy, running, to
from .peers import Nginx
from .report import Row, at_least
from .servers import free_port

COLD_CLIENTS = 1_000
NEED_NGINX = {"cache-hits", "cache-hits-large"}

ORIGIN = """
  server {{
    listen 127.0.0.1:{port} reuseport;
    add_header Cache-Control "max-age=86400";
    root {folder};
  }}
"""
CACHE = """
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=all:10m max_size=1g;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_cache all; proxy_cache_lock on;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
"""




def hits(squall, name, size, bar):
    """Both have the file in their cache, and both say so before the load."""
    with running(Nginx(ORIGIN)) as (origin,), running(Nginx(CACHE, origin=origin.port)) as (peer,):
        pathlib.Path(origin.folder, "file.bin").write_bytes(b"x" * size)
        deploy(squall, name, "[gateway.policy.cache]\n" + to(origin))
        host = f"{name}.localhost"
        ours, theirs = squall.url.rstrip("/") + "/file.bin", peer.url + "/file.bin"
        for url in (ours, theirs):
            load.wrk(url, host, seconds=1)
        medians = load.rates({"squall": lambda s: load.wrk(ours, host, seconds=s)[0],
                              "peer": lambda s: load.wrk(theirs, host, seconds=s)[0]})
        report = json.loads(squall.command("cache", "stats", "--app", name, "--json"))
        route = report["routes"][0]
        if route["misses"] > 2 or route["hits"] < 100:
            raise load.Failed(f"the cache did not answer: {route}")
    kind = "1 kB" if size == 1_000 else "1 MB"
    return [at_least(f"cache hits of {kind}", medians["squall"], medians["peer"], bar,
                     "nginx, proxy_cache")]


def cache_hits(squall):
    return hits(squall, "small", 1_000, 0.8)


def cache_hits_large(squall):
    return hits(squall, "large", 1_000_000, 1.0)


class SlowOrigin:
    """Answers after half a second, and counts what it was asked."""

    def __init__(self):
        self.port = free_port()
        self.asked = 0
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_server(self.answer, "127.0.0.1", self.port))
        ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def answer(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                await asyncio.sleep(0.5)
                writer.write(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n"
                             b"content-length: 4\r\n\r\ncold")
                await writer.drain()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def cache_cold_key(squall):
    """All ask for one URL that nobody has asked for, before its first answer."""
    wanted = load.size(COLD_CLIENTS)

    async def client():
        reader, writer = await asyncio.open_connection("127.0.0.1", squall.port)
        writer.write(b"GET /cold HTTP/1.1\r\nHost: cold.localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"cold")

    async def all_at_once():
        return sum(await asyncio.gather(*(client() for _ in range(wanted))))

    with running(SlowOrigin()) as (origin,):
        deploy(squall, "cold", "[gateway.policy.cache]\n" + to(origin))
        began = time.monotonic()
        good = asyncio.run(all_at_once())
        took = time.monotonic() - began
    if good != wanted:
        raise load.Failed(f"{wanted - good} of {wanted} clients had no right answer")
    return [Row(f"a cold key asked for by {wanted:,} clients at once", f"{origin.asked} at the origin",
                f"all answered after {took:.1f} s", bar="1 at the origin", met=origin.asked == 1)]


ALL = [cache_hits, cache_hits_large, cache_cold_key]
