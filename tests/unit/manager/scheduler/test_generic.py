from swarmkit.manager.scheduler import generic
from swarmkit.manager.scheduler.generic import discrete, named
from tests.unit.manager.scheduler.build import resources, values


def test_amounts_of_one_kind_are_summed() -> None:
    assert generic.amounts([discrete("apple", 1), discrete("pear", 2), discrete("apple", 3)]) == {
        "apple": 4,
        "pear": 2,
    }


def test_a_reservation_by_name_can_never_be_met() -> None:
    assert generic.amounts([named("apple", "red")]) is None


def test_an_amount_is_enough_up_to_its_value() -> None:
    assert generic.enough(resources(apple=5), "apple", 5)
    assert not generic.enough(resources(apple=5), "apple", 6)


def test_a_set_is_enough_up_to_the_number_of_its_values() -> None:
    available = resources(pear="x", apple="a b c")
    assert generic.enough(available, "apple", 3)
    assert not generic.enough(available, "apple", 4)


def test_of_a_missing_kind_not_even_zero_is_enough() -> None:
    assert not generic.enough(resources(apple=5), "pear", 0)
    assert generic.enough(resources(apple=0), "apple", 0)


def test_the_first_entry_of_a_kind_decides_whether_it_is_an_amount() -> None:
    mixed = [*resources(apple="red"), discrete("apple", 9)]
    assert not generic.enough(mixed, "apple", 2)
    assert generic.enough(list(reversed(mixed)), "apple", 2)


def test_claiming_takes_the_first_values_of_a_set_and_the_amount_of_a_number() -> None:
    available = resources(apple="a b c d", pear=3)
    taken = generic.claim(available, {"apple": 2, "pear": 2})
    assert values(taken) == [("apple", "a"), ("apple", "b"), ("pear", 2)]
    assert values(generic.consume(available, taken)) == [("apple", "c"), ("apple", "d"), ("pear", 1)]


def test_claiming_zero_takes_nothing() -> None:
    assert generic.claim(resources(apple="a b", pear=3), {"apple": 0, "pear": 0}) == []


def test_consuming_a_whole_amount_removes_the_entry() -> None:
    assert generic.consume(resources(apple=1), [discrete("apple", 1)]) == []
    assert values(generic.consume(resources(apple=4), [discrete("apple", 1)])) == [("apple", 3)]


def test_consuming_a_value_removes_all_its_duplicates_and_nothing_else() -> None:
    available = [*resources(apple="red red blue"), discrete("pear", 2), named("plum", "red")]
    left = generic.consume(available, [named("apple", "red")])
    assert values(left) == [("apple", "blue"), ("pear", 2), ("plum", "red")]


def test_consuming_another_type_of_the_same_kind_is_passed_over() -> None:
    assert values(generic.consume(resources(apple=2), [named("apple", "red")])) == [("apple", 2)]
    assert values(generic.consume(resources(apple="red"), [discrete("apple", 1)])) == [("apple", "red")]


def test_consuming_leaves_its_arguments_alone() -> None:
    available = resources(apple=4)
    generic.consume(available, [discrete("apple", 3)])
    assert values(available) == [("apple", 4)]


def test_has_compares_amounts_and_values_of_one_type() -> None:
    available = [*resources(apple=5), named("pear", "x")]
    assert generic.has(available, discrete("apple", 1))
    assert generic.has(available, discrete("apple", 5))
    assert not generic.has(available, discrete("apple", 6))
    assert generic.has(available, named("pear", "x"))
    assert not generic.has(available, named("pear", "y"))
    assert not generic.has(available, named("apple", "5"))
    assert not generic.has(available, discrete("pear", 1))
