"""A Docker engine in memory, with the methods of ``swarmkit.executors.docker.engine.Engine``."""

import asyncio
import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.events import Watch

Json = dict[str, Any]


class FakeEvents:
    """Wakes watchers when a test changes a container."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self.deaf = False

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[Watch]:
        watch = Watch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    @property
    def watched(self) -> int:
        return len(self._watches)

    def wake(self, name: str) -> None:
        self.wake_all()

    def wake_all(self) -> None:
        for watch in () if self.deaf else self._watches:
            watch.wake()


class FakeEngine:
    """Containers by name. ``calls`` lists what was asked; ``errors`` are raised once each, by method."""

    url = "unix:///fake.sock"

    def __init__(self) -> None:
        self.containers: dict[str, Json] = {}
        self.images = {"busybox"}
        self.calls: list[tuple[str, ...]] = []
        self.errors: dict[str, list[EngineError]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.registry_answers = True
        self.cancelled: list[str] = []
        self.on_start: Callable[[str], object] = str
        self.away = False
        self.events = FakeEvents()

    def _called(self, method: str, *words: object) -> None:
        self.calls.append((method, *map(str, words)))
        if self.away:
            raise EngineError(Kind.UNREACHABLE, f"the Docker engine at {self.url} cannot be reached: refused")
        if self.errors.get(method):
            raise self.errors[method].pop(0)

    def hold(self, method: str) -> asyncio.Event:
        """Keep calls of a method from ending until the event returned is set."""
        gate = self.gates[method] = asyncio.Event()
        return gate

    async def _ending(self, method: str) -> None:
        if method in self.gates:
            await self.gates[method].wait()

    def count(self, method: str) -> int:
        return sum(call[0] == method for call in self.calls)

    def fail(self, method: str, kind: Kind, text: str) -> None:
        self.errors.setdefault(method, []).append(EngineError(kind, text))

    def _found(self, name: str) -> Json:
        if name not in self.containers:
            raise EngineError(Kind.NO_CONTAINER, f"No such container: {name}")
        return self.containers[name]

    def end(self, name: str, code: int, error: str = "") -> None:
        """End a container by itself."""
        self.containers[name]["State"].update(Status="exited", ExitCode=code, Pid=0, Error=error)
        self.events.wake_all()

    def set_health(self, name: str, health: str) -> None:
        self.containers[name]["State"]["Health"] = {"Status": health}
        self.events.wake_all()

    async def api_version(self) -> str:
        self._called("api_version")
        return "1.41"

    async def inspect(self, name: str) -> Json:
        self._called("inspect", name)
        return copy.deepcopy(self._found(name))

    async def create(self, name: str, request: Json) -> None:
        self._called("create", name)
        await self._ending("create")
        if name in self.containers:
            raise EngineError(Kind.NAME_IN_USE, f'The container name "/{name}" is already in use')
        if request["Image"] not in self.images:
            raise EngineError(Kind.NO_IMAGE, f"No such image: {request['Image']}")
        self.containers[name] = {
            "Id": f"id-{name}",
            "Config": {"Labels": request["Labels"], "Healthcheck": request.get("Healthcheck")},
            "State": {"Status": "created", "Pid": 0, "ExitCode": 0},
        }

    async def create_volume(self, request: Json) -> None:
        self._called("create_volume", request["Name"])

    async def start(self, name: str) -> None:
        self._called("start", name)
        await self._ending("start")
        self.on_start(name)
        self._found(name)["State"].update(Status="running", Pid=42)
        self.events.wake_all()

    async def stop(self, name: str, grace_seconds: int) -> None:
        self._called("stop", name, grace_seconds)
        await self._ending("stop")
        if self._found(name)["State"]["Status"] == "running":
            self.end(name, 143)

    async def kill(self, name: str) -> None:
        self._called("kill", name)
        if self._found(name)["State"]["Status"] != "running":
            raise EngineError(Kind.NOT_RUNNING, f"Container {name} is not running")
        self.end(name, 137)

    async def make_directory(self, path: str) -> None:
        self._called("make_directory", path)

    async def remove(self, name: str) -> None:
        self._called("remove", name)
        self._found(name)
        del self.containers[name]
        self.events.wake_all()

    async def has_image(self, reference: str) -> bool:
        self._called("has_image", reference)
        return reference in self.images

    async def pull(self, reference: str, registry_auth: str, answered: Callable[[], object]) -> None:
        self._called("pull", reference, registry_auth)
        if self.registry_answers:
            answered()
        try:
            await self._ending("pull")
        except asyncio.CancelledError:
            self.cancelled.append(reference)
            raise

    async def info(self) -> Json:
        self._called("info")
        return {"Name": "host", "Architecture": "x86_64", "OSType": "linux", "NCPU": 2, "MemTotal": 1 << 30}

    async def plugins(self) -> list[Json]:
        self._called("plugins")
        return []

    async def containers_labelled(self, label: str) -> list[Json]:
        self._called("containers_labelled", label)
        key, _, value = label.partition("=")
        return [
            {"Id": name, "Labels": found["Config"]["Labels"]}
            for name, found in self.containers.items()
            if (found["Config"]["Labels"] or {}).get(key) == value
        ]
