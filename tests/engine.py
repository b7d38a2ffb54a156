"""A throw-away Docker engine for tests: its own data root, socket and images; no registry is asked.

``find_engine()`` takes a running engine if one answers (``DOCKER_HOST`` or the default socket); otherwise
``Engine.start``
runs one as root on Debian, installing the packages it needs. Images are imported from static busybox.
"""

import contextlib
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException

PACKAGES = ("docker.io", "busybox-static", "iptables")
START_SECONDS = 60.0
START_TRIES = 3
STOP_SECONDS = 30.0
#: name:tag -> default command. The redis images stand in for the ones of the tour.
IMAGES = {
    **{
        f"redis:3.0.{n}": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
        for n in (5, 6, 7)
    },
    "busybox:test": ["/bin/sleep", "100000"],
}


class EngineUnavailableError(Exception):
    """No engine answers and none can be started; the text says why, in one sentence."""


def answers(url: str) -> bool:
    """Tell whether an engine answers at ``url``.

    By hand for unix sockets: a client of the SDK that fails to connect leaves its socket to the collector.
    """
    if not url.startswith("unix://"):
        with (
            contextlib.suppress(DockerException),
            contextlib.closing(docker.DockerClient(base_url=url)) as client,
        ):
            return bool(client.ping())
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(10)
        try:
            probe.connect(url.removeprefix("unix://"))
            probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in probe.recv(64)
        except OSError:
            return False


def find_engine() -> str | None:
    """Return the address of a running engine, or None."""
    for url in (os.environ.get("DOCKER_HOST"), "unix:///var/run/docker.sock"):
        if url and answers(url):
            return url
    return None


def install_packages() -> None:
    """Install what a throw-away engine needs.

    Raises:
        EngineUnavailableError: not root, not Debian, or the packages cannot be had.
    """
    if os.geteuid() != 0:
        raise EngineUnavailableError("no Docker engine answers, and starting one needs root")
    if all(shutil.which(name) for name in ("dockerd", "docker", "busybox", "iptables")):
        return
    if shutil.which("apt-get") is None:
        raise EngineUnavailableError(
            "no Docker engine answers, and this is not Debian: install dockerd and busybox"
        )
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise EngineUnavailableError(f"{' '.join(command)} failed: {last}")


def busybox_tar() -> bytes:
    """Return a root file system: static busybox, a link for each of its tools, and the usual folders."""
    busybox = shutil.which("busybox") or "/bin/busybox"
    tools = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox, "bin/busybox", filter=_executable)
        for tool in tools:
            if tool != "busybox":
                link = tarfile.TarInfo(f"bin/{tool}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name in ("tmp", "etc", "root", "proc", "sys", "dev"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        for name, text in (("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _executable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mode, info.uid, info.gid = 0o755, 0, 0
    return info


def import_images(url: str, images: dict[str, list[str]] = IMAGES) -> None:
    """Make ``images`` on the engine at ``url``, those that are not there yet."""
    with contextlib.closing(docker.DockerClient(base_url=url, timeout=60)) as client:
        present = {tag for image in client.images.list() for tag in image.tags}
        missing = {name: command for name, command in images.items() if name not in present}
        root = busybox_tar() if missing else b""
        for name, command in missing.items():
            repository, _, tag = name.rpartition(":")
            words = ", ".join(f'"{word}"' for word in command)
            changes = [f"CMD [{words}]", "ENV PATH=/bin"]
            client.api.import_image_from_data(root, repository=repository, tag=tag, changes=changes)


@dataclass
class Engine:
    """An engine, found or started by us."""

    url: str
    process: "subprocess.Popen[bytes] | None" = None
    folder: Path | None = None

    @classmethod
    def find_or_start(cls) -> "Engine":
        """Return a usable engine with the test images.

        Raises:
            EngineUnavailableError: none answers and none can be started.
        """
        url = find_engine()
        engine = cls(url) if url else cls.start()
        import_images(engine.url)
        return engine

    @classmethod
    def start(cls, prefix: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> "Engine":
        """Run an engine of our own; ``prefix`` enters a network namespace, ``extra`` are further flags.

        Engines that start or stop side by side meet in the machine's packet filter, where one may find a
        chain that another just removed, and give up: it is tried again.
        """
        install_packages()
        for _ in range(START_TRIES - 1):
            with contextlib.suppress(EngineUnavailableError):
                return cls._start(prefix, extra)
        return cls._start(prefix, extra)

    @classmethod
    def _start(cls, prefix: tuple[str, ...], extra: tuple[str, ...]) -> "Engine":
        folder = Path(tempfile.mkdtemp(prefix="swk-engine-"))
        folder.chmod(stat.S_IRWXU)
        url = f"unix://{folder}/docker.sock"
        command = [
            *prefix, "dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
            "-H", url, "--pidfile", f"{folder}/pid", *extra,
        ]  # fmt: skip
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        engine = cls(url, process, folder)
        deadline = time.monotonic() + START_SECONDS
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                text = (folder / "log").read_text(errors="replace").strip().splitlines()
                engine.stop()
                raise EngineUnavailableError(f"dockerd did not start: {' '.join(text[-3:]) or 'no output'}")
            time.sleep(0.1)
        return engine

    def kill(self) -> None:
        """End our engine at once, as a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Stop an engine we started and remove its folder; a found one is left alone."""
        if self.process is None or self.folder is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        # A killed engine leaves mounts behind; a stopped one the bind mount of its data root.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
