"""What the store refuses.

StoreError
├── ExistsError           the id is taken
├── NameConflictError     the name is taken
├── NotExistError         no object with this id
├── SequenceError         the object changed since it was read
├── InvalidObjectError    a rule of its table forbids this object or change
├── InUseError            other objects depend on it
├── InvalidSelectorError  the table has no such index
├── VersionAheadError     a watch from a version the log has not reached
├── CompactedError        a watch from a version the log no longer reaches back to
└── DivergenceError       a log entry does not fit the tables: this manager's state is not the others'

Texts are those clients match (contract/control-api.md, 1). What replication refuses is a ``ProposalError``.
"""


class StoreError(Exception):
    """The store refused an operation; the transaction it belongs to can go on or be given up."""


class ExistsError(StoreError):
    """An object with this id exists."""

    def __init__(self) -> None:
        super().__init__("object already exists")


class NameConflictError(StoreError):
    """Another object of the kind has this name, compared without regard to case."""

    def __init__(self) -> None:
        super().__init__("name conflicts with an existing object")


class NotExistError(StoreError):
    """No object of the kind has this id."""

    def __init__(self) -> None:
        super().__init__("object does not exist")


class SequenceError(StoreError):
    """The object passed to an update is not of the stored version."""

    def __init__(self) -> None:
        super().__init__("update out of sequence")


class InvalidObjectError(StoreError):
    """A rule of the table forbids the object or the change."""


class InUseError(StoreError):
    """The object cannot be deleted while others depend on it."""


class InvalidSelectorError(StoreError):
    """The kind of object cannot be found by this selector."""

    def __init__(self, table: str, index: str) -> None:
        super().__init__(f"invalid find argument type: a {table} cannot be found by {index}")


class VersionAheadError(StoreError):
    """A watch asks for changes since a version that lies in the future."""

    def __init__(self, version: int, current: int) -> None:
        super().__init__(f"version {version} is ahead of the current version {current}")


class CompactedError(StoreError):
    """A watch asks for changes that the log no longer holds."""

    def __init__(self, version: int) -> None:
        super().__init__(f"changes since version {version} are no longer in the log")


class DivergenceError(StoreError):
    """A committed log entry cannot be applied: stop the manager rather than go on (D23)."""
