"""What a new swarm's cluster object holds of its certificate authority. Pure but for the tokens' secrets."""

from swarmkit.api import messages as api
from swarmkit.ca.tokens import fingerprint, new_join_token


def root_ca_object(root_pem: bytes, key_pem: bytes = b"") -> api.RootCA:
    """Return the root CA part of a new cluster object, with fresh join tokens.

    Args:
        root_pem: the root bundle, byte for byte as the nodes get it.
        key_pem: its key; without it this swarm cannot sign certificates itself.
    """
    return api.RootCA(
        ca_key=key_pem,
        ca_cert=root_pem,
        ca_cert_hash=fingerprint(root_pem),
        join_tokens=new_join_tokens(root_pem),
    )


def new_join_tokens(root_pem: bytes) -> api.JoinTokens:
    """Return a worker's and a manager's token: the same digest, different secrets."""
    return api.JoinTokens(worker=new_join_token(root_pem), manager=new_join_token(root_pem))
