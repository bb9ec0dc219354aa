"""What Squall is measured beside: wasmtime, nginx, workerd. They come from the machine or are
installed into the cache; none becomes a part of Squall."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from .servers import CACHE, Tree, answers, free_port, wait_for

WASMTIME_VERSION = "48.0.8"
# workerd, the framework of the measured handler, and the bundler of workerd's tools.
NPM_PACKAGES = {"workerd": "1.20261117.1", "hono": "4.13.19", "esbuild": "0.28.2"}
NPM_FOLDER = CACHE / "peers/npm"
NODE_MODULES = NPM_FOLDER / "node_modules"


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
worker_rlimit_nofile 65536;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
"""
STATIC = """
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{ default_type text/plain; return 200 "ok\\n"; }}
  }}
"""


class Nginx:
    """nginx with these servers in its configuration. `keys` is a folder whose certificate and
    key it uses."""

    def __init__(self, servers=STATIC, keys=None, **values):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="squall-bench-nginx-"))
        for name in ("cert.pem", "key.pem") if keys else ():
            shutil.copy(pathlib.Path(keys, name), self.folder)
        config = self.folder / "nginx.conf"
        text = (NGINX + servers).format(folder=self.folder, port=self.port, **values) + "}\n"
        config.write_text(text)
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


class BytePump:
    """What passes bytes to a server as they come, and computes for a while for each request."""

    def __init__(self, binary, origin, work_us=0):
        self.process = subprocess.Popen(
            [binary, f"127.0.0.1:{origin.port}", str(work_us * 1000)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def close(self):
        self.process.kill()
        self.process.wait()


def nginx_binary():
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def npm_packages():
    """Whether the packages are there, installed where they were not."""
    stamp = NPM_FOLDER / "installed"
    wanted = " ".join(f"{name}@{version}" for name, version in NPM_PACKAGES.items())
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    if not shutil.which("npm"):
        return False
    NPM_FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["npm", "install", "--prefix", NPM_FOLDER, "--no-save", "--no-audit",
                           "--no-fund", "--silent", *wanted.split()])
    if done.returncode != 0:
        return False
    stamp.write_text(wanted)
    return True


def workerd_binary():
    return NODE_MODULES / "workerd/bin/workerd"


def bundled(entry):
    """The text of one module, as workerd's own tools would upload it."""
    done = subprocess.run(
        [NODE_MODULES / ".bin/esbuild", entry, "--bundle", "--format=esm", "--target=es2024",
         "--conditions=workerd,worker,browser", "--log-level=error"],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bundling {entry} for workerd:\n{done.stderr}")
    return done.stdout


WORKERD = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);
const main :Workerd.Worker = (
  modules = [(name = "main.js", esModule = embed "main.js")],
  compatibilityDate = "{day}",
);
"""


class Workerd:
    """`workerd serve` with one worker and the newest behaviour that it knows."""

    def __init__(self, entry):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="squall-bench-workerd-"))
        (self.folder / "main.js").write_text(bundled(entry))
        year_month_day = NPM_PACKAGES["workerd"].split(".")[1]
        day = f"{year_month_day[:4]}-{year_month_day[4:6]}-{year_month_day[6:]}"
        config = self.folder / "config.capnp"
        config.write_text(WORKERD.format(port=self.port, day=day))
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen([workerd_binary(), "serve", config],
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        wait_for("workerd to serve", self.ready)

    def ready(self):
        if self.process.poll() is not None:
            raise SystemExit("workerd did not start:\n" + (self.folder / "log").read_text())
        return answers(self.port)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def tree(self):
        return Tree(self.process.pid)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
