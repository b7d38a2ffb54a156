"""Secrets in objects of the store, which a dump shows only if asked to (contract/cli.md, 11). Pure."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

MARK = "REDACTED"

_PREFIX = "docker.swarmkit.v1."

#: Fields by message; of a map the values, of a list all but the number of elements.
#: PARITY: certificates stay, they are public; the original empties them together with the keys. Options of
#: drivers are added: log and volume drivers take passwords and tokens in them.
SECRET_FIELDS: dict[str, frozenset[str]] = {
    _PREFIX + name: frozenset(fields)
    for name, fields in {
        "AcceptancePolicy.RoleAdmissionPolicy.Secret": {"data"},
        "CAConfig": {"signing_ca_key"},
        "ConfigSpec": {"data"},
        "ContainerSpec": {"env"},
        "ContainerSpec.PullOptions": {"registry_auth"},
        "Driver": {"options"},
        "EncryptionKey": {"key"},
        "ExternalCA": {"options"},
        "GenericRuntimeSpec": {"payload"},
        "JoinTokens": {"worker", "manager"},
        "RootCA": {"ca_key"},
        "RootRotation": {"ca_key"},
        "SecretSpec": {"data"},
        "VolumePublishStatus": {"publish_context"},
        "VolumeInfo": {"volume_context"},
    }.items()
}


def redacted(message: Any) -> Any:
    """Return a copy of a message with the secrets in it, at any depth, replaced by a mark."""
    copy = type(message)()
    copy.CopyFrom(message)
    _redact(copy)
    return copy


def _redact(message: Message) -> None:
    secret = SECRET_FIELDS.get(message.DESCRIPTOR.full_name, frozenset())
    for field, value in message.ListFields():
        if field.name in secret:
            _hide(message, field, value)
        else:
            for inner in _messages(field, value):
                _redact(inner)


def _hide(message: Message, field: FieldDescriptor, value: Any) -> None:
    mark: str | bytes = MARK.encode() if field.type == FieldDescriptor.TYPE_BYTES else MARK
    if _is_map(field):
        for key in value:
            value[key] = mark
    elif field.is_repeated:
        value[:] = [mark] * len(value)
    elif field.message_type is not None:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, mark)


def _messages(field: FieldDescriptor, value: Any) -> Iterable[Message]:
    if field.message_type is None:
        return ()
    if _is_map(field):
        has_messages = field.message_type.fields_by_name["value"].message_type is not None
        return list(value.values()) if has_messages else ()
    return value if field.is_repeated else (value,)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
