"""Apps to measure, deployed by the admin API: one upload each, a few at once. Handlers in
JavaScript go the way of people's own: a folder and `squall deploy`."""

import concurrent.futures
import io
import json
import pathlib
import tarfile
import tempfile

from .peers import NODE_MODULES
from .servers import ROOT

GUESTS = ROOT / "crates/squall-testkit/guests"
HELLO = (GUESTS / "hello.wasm").read_bytes()
PROBE = (GUESTS / "probe.wasm").read_bytes()
MARK = b"SQUALL-MARK-0000"
DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"


def distinct(n):
    """HELLO with four bytes of its own, so that it is compiled and loaded by itself."""
    text = b""
    for _ in range(4):
        text, n = DIGITS[n % 36 : n % 36 + 1] + text, n // 36
    assert HELLO.count(MARK) == 1
    return HELLO.replace(MARK, MARK[:-4] + text)


def archive(name, code, settings=""):
    """`code` is a component as bytes, or a module of JavaScript as text."""
    key, path = ("component", "api.wasm") if isinstance(code, bytes) else ("source", "api.js")
    manifest = manifest_of(name, f'{key} = "{path}"', settings)
    upload = io.BytesIO()
    with tarfile.open(fileobj=upload, mode="w") as tar:
        for path, content in (("squall.toml", manifest), (path, code)):
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return upload.getvalue()


def manifest_of(name, code, settings):
    return f'name = "{name}"\n[functions.api]\n{code}\nroutes = ["/*"]\n{settings}\n'


def deploy(squall, name, code, settings=""):
    status, text = squall.admin(
        "POST", f"/v1/apps/{name}/deployments", archive(name, code, settings),
        "application/x-tar", raw=True,
    )
    last = json.loads(text.strip().splitlines()[-1])
    if status >= 400 or last.get("event") != "live":
        raise SystemExit(f"deploying {name}: {status} {text.decode()}")


def deploy_each(squall, apps):
    """`apps` yields names and code."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda app: deploy(squall, *app), apps))


def deploy_distinct(squall, count):
    """Apps d0 to d<count - 1>."""
    deploy_each(squall, ((f"d{n}", distinct(n)) for n in range(count)))


HANDLERS = ROOT / "benches/javascript"
JS_HELLO = (HANDLERS / "hello.js").read_text()


def js_hello(name):
    """The handler of `hello.js` with a name of its own in its code."""
    assert JS_HELLO.count('"world"') == 1
    return JS_HELLO.replace('"world"', f'"{name}"')


def deploy_js_hellos(squall, count):
    """Apps j0 to j<count - 1>."""
    deploy_each(squall, ((f"j{n}", js_hello(f"j{n}")) for n in range(count)))


def deploy_handler(squall, app, handler, settings="", suffix=""):
    """A handler by its file's name, with `suffix` as the end of its code."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "squall.toml").write_text(manifest_of(app, 'source = "api.js"', settings))
        (folder / "api.js").write_text((HANDLERS / f"{handler}.js").read_text() + suffix)
        (folder / "node_modules").symlink_to(NODE_MODULES)
        squall.command("deploy", folder)
