"""Rounds, their echoes, and the lease that a majority of echoes gives a leader. Pure.

Rules: contract/pysyncobj-hazards.md, 10, "Linearizable read"; Ongaro's dissertation, 6.4.

Everything a leader sends carries the number of a round; whoever has processed it puts the newest one into its
replies. A round that a majority has echoed, the leader itself being one of it, proves two things:

- When the round began, no later term had a leader: its voters would have refused the round. This holds
  whatever clocks do.
- Until the shortest promise of that majority is over, counted from the **beginning** of the round, there
  will be none: each of them heard this leader no earlier than that, and elects nobody for one shortest
  election time-out after hearing a leader. That is the lease.

What the promise rests on:

- Votes and pre-votes are refused that long (admission, R7), and the own deadline is no shorter (library).
- A member that starts counts as having just heard a leader: in its former life it may have (driver). If its
  time-out was shortened by the restart, the old promise is not kept: wait for that long before starting.
- The only election that passes over the promise is the one that the leader asks for itself, ``TimeoutNow``.
  It may come late, so no lease is relied upon for the rest of a term in which one was sent, whatever became
  of it. The heir forgets the wish in another term (elections), and its marked vote requests are for the next.
- Members are counted at the moment of reading: groups that differ by one change share a member in any two
  majorities, and a leader begins no second change before the first is applied (group).

The lease assumes that no clock runs more than a tenth faster or slower than another, and that time does not
stop for a machine while it goes on for the others: one that was suspended may trust a lease wrongly, until
its clock has passed the rest of it.
"""

from collections import deque
from collections.abc import Collection

from swarmkit.raft.quorum import majority

#: The part of a promise that a leader relies on: room for clocks that do not run alike. Delays of scheduling
#: need none: a lease that was valid when it was looked at, after the read began, is proof enough, however
#: long the read takes then.
LEASE_FRACTION = 0.9

#: What is sent within this time of a round's beginning belongs to it: bounds the rounds that are remembered
#: to a hundred a second, besides those that somebody waits for.
ROUND_SECONDS = 0.01


class Lease:
    """The rounds of one leadership after the other.

    Args:
        promise_seconds: this node's shortest election time-out; longer promises of others are cut to it.
    """

    def __init__(self, promise_seconds: float) -> None:
        self._promise_seconds = promise_seconds
        self._is_void = False
        #: The newest round; 0: none yet.
        self.number = 0
        # Rounds with the times at which they began, consecutive; only those that could still give a lease.
        self._begun: deque[tuple[int, float]] = deque()
        # By peer; who was a member during this leadership.
        self._echoed: dict[int, int] = {}
        self._until: dict[int, float] = {}

    def begin(self) -> None:
        """Begin with a new leadership: nothing is proved yet."""
        self._is_void = False
        self.number = 0
        self._begun.clear()
        self._echoed.clear()
        self._until.clear()

    def void(self) -> None:
        """Rely on no lease any more in this term: the leader asked another member to campaign."""
        self._is_void = True

    def stamp(self, now: float, fresh: bool) -> int:
        """Return the round of what is sent ``now``; ``fresh``: one that begins now."""
        if fresh or not self._begun or now >= self._begun[-1][1] + ROUND_SECONDS:
            self.number += 1
            self._begun.append((self.number, now))
            while self._begun[0][1] < now - self._promise_seconds:
                self._begun.popleft()
        return self.number

    def echoed(self, peer: int, number: int, promise_seconds: float) -> None:
        """Note that a peer, in this leader's term, has processed this round and promises as much."""
        if not self._echoed.get(peer, 0) < number <= self.number:
            return
        self._echoed[peer] = number
        position = number - self._begun[0][0]
        if position >= 0:
            promise = min(promise_seconds, self._promise_seconds)
            until = self._begun[position][1] + LEASE_FRACTION * promise
            self._until[peer] = max(until, self._until.get(peer, until))

    def confirmed(self, peers: Collection[int]) -> int:
        """Return the newest round that a majority has processed; a lone member confirms even the next."""
        needed = majority(len(peers) + 1) - 1
        if not needed:
            return self.number + 1
        return sorted((self._echoed.get(peer, 0) for peer in peers), reverse=True)[needed - 1]

    def holds(self, now: float, peers: Collection[int]) -> bool:
        """Tell whether nobody else can lead at ``now``, given that this node does. ``peers``: the others."""
        needed = majority(len(peers) + 1) - 1
        if not needed:
            return True
        if self._is_void:
            return False
        untils = sorted((self._until[peer] for peer in peers if peer in self._until), reverse=True)
        return len(untils) >= needed and now < untils[needed - 1]
