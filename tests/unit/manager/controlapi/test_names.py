"""Names of services (contract/control-api.md, 1, Names)."""

import time

import pytest

from swarmkit.manager.controlapi.errors import InvalidError
from swarmkit.manager.controlapi.names import check_service_name


@pytest.mark.parametrize("name", ["a", "A9", "a-b", "a--b", "a_b", "a" * 63])
def test_valid_names_pass(name: str) -> None:
    check_service_name(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "meta: name must be provided"),
        ("a_", "valid as a DNS name component"),
        ("-x", "valid as a DNS name component"),
        ("a.b", "valid as a DNS name component"),
        ("bad name", "valid as a DNS name component"),
        ("a\n", "valid as a DNS name component"),
        ("é", "valid as a DNS name component"),
        ("a" * 64, "63 characters or fewer"),
    ],
)
def test_each_rule_has_its_text(name: str, text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        check_service_name(name)


def test_a_hostile_name_takes_no_time() -> None:
    start = time.perf_counter()
    with pytest.raises(InvalidError):
        check_service_name("-a" * 100_000 + "!")
    assert time.perf_counter() - start < 1
