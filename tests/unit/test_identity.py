import os

from hypothesis import given
from hypothesis import strategies as st

from swarmkit.identity import Entropy, base36, is_id, new_id


def test_ids_come_out_letter_for_letter_for_the_contract_vectors() -> None:
    assert new_id(bytes) == "hvy0lj3x0b883f8e30fyp2172"
    assert new_id(lambda n: bytes(range(n))) == "hw05xdvcpbrfi4jekqvbjy4b2"


def test_a_thousand_ids_have_25_base_36_characters_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(i) for i in ids)


def test_base36_pads_on_the_left() -> None:
    assert base36(0, 3) == "000"
    assert base36(35, 2) == "0z"
    assert base36(36**4, 2) == "10000"


@given(st.integers(min_value=0, max_value=2**140))
def test_base36_reads_back_as_the_number(number: int) -> None:
    assert int(base36(number, 1), 36) == number
    assert base36(number, 1).lstrip("0") == base36(number, 1) or number == 0


def test_random_bytes_are_handed_out_once() -> None:
    entropy = Entropy()
    taken = [entropy(17) for _ in range(1000)]
    assert all(len(piece) == 17 for piece in taken)
    assert len(set(taken)) == 1000
    assert len(entropy(5000)) == 5000


def test_a_forked_process_makes_other_ids() -> None:
    entropy = Entropy()
    entropy(17)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, entropy(17))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 17) != entropy(17)
    os.close(reader)
    os.close(writer)
