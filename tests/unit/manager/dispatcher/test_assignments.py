"""What a node is sent (contract/dispatcher-agent.md, 3.10; cases 25 to 28, 30, 31, 33, 35 to 37)."""

from collections.abc import Iterable

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher.assignments import AssignmentSet, differs_only_in_status
from swarmkit.manager.dispatcher.references import task_references
from swarmkit.store import Store
from tests.fakes.loop import VirtualClock
from tests.unit.manager.dispatcher.bench import task

STATES = sorted(api.TaskState.values())
PUBLISH = api.VolumePublishStatus


def with_secrets(made: api.Task, *secret_ids: str) -> api.Task:
    for secret_id in secret_ids:
        made.spec.container.secrets.add(secret_id=secret_id)
    return made


def with_configs(made: api.Task, *config_ids: str) -> api.Task:
    for config_id in config_ids:
        made.spec.container.configs.add(config_id=config_id)
    return made


def with_resources(made: api.Task, kind: api.ResourceType.ValueType, *ids: str) -> api.Task:
    for resource_id in ids:
        made.spec.resource_references.add(resource_id=resource_id, resource_type=kind)
    return made


def in_state(made: api.Task, state: int) -> api.Task:
    copy = api.Task()
    copy.CopyFrom(made)
    copy.status.state = state  # type: ignore[assignment]
    copy.meta.version.index += 1
    return copy


def shown(changes: Iterable[api.AssignmentChange]) -> set[str]:
    """Write changes as ``UPDATE task t``, checking that none comes twice."""
    lines = []
    for change in changes:
        kind = change.assignment.WhichOneof("item")
        assert kind is not None
        item = getattr(change.assignment, kind)
        lines.append(f"{api.AssignmentChange.AssignmentAction.Name(change.action)} {kind} {item.id}")
    assert len(lines) == len(set(lines))
    return set(lines)


class Node:
    """An assignment set on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.assigned = AssignmentSet("worker")

    def take(self) -> set[str]:
        self.assigned.check_invariants()
        return shown(self.assigned.take_changes())

    def start(self) -> set[str]:
        self.assigned.start(self.store.view())
        return self.take()

    def update(self, item: api.Task | api.Volume) -> set[str]:
        reader = self.store.view()
        if isinstance(item, api.Task):
            changed = self.assigned.update_task(reader, item)
        else:
            changed = self.assigned.update_volume(reader, item)
        lines = self.take()
        assert changed == bool(lines)
        return lines

    def delete(self, item: api.Task) -> set[str]:
        changed = self.assigned.delete_task(item)
        lines = self.take()
        assert changed == bool(lines)
        return lines


@pytest.fixture
async def node(clock: VirtualClock) -> Node:
    store = Store(clock)

    def fill(tx: object) -> None:
        for name in ("s1", "s2", "s3"):
            secret = api.Secret(id=name)
            secret.spec.annotations.name = name
            secret.spec.data = name.encode()
            tx.create(secret)  # type: ignore[attr-defined]
        for name in ("c1", "c2"):
            config = api.Config(id=name)
            config.spec.annotations.name = name
            tx.create(config)  # type: ignore[attr-defined]

    await store.update(fill)
    return Node(store)


async def one_task_per_state(node: Node) -> list[api.Task]:
    """Store a task in each state, with a secret and a config of its own and one of each that all share."""
    tasks = []
    for state in STATES:
        name = api.TaskState.Name(state)
        made = with_configs(with_secrets(task(name, state=state), f"s-{name}", "s1"), f"c-{name}", "c1")
        tasks.append(made)

    def fill(tx: object) -> None:
        for made in tasks:
            tx.create(made)  # type: ignore[attr-defined]
            for kind, prefix in ((api.Secret, "s"), (api.Config, "c")):
                dependency = kind(id=f"{prefix}-{made.id}")
                dependency.spec.annotations.name = dependency.id
                tx.create(dependency)  # type: ignore[attr-defined]

    await node.store.update(fill)
    return node.store.view().find(api.Task)


async def test_at_the_start_tasks_from_assigned_on_are_sent_with_what_the_running_ones_need(
    node: Node,
) -> None:
    tasks = await one_task_per_state(node)
    expected = {"UPDATE secret s1", "UPDATE config c1"}
    for made in tasks:
        if made.status.state >= api.TaskState.ASSIGNED:
            expected.add(f"UPDATE task {made.id}")
        if api.TaskState.ASSIGNED <= made.status.state <= api.TaskState.RUNNING:
            expected |= {f"UPDATE secret s-{made.id}", f"UPDATE config c-{made.id}"}
    assert node.start() == expected


async def test_of_tasks_rewritten_unchanged_only_assigned_ones_are_sent_and_finished_ones_release(
    node: Node,
) -> None:
    tasks = await one_task_per_state(node)
    node.start()
    expected = {"UPDATE task ASSIGNED"}
    for made in tasks:
        lines = node.update(in_state(made, made.status.state))
        if made.status.state > api.TaskState.RUNNING:
            # The shared ones are still used by running tasks.
            expected |= {f"REMOVE secret s-{made.id}", f"REMOVE config c-{made.id}"}
        assert lines == {line for line in expected if line.endswith(made.id)}


async def test_of_deleted_tasks_everything_is_removed_even_dependencies_that_do_not_exist(node: Node) -> None:
    tasks = await one_task_per_state(node)
    node.start()
    lines: set[str] = set()
    expected = {"REMOVE secret s1", "REMOVE config c1"}
    for made in tasks:
        lines |= node.delete(made)
        if made.status.state >= api.TaskState.ASSIGNED:
            expected |= {f"REMOVE {kind}{made.id}" for kind in ("task ", "secret s-", "config c-")}
    assert lines == expected


async def test_a_removed_object_carries_its_id_alone(node: Node) -> None:
    made = with_secrets(task("t"), "s1")
    node.update(made)
    node.assigned.delete_task(made)
    items = [change.assignment for change in node.assigned.take_changes()]
    assert items == [api.Assignment(task=api.Task(id="t")), api.Assignment(secret=api.Secret(id="s1"))]


async def test_a_task_below_assigned_is_not_sent_and_its_deletion_neither(node: Node) -> None:
    made = with_secrets(task("t", state=api.TaskState.PENDING), "s1")
    assert node.update(made) == set()
    assert node.delete(made) == set()


@pytest.mark.parametrize(
    "state", [s for s in STATES if s > api.TaskState.ASSIGNED], ids=lambda s: api.TaskState.Name(s)
)
async def test_a_status_alone_is_not_sent_back(node: Node, state: int) -> None:
    made = task("t")
    node.update(made)
    assert node.update(in_state(made, state)) == set()


async def test_a_changed_desired_state_is_sent_and_leaves_dependencies_alone(node: Node) -> None:
    made = with_secrets(task("t", state=api.TaskState.RUNNING), "s1")
    node.update(made)
    stopping = in_state(made, api.TaskState.RUNNING)
    stopping.desired_state = api.TaskState.SHUTDOWN
    assert node.update(stopping) == {"UPDATE task t"}
    assert node.update(in_state(stopping, api.TaskState.SHUTDOWN)) == {"REMOVE secret s1"}


async def test_a_finished_task_keeps_what_another_task_needs(node: Node) -> None:
    first = with_configs(with_secrets(task("t1"), "s1"), "c1")
    second = with_configs(with_secrets(task("t2"), "s1"), "c1")
    node.update(first)
    node.update(second)
    assert node.update(in_state(first, api.TaskState.FAILED)) == set()
    assert node.delete(second) == {"REMOVE task t2", "REMOVE secret s1", "REMOVE config c1"}


async def test_a_config_is_sent_to_its_first_user_and_a_container_secret_to_each(node: Node) -> None:
    assert node.update(with_configs(with_secrets(task("t1"), "s1"), "c1")) == {
        "UPDATE task t1",
        "UPDATE secret s1",
        "UPDATE config c1",
    }
    assert node.update(with_configs(with_secrets(task("t2"), "s1"), "c1")) == {
        "UPDATE task t2",
        "UPDATE secret s1",
    }


async def test_a_secret_of_resource_references_is_sent_to_its_first_user_only(node: Node) -> None:
    for number, expected in ((1, {"UPDATE task t1", "UPDATE secret s1"}), (2, {"UPDATE task t2"})):
        made = with_resources(task(f"t{number}"), api.ResourceType.SECRET, "s1")
        assert node.update(made) == expected


async def test_a_secret_named_in_every_way_comes_once(node: Node) -> None:
    made = with_resources(with_secrets(task("t"), "s1", "s1"), api.ResourceType.SECRET, "s1", "s1")
    assert node.update(made) == {"UPDATE task t", "UPDATE secret s1"}
    assert node.delete(made) == {"REMOVE task t", "REMOVE secret s1"}


def test_resource_references_to_tasks_and_volumes_are_no_dependencies() -> None:
    made = task("t")
    for kind in (api.ResourceType.TASK, api.ResourceType.VOLUME):
        with_resources(made, kind, "x")
    with_resources(made, api.ResourceType.CONFIG, "c1")
    references = task_references(made)
    assert (references.own_secrets, references.shared_secrets, references.configs) == ((), (), ("c1",))


async def test_a_missing_dependency_is_left_out_and_the_task_sent(node: Node) -> None:
    made = with_configs(with_secrets(task("t"), "gone", "s1"), "lost")
    assert node.update(made) == {"UPDATE task t", "UPDATE secret s1"}
    assert node.delete(made) == {
        "REMOVE task t",
        "REMOVE secret gone",
        "REMOVE secret s1",
        "REMOVE config lost",
    }


async def test_a_secret_with_a_driver_is_left_out_and_the_task_sent(node: Node) -> None:
    secret = api.Secret(id="driven")
    secret.spec.driver.name = "vault"
    await node.store.update(lambda tx: tx.create(secret))
    assert node.update(with_secrets(task("t"), "driven")) == {"UPDATE task t"}


async def test_data_goes_out_as_stored_with_templating_unexpanded(node: Node) -> None:
    secret = api.Secret(id="template")
    secret.spec.data = b"{{.Node.ID}}"
    secret.spec.templating.name = "golang"
    await node.store.update(lambda tx: tx.create(secret))
    node.assigned.update_task(node.store.view(), with_secrets(task("t"), "template"))
    sent = node.assigned.take_changes()[0].assignment.secret
    assert sent == node.store.view().get(api.Secret, "template")


async def test_the_task_is_sent_as_stored(node: Node) -> None:
    made = task("t")
    made.networks.add().network.id = "net"
    made.service_annotations.name = "web"
    node.assigned.update_task(node.store.view(), made)
    assert node.assigned.take_changes()[0].assignment.task == made


async def test_dependencies_come_before_the_task_that_needs_them(node: Node) -> None:
    node.assigned.update_task(node.store.view(), with_secrets(task("t"), "s1"))
    kinds = [change.assignment.WhichOneof("item") for change in node.assigned.take_changes()]
    assert kinds == ["secret", "task"]


async def test_of_several_changes_of_one_object_the_last_is_sent(node: Node) -> None:
    made = with_secrets(task("t"), "s1")
    reader = node.store.view()
    node.assigned.update_task(reader, made)
    node.assigned.update_task(reader, made)
    node.assigned.delete_task(made)
    assert node.take() == {"REMOVE task t", "REMOVE secret s1"}


def test_tasks_are_compared_without_status_and_meta() -> None:
    one = task("t")
    other = in_state(one, api.TaskState.FAILED)
    assert differs_only_in_status(one, other)
    other.spec.container.env.append("A=1")
    assert not differs_only_in_status(one, other)


# Volumes


def volume(
    state: api.VolumePublishStatus.State.ValueType, *secret_ids: str, node_id: str = "worker"
) -> api.Volume:
    made = api.Volume(id="v")
    made.spec.driver.name = "csi"
    made.spec.access_mode.mount.SetInParent()
    for secret_id in secret_ids:
        made.spec.secrets.add(key=f"key-{secret_id}", secret=secret_id)
    made.volume_info.volume_id = "plugin-v"
    made.volume_info.volume_context["zone"] = "z"
    made.publish_status.add(node_id="other", state=PUBLISH.PUBLISHED, publish_context={"device": "wrong"})
    made.publish_status.add(node_id=node_id, state=state, publish_context={"device": "sdb"})
    return made


async def test_a_volume_is_sent_once_it_is_published_with_this_nodes_context_and_its_secrets(
    node: Node,
) -> None:
    assert node.update(volume(PUBLISH.PENDING_PUBLISH, "s1")) == set()
    node.assigned.update_volume(node.store.view(), volume(PUBLISH.PUBLISHED, "s1"))
    secret, sent = node.assigned.take_changes()
    assert secret.assignment.secret.id == "s1"
    assert sent.action == api.AssignmentChange.UPDATE
    expected = api.VolumeAssignment(
        id="v",
        volume_id="plugin-v",
        driver=api.Driver(name="csi"),
        volume_context={"zone": "z"},
        publish_context={"device": "sdb"},
        secrets=[api.VolumeSecret(key="key-s1", secret="s1")],
    )
    expected.access_mode.mount.SetInParent()
    assert sent.assignment.volume == expected


async def test_a_volume_published_again_with_another_context_is_not_sent_again(node: Node) -> None:
    node.update(volume(PUBLISH.PUBLISHED))
    again = volume(PUBLISH.PUBLISHED)
    again.publish_status[1].publish_context["device"] = "sdc"
    assert node.update(again) == set()


async def test_unpublishing_removes_the_volume_then_its_secrets(node: Node) -> None:
    node.update(volume(PUBLISH.PUBLISHED, "s1"))
    leaving = volume(PUBLISH.PENDING_NODE_UNPUBLISH, "s1")
    assert node.update(leaving) == {"REMOVE volume v", "UPDATE secret s1"}
    assert node.update(leaving) == set()
    left = volume(PUBLISH.PENDING_UNPUBLISH, "s1")
    assert node.update(left) == {"REMOVE secret s1"}
    assert node.update(left) == set()


async def test_a_volume_whose_entry_vanished_at_once_gives_up_its_secrets(node: Node) -> None:
    node.update(volume(PUBLISH.PUBLISHED, "s1"))
    gone = volume(PUBLISH.PUBLISHED, "s1", node_id="third")
    assert node.update(gone) == {"REMOVE secret s1"}
    assert node.update(gone) == set()


async def test_a_volume_shares_its_secrets_with_tasks(node: Node) -> None:
    node.update(volume(PUBLISH.PUBLISHED, "s1"))
    made = with_secrets(task("t"), "s1")
    node.update(made)
    assert node.update(volume(PUBLISH.PENDING_UNPUBLISH, "s1")) == set()
    assert node.delete(made) == {"REMOVE task t", "REMOVE secret s1"}


async def test_a_volume_to_unpublish_is_removed_even_in_the_first_message_and_in_full(node: Node) -> None:
    await node.store.update(lambda tx: tx.create(volume(PUBLISH.PENDING_NODE_UNPUBLISH, "s1")))
    node.assigned.start(node.store.view())
    secret, removed = node.assigned.take_changes()
    assert secret.assignment.secret.id == "s1"
    assert removed.action == api.AssignmentChange.REMOVE
    assert removed.assignment.volume.volume_id == "plugin-v"


@pytest.mark.parametrize("state", [PUBLISH.PENDING_PUBLISH, PUBLISH.PENDING_UNPUBLISH])
async def test_a_volume_not_here_yet_or_gone_already_is_not_in_the_first_message(
    node: Node, state: api.VolumePublishStatus.State.ValueType
) -> None:
    await node.store.update(lambda tx: tx.create(volume(state, "s1")))
    assert node.start() == set()


async def test_volumes_of_other_nodes_are_not_sent(node: Node) -> None:
    assert node.update(volume(PUBLISH.PUBLISHED, node_id="third")) == set()


async def test_a_volume_without_a_driver_is_never_sent(node: Node) -> None:
    made = volume(PUBLISH.PUBLISHED)
    made.spec.ClearField("driver")
    assert node.update(made) == set()
