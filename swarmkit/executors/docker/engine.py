"""One Docker engine: the only code that blocks on it, in bounded threads; everything else awaits.

Two pools, because stops and pulls last as long as they like: short calls must never wait behind them
(contract/executor.md, 14). A cancelled call leaves its thread to finish; the engine would carry on anyway.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import docker
from docker.utils import parse_repository_tag

from swarmkit.executors.docker.errors import EngineError, Kind, classify, one_line, reason
from swarmkit.log import get_logger

T = TypeVar("T")
Json = dict[str, Any]

#: Short calls at once: an engine starts 4 to 6 containers a second, more threads do not help it.
SHORT_THREADS = 8
#: Stops and pulls at once: 50 tasks that ignore SIGTERM hold a thread each for their grace period.
LONG_THREADS = 64
#: Longest silence of a short call in seconds.
SHORT_TIMEOUT = 60
#: Longest silence while a pull streams its progress, in seconds.
PULL_TIMEOUT = 300.0

log = get_logger(__name__)
# One connection too many in the pool is not worth a line.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class Engine:
    """The engine at one address. Made without contact; the first call connects and negotiates the version."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: docker.APIClient | None = None
        self._short = concurrent.futures.ThreadPoolExecutor(SHORT_THREADS, "engine-short")
        self._long = concurrent.futures.ThreadPoolExecutor(LONG_THREADS, "engine-long")

    async def close(self) -> None:
        """Give up the threads; calls under way end with the engine's answer or their deadline."""
        for pool in (self._short, self._long):
            pool.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def call(self, function: Callable[[docker.APIClient], T]) -> T:
        """Run a short call.

        Raises:
            EngineError: the engine refused, or did not answer; ``kind`` says which.
        """
        return await self._run(self._short, function)

    async def call_long(self, function: Callable[[docker.APIClient], T]) -> T:
        """Run a call that may take minutes: a stop, a pull. Raises as ``call``."""
        return await self._run(self._long, function)

    async def _run(
        self, pool: concurrent.futures.ThreadPoolExecutor, function: Callable[[docker.APIClient], T]
    ) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, self._guarded, function)

    def _guarded(self, function: Callable[[docker.APIClient], T]) -> T:
        try:
            return function(self._connected())
        except Exception as error:
            found = classify(error)
            if found.kind is Kind.UNREACHABLE:
                raise EngineError(found.kind, self.unreachable(error)) from error
            raise found from error

    def unreachable(self, error: BaseException) -> str:
        """Return the sentence for an engine that cannot be reached."""
        return one_line(f"the Docker engine at {self.url} cannot be reached: {reason(error)}")

    def _connected(self) -> docker.APIClient:
        # Two threads may both make a client at first contact; one of them is simply dropped.
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self) -> docker.APIClient:
        """Return a client of its own, its API version negotiated. Blocks; raises what the SDK raises."""
        client = docker.APIClient(base_url=self.url, version="auto", timeout=SHORT_TIMEOUT)
        client.trust_env = False
        return client

    async def api_version(self) -> str:
        """Return the negotiated API version, such as ``1.41``."""
        return await self.call(lambda client: str(client.api_version))

    async def inspect(self, name: str) -> Json:
        """Return the engine's description of a container."""
        return await self.call(lambda client: dict(client.inspect_container(name)))

    async def create(self, name: str, request: Json) -> None:
        """Create a container from a raw request."""
        await self.call(lambda client: client.create_container_from_config(request, name))  # type: ignore[no-untyped-call]

    async def create_volume(self, request: Json) -> None:
        """Create a named volume; one that exists with the same driver counts as success."""
        await self.call_long(
            lambda client: client.create_volume(
                request["Name"], request["Driver"], request["DriverOpts"], request["Labels"]
            )
        )

    async def start(self, name: str) -> None:
        """Start a created container."""
        await self.call(lambda client: client.start(name))

    async def stop(self, name: str, grace_seconds: int) -> None:
        """Send the stop signal, wait the grace period, then kill; an ended container is fine."""
        await self.call_long(lambda client: client.stop(name, timeout=grace_seconds))

    async def remove(self, name: str) -> None:
        """Remove a container by force, with its anonymous volumes."""
        await self.call(lambda client: client.remove_container(name, v=True, force=True))

    async def has_image(self, reference: str) -> bool:
        """Tell whether the engine has an image."""
        try:
            await self.call(lambda client: client.inspect_image(reference))  # type: ignore[no-untyped-call]
        except EngineError as error:
            if error.kind is Kind.NO_IMAGE:
                return False
            raise
        return True

    async def pull(self, reference: str, registry_auth: str) -> None:
        """Pull an image, following the progress to its end.

        Args:
            reference: name with tag or digest; ``latest`` without either.
            registry_auth: the ready ``X-Registry-Auth`` header, or empty.
        """
        await self.call_long(lambda client: _pull(client, reference, registry_auth))

    async def containers(self, label: str) -> list[Json]:
        """List all containers, running or not, that carry a label (``key`` or ``key=value``)."""
        return await self.call(lambda client: list(client.containers(all=True, filters={"label": label})))


def _pull(client: docker.APIClient, reference: str, registry_auth: str) -> None:
    repository, tag = parse_repository_tag(reference)
    # An empty tag would pull every tag of the repository.
    response = client.post(
        f"{client.base_url}/v{client.api_version}/images/create",
        params={"fromImage": repository, "tag": tag or "latest"},
        headers={"X-Registry-Auth": registry_auth} if registry_auth else {},
        stream=True,
        timeout=PULL_TIMEOUT,
    )
    with contextlib.closing(response):
        if response.status_code != 200:
            raise EngineError(Kind.FATAL, one_line(_message(response.content)))
        for progress in _json_lines(response.iter_lines()):
            # A failure after the stream began is a 200 whose last object says so.
            if "error" in progress:
                raise EngineError(Kind.FATAL, one_line(progress["error"]))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def _json_lines(lines: Iterator[bytes]) -> Iterator[Json]:
    for line in lines:
        if line.strip():
            yield json.loads(line)
