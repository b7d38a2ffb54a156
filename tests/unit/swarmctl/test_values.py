from collections.abc import Callable

import pytest

from swarmctl.flags import values


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["A=1,B=2"], ["A=1", "B=2"]),
        (["A=1", "B=2"], ["A=1", "B=2"]),
        (['"A=x,y"'], ["A=x,y"]),
        ([""], []),
        ([], []),
        (["a,,b"], ["a", "", "b"]),
    ],
)
def test_each_occurrence_of_a_list_flag_is_one_csv_record(given: list[str], expected: list[str]) -> None:
    assert values.words(given) == expected


@pytest.mark.parametrize(
    ("text", "words"), [('a"b', 'bare " in non-quoted-field'), ('"ab', "unended"), ('"a"b', "unended")]
)
def test_a_stray_quote_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        values.words([text])


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (values.duration_ns, "99999999999999999999h"),
        (values.duration_ns, "-3000000h"),
        (values.duration_ns, "9" * 100_000 + "s"),
        (values.memory, "9999999p"),
        (values.memory, "1" * 100_000),
        (values.nano_cpus, "9223372037"),
        (values.nano_cpus, "1e999999999"),
        (values.nano_cpus, "1e-999999999"),
        (values.nano_cpus, "9" * 100_000),
        (values.unsigned, "9223372036854775808"),
        (values.unsigned, "9" * 100_000),
        (values.signed, "-9223372036854775808"),
        (values.signed, "1" * 100_000),
    ],
)
def test_numbers_that_do_not_fit_the_wire_are_refused_at_once(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(ValueError, match=r"out of range|is not a whole number"):
        parse(text)


@pytest.mark.parametrize(("text", "number"), [("-1", -1), ("+5", 5), ("0", 0), ("007", 7)])
def test_signed_numbers(text: str, number: int) -> None:
    assert values.signed(text) == number


@pytest.mark.parametrize("text", ["", "-", "--1", "1.5", "x", "1_0", "\u0661"])
def test_what_is_no_signed_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        values.signed(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("10s", 10_000_000_000),
        ("1m30s500ms", 90_500_000_000),
        ("1.5h", 5_400_000_000_000),
        ("0", 0),
        ("2us", 2_000),
        ("-5s", -5_000_000_000),
        (".5s", 500_000_000),
    ],
)
def test_durations_are_sums_of_numbers_with_units(text: str, nanoseconds: int) -> None:
    assert values.duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "words"), [("5", "missing unit"), ("1d", "unknown unit"), ("", "invalid"), ("x", "invalid")]
)
def test_wrong_durations_are_refused_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        values.duration_ns(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64m", 67108864),
        ("64MiB", 67108864),
        ("64 mb", 67108864),
        ("1.5g", 1610612736),
        ("10", 10),
        ("1k", 1024),
    ],
)
def test_memory_units_are_binary_in_any_case(text: str, size: int) -> None:
    assert values.memory(text) == size


@pytest.mark.parametrize("text", ["5x", "-5m", "m", "1..5g", ""])
def test_wrong_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        values.memory(text)


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0.5", 500_000_000),
        (".5", 500_000_000),
        ("1e-3", 1_000_000),
        ("1/2", 500_000_000),
        ("2", 2_000_000_000),
    ],
)
def test_cpus_are_exact(text: str, nano: int) -> None:
    assert values.nano_cpus(text) == nano


@pytest.mark.parametrize("text", ["abc", "1/0", "0.0000000001", ""])
def test_wrong_cpus_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid cpu"):
        values.nano_cpus(text)


def test_labels_split_at_the_first_equals_sign_and_drop_blanks() -> None:
    assert values.mapping(["a = b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(ValueError, match="malformed label: x"):
        values.mapping(["x"])


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "", str(2**63)])
def test_counts_are_whole_numbers_the_server_takes(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        values.unsigned(text)
