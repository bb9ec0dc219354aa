"""Serves the tests and what they fetch, by the tests' own server (wptserve), on two loopback ports.

Usage: server.py FOLDER

Prints the two ports in one line once it serves, and ends when its standard input does.
"""

import sys

from wptserve import server, stash
from wptserve.config import Config

# What the whole repository of the tests keeps under another name.
REWRITES = [("GET", "/resources/WebIDLParser.js", "/resources/webidl2/lib/webidl2.js")]
# Tests take "localhost" for their own host, and the address for every other one.
OWN_HOST = "localhost"
OTHER_HOST = "127.0.0.1"


def main():
    folder = sys.argv[1]
    servers = [
        server.WebTestHttpd(host=OTHER_HOST, port=0, doc_root=folder, rewrites=REWRITES, config=Config({}))
        for _ in range(2)
    ]
    ports = [httpd.port for httpd in servers]
    server.Server.config = Config({
        "browser_host": OWN_HOST,
        # There is no TLS here: what needs it fails to connect.
        "ports": {"http": ports, "https": [1, 1], "ws": [1, 1], "wss": [1, 1]},
        "all_domains": {
            "": {"": OWN_HOST, "www": OTHER_HOST, "www1": OTHER_HOST, "www2": OTHER_HOST},
            "alt": {"": OTHER_HOST},
        },
        "logging": {"level": "CRITICAL", "suppress_handler_traceback": True},
    })
    # Where handlers leave values for the requests that follow.
    with stash.StashServer():
        for httpd in servers:
            httpd.start()
        print(*ports, flush=True)
        sys.stdin.read()


main()
