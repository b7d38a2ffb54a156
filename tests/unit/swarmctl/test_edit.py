"""Who writes in between decides: the swarm's own writes are tried over, a user's are not undone."""

from collections.abc import Callable

import grpc
import pytest

from swarmctl.base import Failure
from swarmctl.client import Client, OutOfSequence
from swarmctl.edit import ATTEMPTS, edit
from swarmkit.api import messages as api
from tests.unit.swarmctl.test_client import FailedCall


class Stored:
    """A service on a manager that compares versions."""

    def __init__(self) -> None:
        self.service = api.Service(id="s")
        self.service.spec.annotations.name = "web"
        self.in_between: list[Callable[[api.Service], None]] = []
        self.writes = 0

    def read(self) -> api.Service:
        found = api.Service()
        found.CopyFrom(self.service)
        return found

    def write(self, found: api.Service) -> str:
        self.writes += 1
        if self.in_between:
            self.in_between.pop(0)(self.service)
            self.service.meta.version.index += 1
        if found.meta.version != self.service.meta.version:
            raise OutOfSequence("update out of sequence")
        self.service.CopyFrom(found)
        self.service.spec.annotations.labels["done"] = "yes"
        return found.id


def progress(service: api.Service) -> None:
    service.update_status.message += "x"


def test_what_the_swarm_writes_in_between_is_kept_and_the_change_made_on_top() -> None:
    stored = Stored()
    stored.in_between = [progress, progress]
    assert edit(stored.read, stored.write) == "s"
    assert (stored.writes, stored.service.update_status.message) == (3, "xx")
    assert stored.service.spec.annotations.labels["done"] == "yes"


def test_what_a_user_writes_in_between_is_not_undone() -> None:
    stored = Stored()
    stored.in_between = [progress, lambda service: service.spec.annotations.labels.update(other="1")]
    with pytest.raises(OutOfSequence, match="update out of sequence"):
        edit(stored.read, stored.write)
    assert dict(stored.service.spec.annotations.labels) == {"other": "1"}


def test_an_object_that_another_has_replaced_under_its_name_is_not_touched() -> None:
    stored = Stored()
    stored.in_between = [lambda service: setattr(service, "id", "another")]
    with pytest.raises(OutOfSequence):
        edit(stored.read, stored.write)


def test_it_gives_up_in_the_end() -> None:
    stored = Stored()
    stored.in_between = [progress] * (ATTEMPTS + 1)
    with pytest.raises(OutOfSequence):
        edit(stored.read, stored.write)
    assert stored.writes == ATTEMPTS


def test_other_failures_are_not_tried_over() -> None:
    stored = Stored()

    def refuse(found: api.Service) -> str:
        stored.writes += 1
        raise Failure("no changes detected")

    with pytest.raises(Failure, match="no changes detected"):
        edit(stored.read, refuse)
    assert stored.writes == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN])
def test_an_old_version_is_known_by_the_managers_words(code: grpc.StatusCode) -> None:
    with grpc.insecure_channel("unix:/nowhere") as channel:
        client = Client("/nowhere", channel)

        def refuse(request: object, timeout: float) -> None:
            raise FailedCall(code, "update out of sequence")

        with pytest.raises(OutOfSequence, match="update out of sequence"):
            client.call(refuse, object())  # type: ignore[arg-type]
