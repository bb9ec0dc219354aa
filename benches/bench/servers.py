"""Squall and its peers as processes of their own, each in a folder that goes with it."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("SQUALL_CACHE", pathlib.Path.home() / ".cache/squall"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WASMTIME_VERSION = "48.0.8"
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited too long for {what}")
        time.sleep(0.005)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Process:
    """A process by its id, as /proc tells of it."""

    def __init__(self, pid):
        self.pid = pid

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def core_seconds(self):
        """CPU time of the threads that run guests, to the nanosecond."""
        total_ns = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("squall-core-"):
                total_ns += int((task / "schedstat").read_text().split()[0])
        return total_ns / 1e9

    def rss_mib(self):
        pages = int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * PAGE_KIB / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def mappings(self):
        return len(pathlib.Path(f"/proc/{self.pid}/maps").read_text().splitlines())


class Squall:
    def __init__(self, release=False, server_toml=""):
        self.release = release
        profile = ["--release"] if release else []
        subprocess.run(
            ["cargo", "build", "--quiet", *profile, "--workspace", "--bin", "squall", "--bin",
             "open-loop"],
            cwd=ROOT,
            check=True,
        )
        self.binary = TARGET / ("release" if release else "debug") / "squall"
        self.open_loop = self.binary.with_name("open-loop")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="squall-bench-"))
        (self.folder / "server.toml").write_text(server_toml)
        self.data = self.folder / "data"
        self.supervisor = None
        self.start()

    def start(self):
        """Returns the seconds until the node was ready to serve everything it has."""
        log = open(self.folder / "log", "ab")
        started = time.monotonic()
        self.supervisor = subprocess.Popen(
            [self.binary, "up", "--data-dir", self.data, "--config", self.folder / "server.toml",
             "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        wait_for("squall to be ready", self.ready)
        return time.monotonic() - started

    def facts(self):
        try:
            return json.loads((self.data / "node.json").read_text())
        except (OSError, ValueError):
            return None

    def ready(self):
        if self.supervisor.poll() is not None:
            raise SystemExit("squall did not start:\n" + (self.folder / "log").read_text())
        facts = self.facts()
        if not facts or facts["supervisor_pid"] != self.supervisor.pid:
            return False
        try:
            return self.admin("GET", "/readyz", raw=True)[0] == 200
        except OSError:
            return False

    @property
    def port(self):
        return int(self.facts()["gateway_urls"][0].rstrip("/").rsplit(":", 1)[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def server(self):
        return Process(self.facts()["pid"])

    def admin(self, method, path, body=None, content_type="application/json", raw=False):
        address = self.facts()["admin_url"].removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(address, timeout=120)
        headers = {"content-type": content_type}
        token = self.data / "admin.token"
        if token.exists():
            headers["authorization"] = "Bearer " + token.read_text().strip()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if raw:
            return response.status, text
        if response.status >= 400:
            raise SystemExit(f"{method} {path}: {response.status} {text.decode()}")
        return json.loads(text) if text else None

    def usage(self, app):
        return self.admin("GET", f"/v1/usage?app={app}")["total"]

    def kill(self):
        """kill -9 of both processes."""
        server = self.facts()["pid"]
        for pid in (self.supervisor.pid, server):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.supervisor.wait()
        wait_for("the server to be gone", lambda: gone(server))

    def stop(self):
        if self.supervisor.poll() is None:
            self.supervisor.terminate()
            self.supervisor.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def gone(pid):
    try:
        return ") Z " in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def wasmtime_binary():
    """From $WASMTIME, the PATH or the cache, in that order; built into the cache when it
    is nowhere."""
    found = os.environ.get("WASMTIME") or shutil.which("wasmtime")
    cached = CACHE / "peers/bin/wasmtime"
    if not found and not cached.exists():
        print(f"installing wasmtime {WASMTIME_VERSION} into the cache; this takes some minutes")
        done = subprocess.run(
            ["cargo", "install", "wasmtime-cli", "--version", WASMTIME_VERSION, "--locked",
             "--quiet", "--root", CACHE / "peers"],
            env={**os.environ, "CARGO_TARGET_DIR": str(CACHE / "peers-target")},
        )
        if done.returncode != 0:
            return None
    return found or cached


class Wasmtime:
    """`wasmtime serve` with its defaults but for the reuse of instances."""

    def __init__(self, component, reuse):
        self.port = free_port()
        self.process = subprocess.Popen(
            [wasmtime_binary(), "serve", "-Scli", "--addr", f"127.0.0.1:{self.port}",
             "--max-instance-reuse-count", str(reuse), component],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_for("wasmtime to serve", lambda: answers(self.port))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self.process.kill()
        self.process.wait()


NGINX = """
worker_processes auto;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{ default_type text/plain; return 200 "ok\\n"; }}
  }}
}}
"""


class Nginx:
    def __init__(self):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="squall-bench-nginx-"))
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=self.port))
        self.process = subprocess.Popen(
            [nginx_binary(), "-c", config, "-p", self.folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_for("nginx to serve", lambda: answers(self.port))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def nginx_binary():
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
