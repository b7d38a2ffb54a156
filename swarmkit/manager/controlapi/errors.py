"""Why a request is refused, without gRPC; ``base`` maps these to statuses.

Refusal
├── InvalidError        the request is wrong, whatever the state
├── MissingError        what it names does not exist
├── TakenError          the name is taken
├── PreconditionError   the state of the swarm does not allow it
└── UnsupportedError    the wish is known and not served
"""


class Refusal(Exception):
    """A request is refused; the text is what the client sees."""


class InvalidError(Refusal):
    """The request is wrong, whatever the state."""


class MissingError(Refusal):
    """What the request names does not exist."""


class TakenError(Refusal):
    """The name is taken."""


class PreconditionError(Refusal):
    """The state of the swarm does not allow it; the same request may succeed later."""


class UnsupportedError(Refusal):
    """The wish is known and not served by this manager."""


def invalid_argument() -> InvalidError:
    """Return the answer to a request without what every such request must have."""
    return InvalidError("invalid argument")


def missing(kind: str, id: str) -> MissingError:
    """Return the answer to a request for an object that does not exist."""
    return MissingError(f"{kind} {id} not found")
