import threading
from contextlib import ExitStack
from unittest.mock import Mock

import pytest

from swarmkit.executors.docker.clients import Clients, ClosedError


def is_closed(client: object) -> bool:
    assert isinstance(client, Mock)
    return bool(client.close.called)


def test_without_a_call_no_client_is_made() -> None:
    make = Mock()
    assert Clients(make).current is None
    make.assert_not_called()


def test_calls_share_the_first_client() -> None:
    clients = Clients(Mock)
    with clients.hold() as one, clients.hold() as other:
        assert one is other is clients.current
    with clients.hold() as later:
        assert later is one
    assert not is_closed(one)


def test_a_replaced_client_is_closed_when_the_last_call_lets_go_of_it() -> None:
    clients = Clients(Mock)
    with clients.hold() as old:
        with clients.hold() as same:
            with clients.hold(renew=True) as new:
                assert clients.current is new
            assert same is old
            assert not is_closed(old)
        assert not is_closed(old)
    assert is_closed(old)
    assert not is_closed(new)


def test_a_replaced_client_that_nobody_holds_is_closed_at_once() -> None:
    clients = Clients(Mock)
    with clients.hold() as old:
        pass
    with clients.hold(renew=True):
        assert is_closed(old)


def test_a_call_that_fails_lets_go_of_its_client() -> None:
    clients = Clients(Mock)
    with pytest.raises(ValueError, match="refused"), clients.hold() as client:
        raise ValueError("refused")
    clients.close()
    assert is_closed(client)


def test_closing_closes_what_nobody_holds_and_gives_out_nothing_more() -> None:
    clients = Clients(Mock)
    with ExitStack() as held:
        client = held.enter_context(clients.hold())
        clients.close()
        assert clients.current is None
        for renew in (False, True):
            with pytest.raises(ClosedError), clients.hold(renew):
                pass
        assert not is_closed(client)
    assert is_closed(client)


def test_a_client_that_is_made_while_the_engine_is_left_is_closed() -> None:
    made = Mock()

    def make() -> Mock:
        clients.close()
        return made

    clients = Clients(make)
    with pytest.raises(ClosedError), clients.hold():
        pass
    assert is_closed(made)


def test_of_two_that_connect_at_once_both_use_the_quickers_client() -> None:
    made: list[Mock] = []
    meet = threading.Barrier(2)
    used: list[object] = []

    def make() -> Mock:
        meet.wait(5)
        made.append(Mock())
        return made[-1]

    clients = Clients(make)

    def call() -> None:
        with clients.hold() as client:
            used.append(client)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert used[0] is used[1] is clients.current
    assert [is_closed(client) for client in made].count(True) == 1


def test_a_failure_to_connect_is_the_callers_and_the_next_call_tries_again() -> None:
    make = Mock(side_effect=[OSError("away"), Mock()])
    clients = Clients(make)
    with pytest.raises(OSError, match="away"), clients.hold():
        pass
    with clients.hold():
        assert clients.current is not None
