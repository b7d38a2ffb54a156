"""Each task sees the secrets and configs it refers to, and no others (contract/dispatcher-agent.md, 10)."""

import pytest

from swarmkit.agent.dependencies import Dependencies, NotAuthorizedError
from swarmkit.agent.exec import DependencyNotReadyError
from swarmkit.api import messages as api
from tests.fakes.agent_manager import make_task


def task_with(secret_id: str = "", config_id: str = "") -> api.Task:
    task = make_task("t")
    if secret_id:
        task.spec.container.secrets.add(secret_id=secret_id)
    if config_id:
        task.spec.container.configs.add(config_id=config_id)
    return task


def secret(secret_id: str, data: bytes = b"x") -> api.Secret:
    return api.Secret(id=secret_id, spec=api.SecretSpec(data=data))


def test_a_referenced_secret_and_config_are_found() -> None:
    store = Dependencies()
    store.reset([secret("s")], [api.Config(id="c")])
    view = store.restricted_to(task_with("s", "c"))
    assert view.get_secret("s") == secret("s")
    assert view.get_config("c").id == "c"


def test_a_secret_made_for_the_task_goes_first_and_shows_the_plain_id() -> None:
    store = Dependencies()
    store.reset([secret("s", b"shared"), secret("s.t", b"own"), secret("s.other", b"foreign")], [])
    found = store.restricted_to(task_with("s")).get_secret("s")
    assert (found.id, found.spec.data) == ("s", b"own")
    assert store.secrets["s.t"].id == "s.t"


def test_asking_by_the_combined_id_is_refused() -> None:
    store = Dependencies()
    store.reset([secret("s.t")], [])
    with pytest.raises(NotAuthorizedError, match=r"^task not authorized to access secret s\.t$"):
        store.restricted_to(task_with("s")).get_secret("s.t")


def test_what_is_not_referenced_is_refused_even_if_it_is_here() -> None:
    store = Dependencies()
    store.reset([secret("s")], [api.Config(id="c")])
    task = task_with()
    task.spec.resource_references.add(resource_id="s", resource_type=api.ResourceType.SECRET)
    view = store.restricted_to(task)
    with pytest.raises(NotAuthorizedError, match=r"^task not authorized to access secret s$"):
        view.get_secret("s")
    with pytest.raises(NotAuthorizedError, match=r"^task not authorized to access config c$"):
        view.get_config("c")


def test_what_has_not_arrived_is_a_temporary_error_and_a_key_error() -> None:
    view = Dependencies().restricted_to(task_with("s", "c"))
    for ask, name in ((view.get_secret, "s"), (view.get_config, "c")):
        with pytest.raises(DependencyNotReadyError, match="has not arrived on this node"):
            ask(name)
        with pytest.raises(KeyError):
            ask(name)


def test_a_task_sees_what_arrives_later() -> None:
    store = Dependencies()
    view = store.restricted_to(task_with("s"))
    store.reset([secret("s")], [])
    assert view.get_secret("s").id == "s"
