"""Reading assignment messages (contract/dispatcher-agent.md, 3.10 and 8)."""

from swarmkit.agent.assignments import Chain, from_tasks, read
from swarmkit.api import messages as api
from tests.fakes.agent_manager import complete, incremental, make_task


def test_changes_are_sorted_by_kind_and_action() -> None:
    message = incremental(
        make_task("t"),
        secrets=[api.Secret(id="s")],
        configs=[api.Config(id="c")],
        remove=[
            api.Assignment(task=api.Task(id="t2")),
            api.Assignment(secret=api.Secret(id="s2")),
            api.Assignment(config=api.Config(id="c2")),
        ],
    )
    message.changes.add(assignment=api.Assignment(volume=api.VolumeAssignment(id="v")))
    message.changes.add()
    changes = read(message.changes)
    assert [task.id for task in changes.tasks] == ["t"]
    assert [secret.id for secret in changes.secrets] == ["s"]
    assert [config.id for config in changes.configs] == ["c"]
    assert (changes.removed_tasks, changes.removed_secrets, changes.removed_configs) == (
        ["t2"],
        ["s2"],
        ["c2"],
    )
    assert changes.volumes == 1


def test_an_unbroken_chain_is_accepted() -> None:
    chain = Chain()
    assert chain.accepts(complete(results_in="1"))
    assert chain.accepts(incremental(applies_to="1", results_in="2"))
    assert chain.accepts(incremental(applies_to="2", results_in="3"))


def test_a_gap_is_not_accepted_and_does_not_move_the_chain() -> None:
    chain = Chain()
    chain.accepts(complete(results_in="1"))
    assert not chain.accepts(incremental(applies_to="2", results_in="3"))
    assert chain.accepts(incremental(applies_to="1", results_in="2"))


def test_a_stream_must_begin_with_a_complete_set() -> None:
    assert not Chain().accepts(incremental(applies_to="", results_in="1"))


def test_a_tasks_message_is_a_complete_set_of_tasks() -> None:
    message = from_tasks(api.TasksMessage(tasks=[make_task("a"), make_task("b")]))
    assert message.type == api.AssignmentsMessage.COMPLETE
    assert [task.id for task in read(message.changes).tasks] == ["a", "b"]
