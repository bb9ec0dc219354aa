"""Squall as a process of its own, in a folder that goes with it, and what /proc tells of any."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("SQUALL_CACHE", pathlib.Path.home() / ".cache/squall"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
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
            # Threads that others wait for come and go; the cores stay.
            with contextlib.suppress(FileNotFoundError):
                if (task / "comm").read_text().startswith("squall-core-"):
                    total_ns += int((task / "schedstat").read_text().split()[0])
        return total_ns / 1e9

    def rss_mib(self):
        pages = int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * PAGE_KIB / 1024

    def pss_mib(self):
        rollup = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", rollup, re.M).group(1)) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def mappings(self):
        return len(pathlib.Path(f"/proc/{self.pid}/maps").read_text().splitlines())


class Tree:
    """A process and its descendants, those that live at the moment."""

    def __init__(self, pid):
        self.pid = pid

    def processes(self):
        pids = [self.pid]
        # The list grows while it is walked, generation after generation.
        for pid in pids:
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
        return [Process(pid) for pid in pids]

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self.processes())

    def resident_mib(self):
        """Proportional: a page that several mappings or processes share counts once in all."""
        return sum(process.pss_mib() for process in self.processes())


def build(release=False):
    """Builds Squall and the load generators beside it; returns Squall's path."""
    profile = ["--release"] if release else []
    subprocess.run(
        ["cargo", "build", "--quiet", *profile, "--workspace", "--bin", "squall", "--bin",
         "open-loop", "--bin", "slow-clients", "--bin", "byte-pump"],
        cwd=ROOT,
        check=True,
    )
    return TARGET / ("release" if release else "debug") / "squall"


class Squall:
    def __init__(self, binary, server_toml=""):
        self.binary = pathlib.Path(binary)
        self.open_loop = self.binary.with_name("open-loop")
        self.slow_clients = self.binary.with_name("slow-clients")
        self.byte_pump = self.binary.with_name("byte-pump")
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

    @property
    def tree(self):
        return Tree(self.supervisor.pid)

    def command(self, *arguments):
        """What a command prints that speaks to this node."""
        line = [self.binary, "--data-dir", self.data, *arguments]
        done = subprocess.run([str(part) for part in line], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"squall {' '.join(map(str, arguments))}:\n{done.stderr}")
        return done.stdout

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
