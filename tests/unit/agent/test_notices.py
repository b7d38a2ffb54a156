"""What a session message means for the node (contract/dispatcher-agent.md, 6; cases 45 to 48)."""

from swarmkit.agent.notices import NodeChange, Notices, listed_managers
from swarmkit.api import messages as api

ROOT = b"-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----\n"


def node(role: api.NodeRole.ValueType = api.NodeRole.WORKER) -> api.Node:
    return api.Node(id="n", spec=api.NodeSpec(desired_role=role))


def test_a_first_node_is_a_change_and_the_same_one_again_is_none() -> None:
    notices = Notices()
    message = api.SessionMessage(node=node())
    assert notices.change(message, ROOT) == NodeChange(node(), None)
    assert notices.change(message, ROOT) is None


def test_status_and_meta_of_the_node_are_no_change() -> None:
    notices = Notices()
    notices.change(api.SessionMessage(node=node()), ROOT)
    message = api.SessionMessage(node=node())
    message.node.status.state = api.NodeStatus.READY
    message.node.meta.version.index = 12
    assert notices.change(message, ROOT) is None


def test_a_changed_role_is_a_change_with_the_whole_node() -> None:
    notices = Notices()
    notices.change(api.SessionMessage(node=node()), ROOT)
    promoted = api.SessionMessage(node=node(api.NodeRole.MANAGER))
    promoted.node.status.state = api.NodeStatus.READY
    assert notices.change(promoted, ROOT) == NodeChange(promoted.node, None)


def test_a_new_node_and_a_new_root_are_one_change() -> None:
    change = Notices().change(api.SessionMessage(node=node(), RootCA=b"new"), ROOT)
    assert change == NodeChange(node(), b"new")


def test_the_trusted_root_or_none_at_all_is_no_change() -> None:
    notices = Notices()
    assert notices.change(api.SessionMessage(RootCA=ROOT), ROOT) is None
    assert notices.change(api.SessionMessage(), ROOT) is None


def test_keys_are_news_only_with_a_lamport_time_not_seen() -> None:
    def keys(*times: int) -> api.SessionMessage:
        return api.SessionMessage(network_bootstrap_keys=[api.EncryptionKey(lamport_time=t) for t in times])

    notices = Notices()
    first = notices.network_keys(keys(1, 2, 3))
    assert first is not None
    assert [key.lamport_time for key in first] == [1, 2, 3]
    assert notices.network_keys(keys(1, 2, 3)) is None
    assert notices.network_keys(keys(2, 3)) is None
    assert notices.network_keys(keys()) is None
    assert notices.network_keys(keys(2, 3, 4)) is not None
    assert notices.network_keys(keys(1)) is not None  # the list was replaced: 1 is unknown again


def test_managers_without_an_address_are_not_listed() -> None:
    def manager(node_id: str, addr: str) -> api.WeightedPeer:
        return api.WeightedPeer(peer=api.Peer(node_id=node_id, addr=addr), weight=10)

    message = api.SessionMessage(managers=[manager("a", "10.0.0.1:4242"), manager("b", "")])
    assert listed_managers(message) == [manager("a", "10.0.0.1:4242")]
    assert listed_managers(api.SessionMessage()) == []
