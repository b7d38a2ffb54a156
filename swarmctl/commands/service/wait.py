"""``--wait``: follow a service until it has converged, or cannot."""

import sys
import time

import click

from swarmctl.base import Failure
from swarmctl.client import Client
from swarmctl.converge import Course, Look, Verdict, line
from swarmkit.api import messages as api

#: Pause between looks in seconds.
PAUSE = 0.25
BAR_WIDTH = 30


def _look(client: Client, service_id: str, course: Course) -> Look:
    filters = api.ListTasksRequest.Filters
    service = client.service(service_id)
    current = {task.id for task in client.tasks(filters(service_ids=[service_id], up_to_date=True))}
    return course.look(service, client.tasks(filters(service_ids=[service_id])), current)


class Progress:
    """A bar that is drawn again on a terminal; a line whenever something changed when piped."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""
        self._told: set[str] = set()

    def show(self, seen: Look) -> None:
        """Show a look."""
        for reason in seen.reasons:
            if reason not in self._told:
                self._told.add(reason)
                self._write(reason)
        text = line(seen)
        if text == self._last:
            return
        self._last = text
        if self._terminal:
            filled = BAR_WIDTH * seen.running // max(seen.wanted, 1)
            click.echo(f"\r[{'#' * filled:<{BAR_WIDTH}}] {text}\x1b[K", err=True, nl=False)
        else:
            click.echo(text, err=True)

    def _write(self, text: str) -> None:
        click.echo(f"\r{text}\x1b[K" if self._terminal else text, err=True)
        self._last = ""

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._terminal:
            click.echo("", err=True)


def wait_for(client: Client, service_id: str, timeout_ns: int | None) -> None:
    """Wait until a service has converged.

    Raises:
        Failure: it cannot converge, or not in time.
    """
    started = time.monotonic()
    steady_since: float | None = None
    progress, course = Progress(), Course()
    try:
        while True:
            seen = _look(client, service_id, course)
            progress.show(seen)
            now = time.monotonic()
            if seen.verdict is Verdict.FAILED:
                raise Failure(
                    f"the service does not converge: {seen.reasons[0] if seen.reasons else line(seen)}"
                )
            if seen.verdict is Verdict.CONVERGING:
                steady_since = None
            elif steady_since is None:
                steady_since = now
            elif now - steady_since >= seen.steady_seconds:
                return
            if timeout_ns is not None and now - started > timeout_ns / 1e9:
                raise Failure(f"the service has not converged in time: {line(seen)}")
            time.sleep(PAUSE)
    finally:
        progress.end()
