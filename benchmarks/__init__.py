"""Benchmarks: each module measures one row and prints it; they are not tests.

What is measured is the daemon, so the clients here are as light as gRPC has them: without its event engine,
whose threads take from the daemon what a client on the same two cores can do without.
"""

import os

_GIVEN = os.environ.get("GRPC_EXPERIMENTS")
os.environ["GRPC_EXPERIMENTS"] = "-event_engine_client,-event_engine_listener"

import grpc  # noqa: E402, F401  - it reads the variable once, here; daemons that are started must not

if _GIVEN is None:
    del os.environ["GRPC_EXPERIMENTS"]
else:
    os.environ["GRPC_EXPERIMENTS"] = _GIVEN
