"""Apps to measure, deployed by the admin API: one upload each, a few at once."""

import concurrent.futures
import io
import json
import tarfile

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


def archive(name, component, settings=""):
    manifest = (
        f'name = "{name}"\n[functions.api]\ncomponent = "api.wasm"\nroutes = ["/*"]\n{settings}\n'
    )
    upload = io.BytesIO()
    with tarfile.open(fileobj=upload, mode="w") as tar:
        for path, content in (("squall.toml", manifest.encode()), ("api.wasm", component)):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return upload.getvalue()


def deploy(squall, name, component, settings=""):
    status, text = squall.admin(
        "POST", f"/v1/apps/{name}/deployments", archive(name, component, settings),
        "application/x-tar", raw=True,
    )
    last = json.loads(text.strip().splitlines()[-1])
    if status >= 400 or last.get("event") != "live":
        raise SystemExit(f"deploying {name}: {status} {text.decode()}")


def deploy_distinct(squall, first, last):
    """Apps d<first> to d<last - 1>."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: deploy(squall, f"d{n}", distinct(n)), range(first, last)))
