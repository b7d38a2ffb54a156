"""A leader of three managers is killed with SIGKILL: until the next acknowledged write at another one.

``python -m benchmarks.failover [--json]``. The target is for the worst of the repeats.
"""

import time
from pathlib import Path

import grpc

from benchmarks.daemon import service, three_managers
from benchmarks.report import Row, main, number
from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api

REPEATS = 10
TARGET_SECONDS = 3.0
#: Deadline of the write; it waits for the new leader by itself.
CALL_SECONDS = 30.0


def write(socket: Path, name: str) -> None:
    """Create a service; a call that was under way when the leader died is made anew."""
    with grpc.insecure_channel(f"unix:{socket}", [("grpc.default_authority", "localhost")]) as channel:
        stub = control_pb2_grpc.ControlStub(channel)
        for attempt in range(100):
            try:
                request = api.CreateServiceRequest(spec=service(f"{name}-{attempt}"))
                stub.CreateService(request, timeout=CALL_SECONDS)
                return
            except grpc.RpcError:
                time.sleep(0.01)
    raise TimeoutError("no write was acknowledged")


def measure() -> list[Row]:
    """Return the row."""
    found = []
    with three_managers() as made:
        for repeat in range(REPEATS):
            leader = made.leader()
            other = made.path(next(name for name in made.daemons if name != leader))
            write(other, f"warm-{repeat}")
            made.daemons[leader].kill()
            started = time.perf_counter()
            write(other, f"first-{repeat}")
            found.append(time.perf_counter() - started)
            made.restart(leader).wait_ready()
            made.wait_members(3)
    worst = max(found)
    what = f"leader killed until the next acknowledged write, worst of {REPEATS}"
    target = f"<= {number(TARGET_SECONDS)} s"
    return [Row(what, worst, "s", min(found), worst, "15.2 s", target, worst <= TARGET_SECONDS)]


if __name__ == "__main__":
    main(measure, __doc__)
