"""Objects as JSON for scripts: field names as on the wire, one document."""

import json
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def as_data(message: Message) -> dict[str, Any]:
    """Return a message as plain data."""
    return MessageToDict(message, preserving_proto_field_name=True)


def one(message: Message, **extra: Any) -> str:
    """Return one object; ``extra`` adds keys of ours."""
    return json.dumps({**as_data(message), **extra}, indent=2)


def many(messages: Iterable[Message]) -> str:
    """Return a list of objects."""
    return json.dumps([as_data(message) for message in messages], indent=2)
