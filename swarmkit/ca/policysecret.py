"""Secrets of acceptance policies: bcrypt hashes (contract/security.md, 12)."""

import bcrypt

from swarmkit.api import messages as api

#: bcrypt looks at no more bytes of a secret than these.
_MAX_BYTES = 72
#: The costliest hash that is checked: each step doubles the time, and 14 takes about a second.
_MAX_COST = 14


def wrong_secret(secret: api.AcceptancePolicy.RoleAdmissionPolicy.Secret, given: str) -> str:
    """Say what is wrong with a secret that was given; empty if it is right.

    Takes about 70 ms of processor time at the usual cost of 10: call it in a thread.
    """
    if not given:
        return "none was given"
    if secret.alg.lower() != "bcrypt":
        return f"hashing algorithm is not supported: {secret.alg}"
    try:
        cost = int(secret.data.split(b"$")[2])
        if cost > _MAX_COST:
            return f"the stored hash has cost {cost}, more than {_MAX_COST}"
        right = bcrypt.checkpw(given.encode()[:_MAX_BYTES], secret.data)
    except (ValueError, IndexError):
        return "the stored hash is malformed"
    return "" if right else "it is not the right one"
