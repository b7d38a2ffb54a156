import pytest

from swarmkit.net.limits import ConnectionBook, Limits, Throttle, Ticket


def admit(book: ConnectionBook, host: str) -> Ticket:
    ticket = book.admit(host)
    assert isinstance(ticket, Ticket)
    return ticket


def test_one_address_cannot_take_the_places_of_others() -> None:
    book = ConnectionBook(Limits(unproven_per_address=2))
    tickets = [admit(book, "10.0.0.1") for _ in range(2)]
    assert "from one address" in str(book.admit("10.0.0.1"))
    admit(book, "10.0.0.2")
    tickets[0].release()
    admit(book, "10.0.0.1")


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    book = ConnectionBook(Limits(unproven_per_address=1))
    admit(book, "2001:db8::1")
    assert isinstance(book.admit("2001:db8::2"), str)
    admit(book, "2001:db8:0:1::1")


def test_a_proven_connection_counts_no_longer_against_strangers() -> None:
    book = ConnectionBook(Limits(unproven=1, unproven_per_address=1))
    ticket = admit(book, "10.0.0.1")
    assert "without a certificate" in str(book.admit("10.0.0.2"))
    ticket.prove()
    admit(book, "10.0.0.1")
    assert (book.open, book.unproven) == (2, 1)


def test_the_whole_number_is_limited_proven_or_not() -> None:
    book = ConnectionBook(Limits(connections=1))
    ticket = admit(book, "10.0.0.1")
    ticket.prove()
    assert "the limit" in str(book.admit("10.0.0.2"))


def test_a_place_is_given_back_once() -> None:
    book = ConnectionBook(Limits())
    ticket = admit(book, "10.0.0.1")
    ticket.prove()
    ticket.release()
    ticket.release()
    assert (book.open, book.unproven) == (0, 0)


def test_limits_follow_what_the_process_may_open_and_leave_most_to_nodes() -> None:
    limits = Limits().within_descriptors(1024)
    assert limits.connections == (1024 - 256) // 3
    assert limits.unproven == limits.connections // 4
    assert Limits().within_descriptors(1_000_000) == Limits()
    assert Limits().within_descriptors().connections > 0
    assert Limits().within_descriptors(10).connections > 0


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="connections must be above zero"):
        Limits(connections=0)


def test_a_throttle_lets_a_burst_through_and_counts_what_it_held_back() -> None:
    throttle = Throttle(burst=2, interval_seconds=60)
    assert [throttle.ask(now) for now in (0.0, 1.0, 2.0, 59.0)] == [0, 0, None, None]
    assert throttle.ask(60.0) == 2
    assert throttle.ask(120.0) == 0
