"""What clients of a swarm saw, and whether one register that nobody ever lost could have shown it to them.

The model, in full. A register holds a value or, before its creation, none. No two writes put the same value.

- ``write(old, new)`` takes effect if the register holds ``old``, and then it holds ``new``. A creation is a
  write from none. A write that was acknowledged took effect, once, between call and answer; one that was
  refused never does; one whose outcome is unknown takes effect once, at any time after its call, or never.
- ``read`` returns what the register holds at some moment between call and answer.

A history is linearizable if such moments can be found for all of its operations. Registers do not know of
each other, so each is checked by itself (Herlihy and Wing: linearizability is local).

The search walks through calls and answers in the order of time and keeps every state the register may be in:
what it holds, and which operations under way are done in it (just-in-time linearization: Lowe, "Testing for
linearizability"). At an answer only those states survive in which the operation is done, or can be done by
letting writes under way take effect first. A read is done in the first state that allows it, for it changes
nothing.
"""

import enum
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

#: What a register holds before its creation.
NOTHING = ""


class Outcome(enum.Enum):
    """What a client knows of its operation: it took effect, it never will, it may have or yet will."""

    OK = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


@dataclass(frozen=True, eq=False)
class Operation:
    """One call of a client.

    Attributes:
        register: its name.
        expected: what a write found there, by the version it gave; None for a read.
        value: what a write put there, or what a read returned.
        called: when the call began, monotonic seconds.
        ended: when the answer came; of no meaning if the outcome is unknown.
        outcome: what the client knows.
        via: the manager that was asked, for reports.
        answer: what it said instead of yes, for reports.
    """

    register: str
    expected: str | None
    value: str
    called: float
    ended: float
    outcome: Outcome = Outcome.OK
    via: str = ""
    answer: str = ""

    @property
    def is_read(self) -> bool:
        return self.expected is None

    def __str__(self) -> str:
        what = f"read {self.value!r}" if self.is_read else f"write {self.expected!r} -> {self.value!r}"
        span = f"{self.called:.4f} to {self.ended:.4f}"
        return f"{span} {self.register} {what} {self.outcome.name} via {self.via} {self.answer}".rstrip()


class NotLinearizableError(AssertionError):
    """No order of the operations explains what was seen; the text shows where the search ended."""


@dataclass(frozen=True)
class _State:
    """What a register holds, and which operations under way are done."""

    value: str
    done: frozenset[Operation] = frozenset()

    def with_reads(self, under_way: Iterable[Operation]) -> "_State":
        """Do every read that finds its value."""
        found = {op for op in under_way if op.is_read and op.value == self.value}
        return _State(self.value, self.done | found)

    def after_one_write(self, under_way: Collection[Operation]) -> "Iterator[_State]":
        """Let each write under way take effect that can."""
        for write in under_way:
            if write.expected == self.value and write not in self.done:
                yield _State(write.value, self.done | {write}).with_reads(under_way)


def _reached(
    states: Iterable[_State], under_way: Collection[Operation], goal: Operation | None
) -> set[_State]:
    """Return the states in which ``goal`` is done, each by as few writes as it takes; without one, all."""
    reached, seen, left = set(), set(states), list(states)
    while left:
        state = left.pop()
        if goal is None or goal in state.done:
            reached.add(state)
            if goal is not None:
                continue
        fresh = set(state.after_one_write(under_way)) - seen
        seen |= fresh
        left += fresh
    return reached


def check_register(operations: Iterable[Operation]) -> set[str]:
    """Check the operations of one register; return what it may hold in the end.

    Raises:
        NotLinearizableError: they are not linearizable.
        ValueError: two writes put the same value: the check would mean little.
    """
    kept = _those_that_count(operations)
    states = {_State(NOTHING)}
    under_way: set[Operation] = set()  # a write of unknown outcome stays for ever
    for _, is_answer, _, operation in _events(kept):
        if not is_answer:
            under_way.add(operation)
            states = {state.with_reads(under_way) for state in states}
            continue
        reached = _reached(states, under_way, operation)
        if not reached:
            raise NotLinearizableError(_report(operation, {state.value for state in states}, kept))
        under_way.remove(operation)
        states = {_State(state.value, state.done - {operation}) for state in reached}
    return {state.value for state in _reached(states, under_way, None)}


def _those_that_count(operations: Iterable[Operation]) -> list[Operation]:
    """Leave out what had no effect and showed nothing."""
    kept = [
        op
        for op in operations
        if op.outcome is Outcome.OK or (op.outcome is Outcome.UNKNOWN and not op.is_read)
    ]
    written = Counter(op.value for op in kept if not op.is_read)
    if repeated := [value for value, count in written.items() if count > 1 or value == NOTHING]:
        raise ValueError(f"written more than once: {repeated}")
    return kept


def _events(operations: Sequence[Operation]) -> list[tuple[float, bool, int, Operation]]:
    """Return calls and answers in the order of time; of two at the same moment the call comes first."""
    calls = [(op.called, False, number, op) for number, op in enumerate(operations)]
    answers = [(op.ended, True, n, op) for n, op in enumerate(operations) if op.outcome is Outcome.OK]
    return sorted(calls + answers, key=lambda event: event[:3])


def _report(culprit: Operation, values: set[str], operations: Iterable[Operation]) -> str:
    """Show the operation that nothing explains, and those before it and at the same time."""
    near = sorted((op for op in operations if op.called <= culprit.ended), key=lambda op: op.called)[-20:]
    lines = "\n".join(f"  {op}" for op in near)
    return f"nothing explains\n  {culprit}\nwhen the register held one of {sorted(values)}, after\n{lines}"


class History:
    """Operations of many clients, recorded from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        """Record an operation that has ended, or whose outcome will not be known."""
        with self._lock:
            self._operations.append(operation)

    @property
    def operations(self) -> list[Operation]:
        """What was recorded so far."""
        with self._lock:
            return list(self._operations)

    def check(self) -> dict[str, set[str]]:
        """Check every register; return what each may hold.

        Raises:
            NotLinearizableError: one is not linearizable.
        """
        registers = defaultdict(list)
        for operation in self.operations:
            registers[operation.register].append(operation)
        return {name: check_register(operations) for name, operations in registers.items()}
