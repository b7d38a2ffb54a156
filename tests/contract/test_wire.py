"""Every record of the wire contract against the generated descriptors."""

import importlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, timestamp_pb2  # noqa: F401
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, ServiceDescriptor

PACKAGE = "docker.swarmkit.v1"
#: The service Raft and what its messages carry belong to another consensus library.
FOREIGN_TYPES = {"raftpb.Message"}
FOREIGN_SERVICES = {f"{PACKAGE}.Raft"}
SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


@dataclass(frozen=True)
class Record:
    file: str
    owner: str
    kind: str
    rest: tuple[str, ...]

    def __str__(self) -> str:
        return "-".join((self.kind, self.owner, *self.rest[:2]))


def records() -> list[Record]:
    found = []
    file = owner = ""
    for line in Path(__file__).with_name("wire.tsv").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        kind, *rest = line.split("\t")
        if kind == "file":
            file = rest[0]
            importlib.import_module(f"swarmkit.api.{file.removesuffix('.proto')}_pb2")
            continue
        if kind in ("message", "enum", "service"):
            owner = rest[0]
        found.append(Record(file, owner, kind, tuple(rest)))
    return found


RECORDS = records()
POOL = descriptor_pool.Default()


def full_name(name: str) -> str:
    return name if name.startswith((PACKAGE, "google.")) else f"{PACKAGE}.{name}"


def message(name: str) -> Descriptor:
    return POOL.FindMessageTypeByName(full_name(name))


def type_name(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        entry = field.message_type
        if entry.GetOptions().map_entry:
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            return f"map<{type_name(key)},{type_name(value)}>"
        return entry.full_name
    if field.enum_type is not None:
        return field.enum_type.full_name
    return SCALARS[field.type]


def expected_type(text: str) -> str:
    if text.startswith("map<"):
        key, value = text[4:-1].split(",")
        return f"map<{expected_type(key.strip())},{expected_type(value.strip())}>"
    return text if text in SCALARS.values() else full_name(text)


def check_field(record: Record) -> None:
    number, name, kind = record.rest[:3]
    descriptor = message(record.owner)
    if kind in FOREIGN_TYPES:
        assert name not in descriptor.fields_by_name
        return
    field = descriptor.fields_by_name[name]
    assert field.number == int(number)
    assert type_name(field) == expected_type(kind)
    if not kind.startswith("map<"):
        assert field.is_repeated == ("repeated" in record.rest[3:])
    oneof = [text.removeprefix("oneof ") for text in record.rest[3:] if text.startswith("oneof ")]
    assert ([field.containing_oneof.name] if field.containing_oneof else []) == oneof


def check_value(record: Record) -> None:
    enum: EnumDescriptor = POOL.FindEnumTypeByName(full_name(record.owner))
    assert enum.values_by_name[record.rest[1]].number == int(record.rest[0])


def check_rpc(record: Record) -> None:
    service: ServiceDescriptor = POOL.FindServiceByName(record.owner)
    method = service.methods_by_name[record.rest[0]]
    for text, descriptor, streaming in (
        (record.rest[1], method.input_type, method.client_streaming),
        (record.rest[2], method.output_type, method.server_streaming),
    ):
        assert streaming == text.startswith("stream ")
        assert descriptor.full_name == full_name(text.removeprefix("stream "))


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_generated_code_holds_each_record_of_the_wire_contract(record: Record) -> None:
    if record.owner in FOREIGN_SERVICES:
        with pytest.raises(KeyError):
            POOL.FindServiceByName(record.owner)
        return
    if record.kind == "message":
        found: Descriptor | EnumDescriptor = message(record.rest[0])
        assert found.file.name == f"swarmkit/api/{record.file}"
    elif record.kind == "enum":
        assert POOL.FindEnumTypeByName(full_name(record.rest[0])).file.name == f"swarmkit/api/{record.file}"
    elif record.kind == "service":
        POOL.FindServiceByName(record.rest[0])
    else:
        {"field": check_field, "value": check_value, "rpc": check_rpc}[record.kind](record)


def test_nothing_is_declared_that_the_contract_does_not_have() -> None:
    declared = {r.owner for r in RECORDS if r.kind == "message"}
    fields = {(r.owner, r.rest[1]) for r in RECORDS if r.kind == "field"}

    def walk(descriptor: Descriptor) -> None:
        if descriptor.GetOptions().map_entry:
            return
        name = descriptor.full_name.removeprefix(f"{PACKAGE}.")
        assert name in declared
        for field in descriptor.fields:
            assert (name, field.name) in fields
        for nested in descriptor.nested_types:
            walk(nested)

    for file in {r.file for r in RECORDS}:
        for top in POOL.FindFileByName(f"swarmkit/api/{file}").message_types_by_name.values():
            walk(top)
