"""A day's work with JavaScript: from a changed source to the live URL."""

import contextlib
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

from . import load
from .peers import NODE_MODULES
from .report import Row

CHANGES = 10
# A template, the file that changes, a path that answers, and the bar of a deploy.
TEMPLATES = [
    ("js", "src/index.js", "/api/hello", 200),
    ("hono", "src/index.tsx", "/api/hello/you", 500),
]
RELOAD_BAR_MS = 150


@contextlib.contextmanager
def project(squall, name, template):
    """An app as `squall new` makes it, with its packages."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / name
        squall.command("new", name, "--template", template, "--dir", folder)
        if (folder / "package.json").exists():
            (folder / "node_modules").symlink_to(NODE_MODULES)
        yield folder


class Source:
    """A source file that can be changed so that its code is another."""

    def __init__(self, path):
        self.path, self.text, self.changes = path, path.read_text(), 0

    def change(self):
        self.changes += 1
        self.path.write_text(f"{self.text}\nglobalThis.changes = {self.changes};\n")


def check_live(squall, name, path):
    status, _, body = load.Target(squall.tree, squall.url + path, f"{name}.localhost").ask()
    if status != 200 or "Hello" not in json.loads(body)["greeting"]:
        raise load.Failed(f"{name}{path}: a wrong answer: {status} {body[:500]!r}")


def js_deploy(squall):
    rows = []
    for template, file, path, bar_ms in TEMPLATES:
        name = f"deploy-{template}"
        with project(squall, name, template) as folder:
            source = Source(folder / file)
            squall.command("deploy", folder)
            times = []
            for _ in range(CHANGES):
                source.change()
                started = time.monotonic()
                live = json.loads(squall.command("--json", "deploy", folder).splitlines()[-1])
                times.append((time.monotonic() - started) * 1000)
                if not live["created"]:
                    raise load.Failed(f"{name}: the changed source made no new revision")
                check_live(squall, name, path)
        median = statistics.median(times)
        rows.append(Row(f"`squall deploy` of the {template} template, source to live URL",
                        f"{median:.0f} ms", f"{max(times):.0f} ms the slowest of {CHANGES}",
                        bar=f"at most {bar_ms} ms", met=median <= bar_ms))
    return rows


class Dev:
    """`squall dev` of a folder, with the node that runs already."""

    def __init__(self, squall, folder):
        self.process = subprocess.Popen(
            [squall.binary, "--data-dir", squall.data, "--json", "dev", folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def wait_for(self, event):
        for line in self.process.stdout:
            fields = json.loads(line)
            if fields.get("event") == event:
                return fields
        raise load.Failed(f"squall dev ended before it said {event!r}")

    def close(self):
        self.process.terminate()
        self.process.wait()


def js_reload(squall):
    rows = []
    for template, file, path, _ in TEMPLATES:
        name = f"dev-{template}"
        with project(squall, name, template) as folder:
            source = Source(folder / file)
            dev = Dev(squall, folder)
            try:
                dev.wait_for("live")
                times, said = [], []
                for _ in range(CHANGES):
                    time.sleep(0.5)
                    source.change()
                    started = time.monotonic()
                    said.append(dev.wait_for("reloaded")["took_ms"])
                    times.append((time.monotonic() - started) * 1000)
                check_live(squall, name, path)
            finally:
                dev.close()
        median = statistics.median(times)
        rows.append(Row(f"`squall dev` of the {template} template, file written to reloaded",
                        f"{median:.0f} ms", f"{statistics.median(said):.0f} ms by its own account",
                        bar=f"at most {RELOAD_BAR_MS} ms", met=median <= RELOAD_BAR_MS))
    return rows


ALL = [js_deploy, js_reload]
