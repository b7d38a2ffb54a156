"""What the way to a handler costs: one unary call through gateway, TLS and authorisation.

``python -m benchmarks.gateway [--json]``. Client and server share this one process and its loop.
"""

import argparse
import asyncio
import gc
import json
import logging
import statistics
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

ROUNDS = 5
ROW_CALLS = 300
CLIENTS = 64
CALLS_PER_CLIENT = 30


class _Bare(HealthServicer):
    """The same answer without anything of ours around it."""

    async def Check(self, request: api.HealthCheckRequest, context: object) -> api.HealthCheckResponse:
        return api.HealthCheckResponse(status=api.HealthCheckResponse.SERVING)


async def measure(channel: grpc.aio.Channel) -> tuple[float, float]:
    """Return ms a call in a row, and calls a second with 64 clients, of one round."""
    stub = HealthStub(channel)
    request = api.HealthCheckRequest()
    for _ in range(20):
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
    return in_a_row, CLIENTS * CALLS_PER_CLIENT / (time.perf_counter() - start)


async def rounds(ways: dict[str, grpc.aio.Channel]) -> dict[str, dict[str, float]]:
    """Measure every way in turn, several times, and return the medians: other load then hits all alike."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, channel in ways.items():
            seen[name].append(await measure(channel))
    return {
        name: {
            "ms_in_a_row": round(statistics.median(row for row, _ in values), 3),
            "per_second_64_clients": round(statistics.median(rate for _, rate in values)),
        }
        for name, values in seen.items()
    }


async def run() -> dict[str, dict[str, float]]:
    """Measure every way in."""
    authority = FakeAuthority()
    manager, other = authority.manager(), authority.manager("manager-2")
    server = ApiServer(CredentialsHolder(manager), SystemClock(), is_blacklisted=lambda _: False)
    server.add(add_HealthServicer_to_server, HealthService(["Raft"]))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bare = grpc.aio.server()
        add_HealthServicer_to_server(_Bare(), bare)
        bare.add_insecure_port(f"unix:{folder}/bare")
        await bare.start()
        await server.start()
        gateway = await server.listen_remote("127.0.0.1:0")
        await server.listen_control(Path(folder) / "swarm.sock")
        ways = {
            "grpc.aio alone, unix socket": channels.unix_channel(f"{folder}/bare"),
            "control socket, plain": channels.unix_channel(f"{folder}/swarm.sock"),
            "remote port, mutual TLS": channels.secure_channel(gateway.address, other),
        }
        try:
            return await rounds(ways)
        finally:
            for channel in ways.values():
                await channel.close()
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
