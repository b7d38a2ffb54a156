"""Who a process runs as."""

import os

import pytest

from swarmkit.executors.process.spec import UnsupportedError
from swarmkit.executors.process.users import find_user

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


def test_nobody_named_means_the_daemons_own_user() -> None:
    assert find_user("", ()) is None


@root
def test_names_and_numbers_are_found() -> None:
    assert find_user("root", ()) == (0, 0, ())
    assert find_user("root:daemon", ["sys"]) == find_user("0:1", ["3"])


@root
def test_a_number_nobody_has_is_a_user_in_group_0() -> None:
    assert find_user("54321", ()) == (54321, 0, ())


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="unable to find user nobody-like-that"):
        find_user("nobody-like-that", ())
    with pytest.raises(UnsupportedError, match="unable to find group no-such-group"):
        find_user("0:no-such-group", ())
