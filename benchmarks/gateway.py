"""What the way to a handler costs: one unary call through gateway, TLS and authorisation.

``python -m benchmarks.gateway [--json]``. Client and server share this one process and its loop.
"""

import argparse
import asyncio
import gc
import json
import logging
import tempfile
import time
from pathlib import Path

import grpc

from swarmkit.api import messages as api
from swarmkit.api.health_pb2_grpc import HealthServicer, HealthStub, add_HealthServicer_to_server
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.clock import SystemClock
from swarmkit.manager.health import HealthService
from swarmkit.net import channels
from swarmkit.net.server import ApiServer
from tests.fakes.pki import FakeAuthority

ROW_CALLS = 1000
CLIENTS = 64
CALLS_PER_CLIENT = 100


class _Bare(HealthServicer):
    """The same answer without anything of ours around it."""

    async def Check(self, request: api.HealthCheckRequest, context: object) -> api.HealthCheckResponse:
        return api.HealthCheckResponse(status=api.HealthCheckResponse.SERVING)


async def measure(channel: grpc.aio.Channel) -> dict[str, float]:
    """Return ms a call in a row, and calls a second with 64 clients."""
    async with channel:
        stub = HealthStub(channel)
        request = api.HealthCheckRequest()
        for _ in range(100):
            await stub.Check(request)
        gc.collect()
        start = time.perf_counter()
        for _ in range(ROW_CALLS):
            await stub.Check(request)
        in_a_row = (time.perf_counter() - start) / ROW_CALLS * 1000

        async def client() -> None:
            for _ in range(CALLS_PER_CLIENT):
                await stub.Check(request)

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        rate = CLIENTS * CALLS_PER_CLIENT / (time.perf_counter() - start)
        return {"ms_in_a_row": round(in_a_row, 3), "per_second_64_clients": round(rate)}


async def run() -> dict[str, dict[str, float]]:
    """Measure every way in."""
    authority = FakeAuthority()
    manager, worker = authority.manager(), authority.issue("manager-2")
    server = ApiServer(CredentialsHolder(manager), SystemClock())
    server.add(add_HealthServicer_to_server, HealthService(["Raft"]))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bare = grpc.aio.server()
        add_HealthServicer_to_server(_Bare(), bare)
        bare.add_insecure_port(f"unix:{folder}/bare")
        await bare.start()
        await server.start()
        gateway = await server.listen_remote("127.0.0.1:0")
        await server.listen_control(Path(folder) / "swarm.sock")
        try:
            return {
                "grpc.aio alone, unix socket": await measure(channels.unix_channel(f"{folder}/bare")),
                "control socket, plain": await measure(channels.unix_channel(f"{folder}/swarm.sock")),
                "remote port, mutual TLS": await measure(channels.secure_channel(gateway.address, worker)),
            }
        finally:
            await server.stop()
            await bare.stop(None)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    results = asyncio.run(run())
    if arguments.json:
        print(json.dumps(results))
        return
    for name, row in results.items():
        print(
            f"{name:32} {row['ms_in_a_row']:6.2f} ms in a row  {row['per_second_64_clients']:6.0f}/s with 64"
        )


if __name__ == "__main__":
    main()
