"""What goes wrong with certificates, tokens and key files.

CaError
├── TokenError              a join token or an unlock key is not one
├── CertificateError        a certificate, request, root or key cannot be used
│   ├── UnknownAuthorityError  a chain does not lead to a trusted root
│   └── ExpiredError           a certificate is outside its validity
├── StateDirError           the state directory cannot be used as it is
│   ├── NodeLockedError        the node's key needs another unlock key
│   └── KekConflictError       two unlock keys claim to be of the same version
├── IssuingError            the manager refuses a request for a certificate
│   ├── CaStoppedError         this manager does not issue certificates now
│   ├── CaStartingError        the cluster object is not there yet
│   ├── InvalidRequestError    the request is wrong, or its token fits no role
│   ├── NodeNotFoundError      no node with this id
│   └── TooManyRequestsError   a bound for callers without a token is reached
└── EnrollmentError         this node did not get its certificate
    ├── FingerprintError       the root downloaded is not the one the join token names
    ├── RejectedError          the swarm turned the node away for good
    └── CallError              one call to a CA failed
        ├── CallTimeoutError      no answer in time
        ├── CallUnavailableError  the manager cannot be reached or cannot answer now
        └── CallRefusedError      the manager refused; the same call will be refused again
            ├── NoSuchNodeError       the manager knows no such node (NOT_FOUND)
            └── NotServedError        the manager does not serve the call (UNIMPLEMENTED)

No text of any of them holds a key, a token or a part of one.
"""


class CaError(Exception):
    """The root of this package's errors."""


class TokenError(CaError):
    """A text is not a join token, or not an unlock key."""


class CertificateError(CaError):
    """A certificate, a request, a root or a key cannot be used; the text says why."""


class UnknownAuthorityError(CertificateError):
    """A chain does not lead to a trusted root."""


class ExpiredError(CertificateError):
    """A certificate is not valid yet, or no longer."""


class StateDirError(CaError):
    """The state directory cannot be used as it is; the text says which file and what to do."""


class NodeLockedError(StateDirError):
    """The node's key is encrypted and the unlock key given does not open it."""

    def __init__(self) -> None:
        super().__init__("node is locked, and needs a valid unlock key")


class KekConflictError(StateDirError):
    """The cluster object holds another unlock key of the version that encrypts the key file already."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"version {version} of the cluster object holds another unlock key than the one in use: the key"
            " file stays under the old one"
        )


class IssuingError(CaError):
    """The manager refuses a request for a certificate; the text goes to the caller."""


class CaStoppedError(IssuingError):
    """This manager does not issue certificates: it does not lead."""

    def __init__(self) -> None:
        super().__init__("CA signer is stopped")


class CaStartingError(IssuingError):
    """The cluster object, which holds root and tokens, is not there yet."""

    def __init__(self) -> None:
        super().__init__("CA signer is still starting")


class InvalidRequestError(IssuingError):
    """The request is wrong, or its token fits no role."""


class NodeNotFoundError(IssuingError):
    """There is no node with this id, or no longer."""


class TooManyRequestsError(IssuingError):
    """A bound for callers without a token is reached; the same request may pass later."""


class EnrollmentError(CaError):
    """This node did not get its certificate."""


class FingerprintError(EnrollmentError):
    """The root that was downloaded is not the one the join token names."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"remote CA does not match fingerprint. Expected: {expected}")


class RejectedError(EnrollmentError):
    """The swarm turned the node away for good; the text is the swarm's."""


class CallError(EnrollmentError):
    """One call to a certificate authority failed."""


class CallTimeoutError(CallError):
    """No answer came in time (gRPC DEADLINE_EXCEEDED)."""


class CallUnavailableError(CallError):
    """The manager cannot be reached, or cannot answer now (connection lost, UNAVAILABLE, ABORTED ...)."""


class CallRefusedError(CallError):
    """The manager refused (INVALID_ARGUMENT, PERMISSION_DENIED ...): asking again does not help."""


class NoSuchNodeError(CallRefusedError):
    """The manager knows no node with this id, or no longer (gRPC NOT_FOUND)."""


class NotServedError(CallRefusedError):
    """The manager does not serve the call (gRPC UNIMPLEMENTED)."""
