"""The constraint language: contract/scheduler.md, 7 and 14 (Constraints)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.constraint import Constraint, ConstraintError, matches, parse, parse_or_empty


def satisfied(node: api.Node, *expressions: str) -> bool:
    return matches(parse(expressions), node)


def node_with(**fields: object) -> api.Node:
    node = api.Node(id="nodeid1")
    node.description.hostname = str(fields.get("hostname", ""))
    node.status.addr = str(fields.get("addr", ""))
    return node


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("", "constraint expected one operator from ==, !="),
        ("   ", "constraint expected one operator from ==, !="),
        ("node.id=a", "constraint expected one operator from ==, !="),
        ("nodeabc", "constraint expected one operator from ==, !="),
        ("node ~ abc", "constraint expected one operator from ==, !="),
        ("1node==a2", "key '1node' is invalid"),
        ("no de==abc", "key 'no de' is invalid"),
        ("no*de==abc", "key 'no*de' is invalid"),
        ("no$de==abc", "key 'no$de' is invalid"),
        ("no/de==abc", "key 'no/de' is invalid"),
        ("==abc", "key '' is invalid"),
        ("a==b", "key 'a' is invalid"),
        ("a!=b==c", "key 'a!=b' is invalid"),
        ("nodé==abc", "key 'nodé' is invalid"),
        ("node==", "value '' is invalid"),
        ("node==  ", "value '' is invalid"),
        ("ab==b!=c", "value 'b!=c' is invalid"),
        ("ab===x", "value '=x' is invalid"),
        ('node=="x"', "value '\"x\"' is invalid"),
        ("node==a,b", "value 'a,b' is invalid"),
        ("node==é", "value 'é' is invalid"),
    ],
)
def test_an_invalid_expression_is_refused_with_the_part_at_fault(expression: str, text: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        parse([expression])
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("node.id==abc", Constraint("node.id", True, "abc")),
        ("  Node.ID != ABC  ", Constraint("Node.ID", False, "ABC")),
        ("_node.labels.my-label==a b", Constraint("_node.labels.my-label", True, "a b")),
        ("node==[a-b]+c*(n|b)/", Constraint("node", True, "[a-b]+c*(n|b)/")),
        ("node.ip!=2001:db8::/64", Constraint("node.ip", False, "2001:db8::/64")),
        ("node==\\a^b$?-_.", Constraint("node", True, "\\a^b$?-_.")),
    ],
)
def test_a_valid_expression_is_kept_as_written_without_outer_blanks(
    expression: str, expected: Constraint
) -> None:
    assert parse([expression]) == [expected]


def test_one_bad_expression_fails_the_whole_list_or_empties_it() -> None:
    with pytest.raises(ConstraintError, match="key 'x'"):
        parse(["node.id==a", "x==b"])
    assert parse_or_empty(["node.id==a", "x==b"]) == []
    assert len(parse_or_empty(["node.id==a", "node.role==b"])) == 2


def test_no_constraints_match_every_node() -> None:
    assert matches([], api.Node())


@pytest.mark.parametrize(
    "expression", ["unknown.key==x", "unknown.key!=x", "node.labels.==x", "node.labels.!=x"]
)
def test_an_unknown_key_or_a_label_prefix_alone_never_matches(expression: str) -> None:
    assert not satisfied(api.Node(id="x"), expression)


def test_a_missing_attribute_fails_equality_and_passes_inequality() -> None:
    bare = api.Node()
    for key in (
        "node.id",
        "node.hostname",
        "node.name",
        "node.platform.os",
        "node.labels.a",
        "engine.labels.a",
    ):
        assert not satisfied(bare, f"{key}==x")
        assert satisfied(bare, f"{key}!=x")


def test_values_compare_whole_and_without_case_and_patterns_are_literal() -> None:
    node = node_with(hostname="Node-9")
    assert satisfied(node, "node.hostname==nOdE-9")
    assert not satisfied(node, "node.hostname!=node-9")
    assert not satisfied(node, "node.hostname==node")
    assert not satisfied(node, "node.hostname==node-99")
    assert not satisfied(node, "node.hostname==node-*")
    assert satisfied(node_with(hostname="f*o"), "node.hostname==F*O")
    assert not satisfied(node_with(hostname="fxo"), "node.hostname==f.o")


def test_folding_is_one_character_to_one_character() -> None:
    assert not satisfied(node_with(hostname="ß"), "node.hostname==ss")
    assert satisfied(node_with(hostname="\u212aelvin"), "node.hostname==kelvin")


def test_keys_ignore_case_but_label_names_do_not() -> None:
    node = api.Node(id="abc")
    node.spec.annotations.labels["Rack"] = "R1"
    node.description.engine.labels["Disk"] = "ssd"
    assert satisfied(node, "NODE.ID==abc", "Node.Labels.Rack==r1", "ENGINE.labels.Disk==SSD")
    assert not satisfied(node, "node.labels.rack==r1")
    assert not satisfied(node, "engine.labels.disk==ssd")


def test_node_and_engine_labels_are_separate() -> None:
    node = api.Node()
    node.spec.annotations.labels["a"] = "node"
    node.description.engine.labels["a"] = "engine"
    assert satisfied(node, "node.labels.a==node", "engine.labels.a==engine")
    assert not satisfied(node, "node.labels.a==engine")
    assert not satisfied(node, "node.labels.a==node", "engine.labels.a==node")


def test_the_name_is_the_operators_else_the_hosts() -> None:
    node = node_with(hostname="host")
    assert satisfied(node, "node.name==host")
    node.spec.annotations.name = "given"
    assert satisfied(node, "node.name==given", "node.name!=host")


def test_the_role_is_the_observed_one() -> None:
    node = api.Node(role=api.NodeRole.WORKER)
    node.spec.desired_role = api.NodeRole.MANAGER
    assert satisfied(node, "node.role==Worker", "node.role!=manager")
    assert satisfied(api.Node(role=api.NodeRole.MANAGER), "node.role==manager")


def test_the_platform_is_not_normalised() -> None:
    node = api.Node()
    node.description.platform.os = "linux"
    node.description.platform.architecture = "x86_64"
    assert satisfied(node, "node.platform.os==LINUX", "node.platform.arch==x86_64")
    assert not satisfied(node, "node.platform.arch==amd64")


@pytest.mark.parametrize(
    ("address", "value", "inside"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "10.0.0.5/8", True),
        ("11.0.0.1", "10.0.0.5/8", False),
        ("2001:db8::2", "2001:db8:0::2", True),
        ("2001:db8::2", "2001:db8:0::3", False),
        ("2001:db8::2", "2001:db8::/64", True),
        ("2001:db9::2", "2001:db8::/64", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("10.0.0.1", "::ffff:10.0.0.0/104", True),
        ("10.0.0.1", "::/0", False),
    ],
)
def test_addresses_compare_as_addresses_and_networks_by_membership(
    address: str, value: str, inside: bool
) -> None:
    node = node_with(addr=address)
    assert satisfied(node, f"node.ip=={value}") is inside
    assert satisfied(node, f"node.ip!={value}") is not inside


@pytest.mark.parametrize(
    "value", ["10.0.0.256", "10.0.0.01", "10.0.0.0/34", "localhost", "10.0.0.0/255.0.0.0", "::/129"]
)
def test_a_value_that_is_no_address_matches_with_neither_operator(value: str) -> None:
    node = node_with(addr="10.0.0.1")
    assert not satisfied(node, f"node.ip=={value}")
    assert not satisfied(node, f"node.ip!={value}")


@pytest.mark.parametrize("address", ["", "10.0.0.1:4242", "fe80::1%eth0", "somewhere"])
def test_a_node_without_a_usable_address_fails_equality_and_passes_inequality(address: str) -> None:
    node = node_with(addr=address)
    assert not satisfied(node, "node.ip==10.0.0.1")
    assert satisfied(node, "node.ip!=10.0.0.1")
    assert satisfied(node, "node.ip!=10.0.0.0/8")


def test_all_constraints_must_hold() -> None:
    node = node_with(hostname="h", addr="10.0.0.1")
    assert satisfied(node, "node.hostname==h", "node.ip==10.0.0.0/8", "node.id==NODEID1")
    assert not satisfied(node, "node.hostname==h", "node.ip==11.0.0.0/8")
