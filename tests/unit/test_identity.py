from swarmkit.identity import base36, is_id, new_id


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
