"""JavaScript beside workerd: one source for both, an instance for each request and shared
instances. Before any load, all three have given the same right answer."""

import contextlib
import json
import pathlib
import random
import statistics
import tempfile
import time

from . import apps, load
from .peers import Workerd
from .report import Row, at_least
from .servers import Squall

EACH, SHARED = "instance per request", "shared instances"
SHARED_SETTINGS = 'instances = "shared"'


def targets_of(squall, peer, handler, path="/", body=None):
    return {
        EACH: load.Target(squall.tree, squall.url + path, f"{handler}.localhost", body),
        SHARED: load.Target(squall.tree, squall.url + path, f"{handler}-shared.localhost", body),
        "workerd": load.Target(peer.tree, peer.url + path, body=body),
    }


@contextlib.contextmanager
def body_file(document):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        yield pathlib.Path(file.name)


@contextlib.contextmanager
def workerd(handler):
    peer = Workerd(apps.HANDLERS / f"{handler}.js")
    try:
        yield peer
    finally:
        peer.close()


def deploy_both(squall, handler):
    apps.deploy_handler(squall, handler, handler)
    apps.deploy_handler(squall, f"{handler}-shared", handler, SHARED_SETTINGS)


def check(targets, kind, is_right):
    """All of them answer alike, and `is_right` is true of the body."""
    answers = {name: target.ask() for name, target in targets.items()}
    first = next(iter(answers.values()))
    for name, (status, content_type, body) in answers.items():
        if status != 200 or not content_type.startswith(kind) or not is_right(body):
            raise load.Failed(f"{name}: a wrong answer: {status} {content_type} {body[:500]!r}")
        if (body, content_type.replace(" ", "").lower()) != \
                (first[2], first[1].replace(" ", "").lower()):
            raise load.Failed(f"{name} answers {content_type} {body[:500]!r}, "
                              f"others {first[1]} {first[2][:500]!r}")


def gives(document):
    return lambda body: json.loads(body) == document


def ratios(what, targets, bars):
    """A row for each kind of instances; `bars` are theirs."""
    figures = load.measured(targets)
    theirs = figures["workerd"]
    rows = []
    for kind, bar in bars.items():
        ours = figures[kind]
        rows.append(at_least(f"{what}, {kind}", ours.per_s, theirs.per_s, bar, "workerd",
                             f"{ours.cpu_us:,.0f} µs, workerd {theirs.cpu_us:,.0f} µs"))
    return rows, figures


def tails(squall, what, targets, figures, bar=""):
    """p99 of all at one rate, half of what the slowest of them can do."""
    rate = min(one.per_s for one in figures.values()) / 2
    runs = {name: [] for name in targets}
    for _ in range(load.ROUNDS):
        for name, target in targets.items():
            runs[name].append(load.OpenLoop(squall.open_loop, target.url, target.host, rate,
                                            body=target.body).result())
    p50, p99 = ({name: statistics.median(run[share] for run in all_runs)
                 for name, all_runs in runs.items()} for share in ("p50", "p99"))
    show = lambda name: f"{p99[name]:.2f} ms (p50 {p50[name]:.2f} ms)"
    return [Row(f"{what}, p99 at {rate:,.0f}/s, {kind}", show(kind), f"{show('workerd')} workerd",
                f"{p99[kind] / p99['workerd']:.2f}", bar,
                p99[kind] < p99["workerd"] if bar else None)
            for kind in (EACH, SHARED)]


def recorded_cpu(squall, what, handler, targets, bar_us):
    """CPU time in the ledger by request: what an instance for each costs over sharing one."""
    def measure(app, target):
        # The ledger is a second behind at most.
        time.sleep(1.2)
        before = squall.usage(app)
        target.drive()
        time.sleep(1.2)
        after = squall.usage(app)
        return (after["cpu_ns"] - before["cpu_ns"]) / 1e3 / \
            (after["invocations"] - before["invocations"])

    each = measure(handler, targets[EACH])
    shared = measure(f"{handler}-shared", targets[SHARED])
    return [Row(f"{what}, CPU time recorded for a request", f"{each:,.0f} µs, {EACH}",
                f"{shared:,.0f} µs, {SHARED}", bar=f"at most {bar_us} µs apart",
                met=each - shared <= bar_us)]


def js_hello(squall):
    deploy_both(squall, "hello")
    with workerd("hello") as peer:
        targets = targets_of(squall, peer, "hello")
        check(targets, "application/json", gives({"hello": "world"}))
        rows, figures = ratios("JSON hello", targets, {EACH: 1.5, SHARED: 2.5})
        rows += tails(squall, "JSON hello", targets, figures, "below workerd's")
    return rows + recorded_cpu(squall, "JSON hello", "hello", targets, 100)


HONO_PATH = "/projects/7/tasks"
HONO_TASK = {"title": "Write it down", "labels": ["Docs", "Later"], "due": "2027-01-31",
             "notes": "What was decided and why, in short plain sentences. " * 4}
HONO_ANSWER = {"project": "7", "title": "Write it down", "labels": ["docs", "later"],
               "due": "2027-01-31"}


def js_hono(squall):
    deploy_both(squall, "hono")
    what = "hono, ten routes and a JSON body"
    with workerd("hono") as peer, body_file(HONO_TASK) as body:
        targets = targets_of(squall, peer, "hono", HONO_PATH, body)
        check(targets, "application/json", gives(HONO_ANSWER))
        rows, figures = ratios(what, targets, {EACH: 0.7, SHARED: 1.3})
        rows += tails(squall, "hono", targets, figures)
        return rows + recorded_cpu(squall, "hono", "hono", targets, 150)


def people():
    """The same 20 in every run, several of them with the same score."""
    dice = random.Random(20)
    names = [f"{first} {last}" for first in ("Ada", "Bo", "Chi", "Dee", "Eli")
             for last in ("Okoye", "Rask", "Sato", "Voss")]
    dice.shuffle(names)
    return [{"id": n + 1, "name": name, "email": f"{name.lower().replace(' ', '.')}@example.com",
             "score": dice.randrange(0, 10) * 10 + 0.5, "role": dice.choice(["reader", "writer"]),
             "tags": ["new", f"group-{n % 4}"]} for n, name in enumerate(names)]


def js_sort(squall):
    deploy_both(squall, "sort")
    everyone = people()
    in_order = sorted(everyone, key=lambda person: (-person["score"], person["name"]))
    with workerd("sort") as peer, body_file(everyone) as body:
        targets = targets_of(squall, peer, "sort", body=body)
        check(targets, "application/json", gives({"count": 20, "people": in_order}))
        return ratios("validate and sort 20 objects", targets, {EACH: 0.5, SHARED: 0.9})[0]


def document():
    return [{"id": n, "key": f"item-{n}", "title": f'The "title" of item {n}',
             "price": n * 7919 % 10000 / 100, "available": n % 3 == 0,
             "tags": ["alpha", "beta", f"group-{n % 12}"],
             "size": {"width": n % 40, "height": n % 25, "unit": "mm"},
             "note": None if n % 5 == 0 else "Stored dry, shipped by the dozen, tested by hand."}
            for n in range(400)]


def js_json(squall):
    deploy_both(squall, "json")
    bars = {EACH: 0.3, SHARED: None}
    with workerd("json") as peer, body_file(document()) as body:
        targets = targets_of(squall, peer, "json", body=body)
        check(targets, "application/json", gives(document()))
        rows = ratios("100 kB of JSON, received and sent", targets, bars)[0]
        targets = targets_of(squall, peer, "json")
        check(targets, "application/json", lambda body: json.loads(body)["same"])
        return rows + ratios("100 kB of JSON, parsed and stringified only", targets, bars)[0]


def js_template(squall):
    deploy_both(squall, "template")
    with workerd("template") as peer:
        targets = targets_of(squall, peer, "template")
        check(targets, "text/html", lambda page: page.count(b"<tr class=") == 200
              and b"Customer &lt;199&gt; &amp; Sons" in page)
        return ratios("HTML template of 200 rows", targets, {EACH: 0.2, SHARED: None})[0]


def js_memory(other):
    """Nodes of their own, which hold nothing but what is measured."""
    rows = []
    for handler, path, task in (("hello", "/", None), ("hono", HONO_PATH, HONO_TASK)):
        with body_file(task) as file:
            body = file if task else None
            with workerd(handler) as peer:
                theirs = load.Target(peer.tree, peer.url + path, body=body).peak_mib()
            for kind, settings in ((EACH, ""), (SHARED, SHARED_SETTINGS)):
                squall = Squall(other.binary)
                try:
                    apps.deploy_handler(squall, handler, handler, settings)
                    ours = load.Target(squall.tree, squall.url + path, f"{handler}.localhost",
                                       body).peak_mib()
                finally:
                    squall.close()
                rows.append(Row(f"memory under load, {handler}, {kind}", f"{ours:.0f} MiB",
                                f"{theirs:.0f} MiB workerd", f"{ours / theirs:.2f}",
                                "at most 0.25", ours <= theirs / 4))
    return rows


ALL = [js_hello, js_hono, js_sort, js_json, js_template, js_memory]
