"""``make demo`` and ``make demo-down``: a swarm of three nodes on this machine, running one service.

Everything lives in ``.demo/`` of the project: state directories, logs, process ids, sockets. Each node has a
port and a socket of its own, so that it can be promoted.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import docker
from docker.errors import DockerException

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".demo"
SOCKET = FOLDER / "manager.sock"
PIDS = FOLDER / "pids.json"
BIN = Path(sys.executable).parent
IMAGE = "busybox:latest"
START_SECONDS = 60.0
STOP_SECONDS = 40.0


def engine_with_image() -> tuple[str | None, str]:
    """Return the address of an engine that has or can pull the demo's image, and a sentence why (not)."""
    url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        client = docker.DockerClient(base_url=url, timeout=60)
        client.ping()
    except DockerException:
        return None, "no Docker engine answers here: tasks run as local processes (--executor process)"
    try:
        if not client.images.list(name=IMAGE):
            client.images.pull(IMAGE)
    except DockerException:
        return (
            None,
            f"the Docker engine can not get {IMAGE}: tasks run as local processes (--executor process)",
        )
    finally:
        client.close()
    return url, f"tasks run as containers of the Docker engine at {url}"


def free_port(preferred: int) -> int:
    """Return a port nobody listens on: ``preferred`` if it can be."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("demo: no free port on 127.0.0.1")


def ctl(*words: str) -> str:
    """Run swarmctl on the demo's manager and return what it printed."""
    done = subprocess.run(
        [str(BIN / "swarmctl"), "--socket", str(SOCKET), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"demo: swarmctl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.rstrip()


def start(name: str, *flags: str) -> int:
    """Start one swarmd in the background, wait until it is ready, and return its process id."""
    log_path = FOLDER / f"{name}.log"
    command = [str(BIN / "swarmd"), "-d", str(FOLDER / name), "--hostname", name, *flags]
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    deadline = time.monotonic() + START_SECONDS
    while "node is ready" not in log_path.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            down()
            raise SystemExit(f"demo: {name} did not become ready; its log is {log_path}")
        time.sleep(0.1)
    return process.pid


def show(*words: str) -> None:
    """Print a command as a user would type it, and what it prints."""
    print(f"\n$ swarmctl {' '.join(words)}\n{ctl(*words)}")


def up() -> None:
    """Start three nodes and a service on them, and show it."""
    if PIDS.exists():
        raise SystemExit("demo: it runs already; 'make demo-down' stops it")
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    engine, sentence = engine_with_image()
    print(f"demo: {sentence}")
    flags = ["--executor", "docker", "--engine-addr", engine] if engine else ["--executor", "process"]
    pids: dict[str, int] = {}
    join: list[str] = []
    for number, control in enumerate((SOCKET, FOLDER / "node-2.sock", FOLDER / "node-3.sock")):
        name, address = f"node-{number + 1}", f"127.0.0.1:{free_port(4242 + number)}"
        listen = ["--listen-control-api", str(control), "--listen-remote-api", address]
        pids[name] = start(name, *flags, *listen, *join)
        PIDS.write_text(json.dumps(pids))
        print(f"demo: {name} is ready")
        join = join or ["--join-addr", address]
    show("node", "ls")
    show(
        "service",
        "create",
        "--name",
        "sleeper",
        "--image",
        IMAGE,
        "--command",
        "sleep,3600",
        "--instances",
        "3",
        "--wait",
    )
    show("service", "inspect", "sleeper")
    print(
        f"""
The swarm runs. Look around:
  export SWARM_SOCKET={SOCKET}
  {BIN}/swarmctl node ls
  {BIN}/swarmctl service update sleeper --instances 6
  {BIN}/swarmctl service inspect sleeper
  {BIN}/swarmctl node drain node-2
  {BIN}/swarmctl node promote node-3 --wait
Logs are in {FOLDER}/*.log. Stop it with: make demo-down"""
    )


def alive(pid: int) -> bool:
    """Tell whether a process that is still one of ours runs under ``pid``."""
    try:
        return b"swarmd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def down() -> None:
    """Remove the service, stop the nodes, workers first, and remove their state."""
    pids: dict[str, int] = json.loads(PIDS.read_text()) if PIDS.exists() else {}
    if SOCKET.exists() and any(alive(pid) for pid in pids.values()):
        subprocess.run(
            [str(BIN / "swarmctl"), "--socket", str(SOCKET), "service", "rm", "sleeper"],
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
    for name, pid in sorted(pids.items(), reverse=True):
        if not alive(pid):
            continue
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while alive(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                print(f"demo: {name} did not stop in {STOP_SECONDS:.0f} s and was killed")
                break
            time.sleep(0.1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    print("demo: stopped")


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
