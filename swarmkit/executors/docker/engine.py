"""One Docker engine: the only code that blocks on it, in bounded threads; everything else awaits.

Calls run in lanes, so that none waits behind slower ones: what takes a millisecond, what takes a moment,
and what takes as long as it likes (contract/executor.md, 14). A cancelled call that has begun leaves its
thread to finish; the engine would carry on anyway.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import DockerException
from docker.utils import convert_filters, parse_repository_tag

from swarmkit.executors.docker.clients import Clients, ClosedError
from swarmkit.executors.docker.errors import AWAY, CALL_ERRORS, EngineError, Kind, classify, one_line
from swarmkit.executors.docker.streams import JsonStream
from swarmkit.executors.docker.threads import DaemonPool
from swarmkit.executors.docker.transport import UnixAdapter
from swarmkit.log import get_logger

T = TypeVar("T")
Json = dict[str, Any]

#: Reads at once: a millisecond each, and they never wait behind the starts of other tasks.
READ_THREADS = 4
#: Creates, starts and removals at once: an engine starts 4 to 6 containers a second, more do not help it.
CHANGE_THREADS = 8
#: Pulls, and creations of volumes: minutes each with a registry or a driver that does not answer.
FETCH_THREADS = 16
#: Stops at once: each task that ignores SIGTERM holds a thread for its grace period.
STOP_THREADS = 64
#: Longest silence of a call in seconds; a stop is given its grace period on top.
CALL_TIMEOUT = 60
#: Longest silence while a pull streams its progress, in seconds.
PULL_TIMEOUT = 300
#: An event stream silent for so long is opened anew, in seconds: its other end may have vanished.
EVENTS_TIMEOUT = 600

_UNIX = "unix://"

log = get_logger(__name__)
# One connection more than the client keeps is not worth a line.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class Engine:
    """The engine at one address. Made without contact; the first call connects and negotiates the version.

    Args:
        url: ``unix:///path`` or ``tcp://host:port``.
        timeout: longest silence of a call, in seconds.
    """

    def __init__(self, url: str, timeout: int = CALL_TIMEOUT) -> None:
        self.url = url
        self._timeout = timeout
        self._reads = DaemonPool(READ_THREADS, "engine-read")
        self._changes = DaemonPool(CHANGE_THREADS, "engine-change")
        self._fetches = DaemonPool(FETCH_THREADS, "engine-fetch")
        self._stops = DaemonPool(STOP_THREADS, "engine-stop")
        self._clients = Clients(self._new_client)
        self._closed = False

    async def close(self) -> None:
        """Give up the threads; calls under way end with the engine's answer or their deadline."""
        for lane in (self._reads, self._changes, self._fetches, self._stops):
            lane.shutdown()
        self._closed = True
        self._clients.close()

    async def _run(self, lane: DaemonPool, function: Callable[[docker.APIClient], T]) -> T:
        return await self._in_thread(lane, lambda: self._guarded(function))

    async def _in_thread(self, lane: DaemonPool, function: Callable[[], T]) -> T:
        if self._closed:
            raise self._left()
        return await asyncio.get_running_loop().run_in_executor(lane, function)

    def _left(self) -> EngineError:
        return EngineError(Kind.UNREACHABLE, f"the Docker engine at {self.url} has been left")

    def _guarded(self, function: Callable[[docker.APIClient], T]) -> T:
        try:
            with self._clients.hold() as client:
                return function(client)
        except ClosedError as error:
            raise self._left() from error
        except CALL_ERRORS as error:
            raise classify(error, self.url) from error

    def _new_client(self) -> docker.APIClient:
        """Return a client that speaks the engine's API version. Blocks; raises what the SDK raises."""
        with contextlib.closing(self._client_for(DEFAULT_DOCKER_API_VERSION)) as probe:
            version = probe.version(api_version=False).get("ApiVersion")
        if not version:
            raise DockerException("what answers there is not a Docker engine")
        return self._client_for(str(version))

    def _client_for(self, version: str) -> docker.APIClient:
        client = docker.APIClient(self.url, version, self._timeout)
        # Neither proxies nor ~/.netrc have a say in how the engine is reached.
        client.trust_env = False
        if self.url.startswith(_UNIX):
            path = self.url.removeprefix(_UNIX)
            client.mount("http+docker://", UnixAdapter(path, self._timeout, READ_THREADS + CHANGE_THREADS))
        return client

    async def api_version(self) -> str:
        """Return the negotiated API version, such as ``1.41``; asks the engine only at first contact."""
        client = self._clients.current
        if client is not None:
            return str(client.api_version)
        return await self._run(self._reads, lambda client: str(client.api_version))

    async def info(self) -> Json:
        """Return what the engine tells about itself and its host."""
        return await self._run(self._reads, lambda client: dict(client.info()))

    async def plugins(self) -> list[Json]:
        """List the managed plugins."""
        return await self._run(self._reads, lambda client: list(client.plugins()))  # type: ignore[no-untyped-call]

    async def inspect(self, name: str) -> Json:
        """Return the engine's description of a container."""
        return await self._run(self._reads, lambda client: dict(client.inspect_container(name)))

    async def has_image(self, reference: str) -> bool:
        """Tell whether the engine has an image."""
        try:
            await self._run(self._reads, lambda client: client.inspect_image(reference))  # type: ignore[no-untyped-call]
        except EngineError as error:
            if error.kind in AWAY:
                raise
            return False
        return True

    async def containers_labelled(self, label: str) -> list[Json]:
        """List all containers, running or not, that carry a label (``key`` or ``key=value``)."""
        return await self._run(
            self._reads, lambda client: list(client.containers(all=True, filters={"label": label}))
        )

    async def create(self, name: str, request: Json) -> None:
        """Create a container from a raw request."""
        await self._run(
            self._changes,
            lambda client: client.create_container_from_config(request, name),  # type: ignore[no-untyped-call]
        )

    async def start(self, name: str) -> None:
        """Start a created container."""
        await self._run(self._changes, lambda client: client.start(name))

    async def kill(self, name: str) -> None:
        """Kill a running container."""
        await self._run(self._changes, lambda client: client.kill(name))

    async def remove(self, name: str) -> None:
        """Remove a container by force, with its anonymous volumes."""
        await self._run(self._changes, lambda client: client.remove_container(name, v=True, force=True))

    async def stop(self, name: str, grace_seconds: int) -> None:
        """Send the stop signal, wait the grace period, then kill; an ended container is fine."""
        await self._run(self._stops, lambda client: client.stop(name, timeout=grace_seconds))

    async def make_directory(self, path: str) -> None:
        """Make a folder of the engine's host, if it is this one.

        Raises:
            EngineError: it cannot be made, or not from here.
        """
        if not self.url.startswith(_UNIX):
            raise EngineError(Kind.FATAL, f"bind source path {path} cannot be made on another host's engine")
        try:
            await self._in_thread(self._changes, lambda: Path(path).mkdir(parents=True, exist_ok=True))
        except OSError as error:
            text = one_line(f"bind source path {path} cannot be made: {error.strerror}")
            raise EngineError(Kind.FATAL, text) from error

    async def create_volume(self, request: Json) -> None:
        """Create a named volume; one that exists with the same driver counts as success."""
        await self._run(
            self._fetches,
            lambda client: client.create_volume(
                request["Name"], request["Driver"], request["DriverOpts"], request["Labels"]
            ),
        )

    async def pull(self, reference: str, registry_auth: str, answered: Callable[[], object]) -> None:
        """Pull an image, following the progress to its end; when cancelled, the engine stops too.

        Args:
            reference: name with tag or digest; ``latest`` without either.
            registry_auth: the ready ``X-Registry-Auth`` header, or empty.
            answered: called when the registry has answered and the download begins.
        """
        stream = JsonStream()
        try:
            await self._run(
                self._fetches, lambda client: _pull(client, stream, reference, registry_auth, answered)
            )
        finally:
            stream.end()

    def follow(
        self, stream: JsonStream, filters: dict[str, list[str]], opened: Callable[[], object]
    ) -> Generator[Json, None, None]:
        """Yield the engine's events until ``stream`` ends. Blocks: for the one thread that reads events.

        Connects anew, and with that negotiates the version again: the engine may have come back as another
        one.

        Raises:
            EngineError: the engine refused, or went away.
        """
        try:
            with self._clients.hold(renew=True) as client:
                yield from stream.read(
                    lambda: client.get(
                        f"{client.base_url}/v{client.api_version}/events",
                        params={"filters": convert_filters(filters)},
                        stream=True,
                        timeout=(self._timeout, EVENTS_TIMEOUT),
                    ),
                    opened,
                )
        except ClosedError as error:
            raise self._left() from error
        except CALL_ERRORS as error:
            raise classify(error, self.url) from error


def _pull(
    client: docker.APIClient,
    stream: JsonStream,
    reference: str,
    registry_auth: str,
    answered: Callable[[], object],
) -> None:
    repository, tag = parse_repository_tag(reference)

    def ask() -> requests.Response:
        return client.post(
            f"{client.base_url}/v{client.api_version}/images/create",
            # An empty tag would pull every tag of the repository.
            params={"fromImage": repository, "tag": tag or "latest"},
            headers={"X-Registry-Auth": registry_auth} if registry_auth else {},
            stream=True,
            timeout=PULL_TIMEOUT,
        )

    shown: dict[str, str] = {}
    with contextlib.closing(stream.read(ask, answered)) as messages:
        for progress in messages:
            # A failure after the stream began is a 200 whose last object says so.
            if "error" in progress:
                raise EngineError(Kind.FATAL, one_line(progress["error"]))
            layer, status = str(progress.get("id", "")), str(progress.get("status", ""))
            if shown.get(layer) != status:
                shown[layer] = status
                log.debug("pulling", image=reference, layer=layer, status=status)
