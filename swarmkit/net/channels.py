"""The client side: channels to managers and to the control socket, and what their errors mean.

Importable alone: nothing here pulls in the server, the store or ``cryptography``.
Source: contract/security.md, 4 and 6; contract/dispatcher-agent.md, 1.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from swarmkit.net.address import AddressError, split_address

if TYPE_CHECKING:
    from swarmkit.ca.credentials import Credentials

#: The name a client expects of a manager for every call with a node certificate.
MANAGER_NAME = "swarm-manager"
#: The name it expects for the first issuance and for GetUnlockKey.
CA_NAME = "swarm-ca"
#: Longest wait for a connection while joining (contract/security.md, 1).
DIAL_SECONDS = 5.0
#: Longest path of a unix socket, in bytes; gRPC reports a longer one in no readable way.
_MAX_SOCKET_PATH = 107

_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", -1),
    # Nodes reach each other directly; a proxy from the environment is for other traffic.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 8000),
)
_MEMBER_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", 4 * 2**20),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # By default channels to one address share a connection; each of these must live and die by itself.
    ("grpc.use_local_subchannel_pool", 1),
    # A call that fails is the caller's business, who dials again when it likes.
    ("grpc.enable_retries", 0),
)
_REMOTE_OPTIONS = (
    *_OPTIONS,
    # A manager that vanished without a word is noticed within 40 s even if nobody sends anything. Not more
    # often, and never without calls: a manager of the original hangs up on those who ping it too much.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
)


class ConnectError(Exception):
    """A manager cannot be reached, or what answers is none; the text is one sentence."""


def secure_channel(
    address: str, credentials: "Credentials", server_name: str = MANAGER_NAME
) -> grpc.aio.Channel:
    """Return a channel to a manager with mutual TLS.

    Args:
        address: ``host:port``.
        credentials: the node's; they stay those of the channel, so a renewal needs a new one.
        server_name: the name that the manager's certificate must carry.

    Raises:
        AddressError: ``address`` is malformed.
    """
    tls = grpc.ssl_channel_credentials(credentials.root_pem, credentials.key_pem, credentials.cert_pem)
    return _tls_channel(address, tls, server_name)


def member_channel(address: str, credentials: "Credentials", node_id: str) -> grpc.aio.Channel:
    """Return a channel to one certain node: its certificate must carry ``node_id``.

    A connection of its own, without gRPC's keepalive: for a stream whose ends watch each other, or one call.
    Which role the node has is not proven, only who it is.

    Raises:
        AddressError: ``address`` is malformed.
    """
    tls = grpc.ssl_channel_credentials(credentials.root_pem, credentials.key_pem, credentials.cert_pem)
    return _tls_channel(address, tls, node_id, _MEMBER_OPTIONS)


def anonymous_channel(address: str, trust_pem: bytes, server_name: str = CA_NAME) -> grpc.aio.Channel:
    """Return a channel without a client certificate that trusts ``trust_pem`` alone: the first issuance.

    Raises:
        AddressError: ``address`` is malformed.
    """
    return _tls_channel(address, grpc.ssl_channel_credentials(trust_pem), server_name)


def leaf_channel(address: str, leaf_pem: bytes, server_name: str = MANAGER_NAME) -> grpc.aio.Channel:
    """Return a channel whose only trust is the server's own leaf, as read by ``fetch_leaf``.

    It proves nothing about the server but that it is still the same one: enough to download the root, which
    is then checked against the join token. gRPC accepts such a partial chain.

    Raises:
        AddressError: ``address`` is malformed.
    """
    return anonymous_channel(address, leaf_pem, server_name)


def unix_channel(path: str | Path) -> grpc.aio.Channel:
    """Return a plain channel to a control socket.

    Raises:
        ConnectError: the path is longer than a socket's may be.
    """
    if len(str(path).encode()) > _MAX_SOCKET_PATH:
        raise ConnectError(
            f"the socket path {path} is longer than the {_MAX_SOCKET_PATH} bytes a socket's may be"
        )
    # Managers of the original refuse the authority that gRPC derives from a socket's path.
    options = (*_OPTIONS, ("grpc.default_authority", "localhost"))
    return grpc.aio.insecure_channel(f"unix:{path}", options=options)


async def fetch_leaf(address: str, timeout: float = DIAL_SECONDS) -> bytes:
    """Read the certificate a TLS server shows, unverified, as PEM.

    Args:
        address: ``host:port``.
        timeout: seconds for connecting and the handshake together.

    Raises:
        AddressError: ``address`` is malformed.
        ConnectError: nothing answers, or not with TLS and HTTP/2.
    """
    host, port = dialable(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=MANAGER_NAME, ssl_handshake_timeout=timeout
            )
        session: ssl.SSLObject = writer.get_extra_info("ssl_object")
        leaf = session.getpeercert(binary_form=True)
        if session.selected_alpn_protocol() != "h2" or leaf is None:
            raise ConnectError(f"{address} is not a manager: what answers there does not speak gRPC")
        return ssl.DER_cert_to_PEM_cert(leaf).encode()
    except (TimeoutError, ConnectionAbortedError):
        raise ConnectError(f"no answer from {address} within {timeout:g} s") from None
    except ssl.SSLError as error:
        raise ConnectError(f"{address} is not a manager: what answers there does not speak TLS") from error
    except OSError as error:
        raise ConnectError(describe_os_error(error, address)) from error
    finally:
        if writer is not None:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def dialable(address: str) -> tuple[str, int]:
    host, port = split_address(address)
    if not (host and port):
        raise AddressError(f"{address!r} is not an address to connect to: host and port must both be given")
    return host, port


def _tls_channel(
    address: str,
    tls: grpc.ChannelCredentials,
    server_name: str,
    options: tuple[tuple[str, str | int], ...] = _REMOTE_OPTIONS,
) -> grpc.aio.Channel:
    dialable(address)
    options = (*options, ("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(f"dns:///{address}", tls, options=options)


def _system_reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name does not resolve"
    # asyncio joins several failed addresses into one text without an errno
    numbers = [error.errno] if error.errno else [int(n) for n in _ERRNO.findall(str(error))]
    if errno.ECONNREFUSED in numbers:
        return "nobody listens there: is the manager running, and is this its address?"
    return os.strerror(numbers[0]) if numbers else str(error)


#: What gRPC or OpenSSL say when there is no connection, and what it means. The first that is found counts.
_CONNECTION_TROUBLE: tuple[tuple[str, str], ...] = (
    ("No such file or directory", "nothing is there: is the manager running, and is this its socket?"),
    ("Connection refused", "nobody listens there: is the manager running, and is this its address?"),
    ("Permission denied", "permission denied: only its owner and root may use the socket"),
    ("Domain name not found", "the host name does not resolve"),
    ("address lookup failed", "the host name does not resolve"),
    ("DNS resolution failed", "the host name does not resolve"),
    ("http1.x server", "what answers there is a web server, not a manager"),
    ("Failed parsing HTTP/2", "what answers there does not speak gRPC: it is not a manager"),
    ("WRONG_VERSION_NUMBER", "what answers there does not speak TLS: it is not a manager"),
    ("missing selected ALPN", "what answers there does not speak gRPC: it is not a manager"),
    ("certificate has expired", "the manager's certificate has expired; check this machine's clock too"),
    (
        "certificate is not yet valid",
        "the manager's certificate is not valid yet: check this machine's clock",
    ),
    ("Hostname mismatch", "what answers there shows no manager's certificate"),
    ("Hostname Verification Check failed", "what answers there shows no manager's certificate"),
    ("not in peer certificate", "what answers there shows no manager's certificate"),
    # TLS 1.3 tells of a refused client certificate when the client thinks it is through; gRPC keeps the alert
    # to itself.
    ("Unwrap failed", "the manager refuses this node's certificate: it has expired or is not of this swarm"),
    ("ALERT", "the manager refuses this node's certificate: it has expired or is not of this swarm"),
    ("BAD_SIGNATURE", "the manager's certificate is not of this swarm"),
    ("CERTIFICATE_VERIFY_FAILED", "the manager's certificate is not of this swarm"),
    ("handshake", "the TLS handshake failed"),
    ("Handshake", "the TLS handshake failed"),
    ("Network is unreachable", "the network is unreachable"),
    ("No route to host", "there is no route to the host"),
    ("Connection timed out", "no answer"),
    ("Timeout", "no answer"),
    ("timed out", "no answer"),
    ("Socket closed", "the connection was closed at once: not a manager, or it refuses us"),
    ("Connection reset", "the connection was reset"),
    ("GOAWAY", "the manager is stopping"),
)
_PREFIXES = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "Socket closed",
)
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_TARGET = re.compile(r"(?:ipv4|ipv6|unix):(\S+?):? ")


def describe_rpc_error(error: grpc.aio.AioRpcError, target: str = "") -> str:
    """Say in one sentence why an RPC failed.

    A manager's own words are returned as they are; for failures of the connection gRPC's are translated.

    Args:
        error: what the call raised.
        target: address or socket the call went to; by default what gRPC's text names.
    """
    details = " ".join((error.details() or "").split())
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and details.lower() in ("", "deadline exceeded"):
        return f"no answer from {target or 'the manager'} in time"
    if code is grpc.StatusCode.UNIMPLEMENTED and details in ("", "Method not found!"):
        return f"{target or 'the manager'} does not know this call"
    if code is grpc.StatusCode.UNAVAILABLE and _is_connection_trouble(details):
        if not target:
            found = _TARGET.search(details)
            target = found.group(1) if found else "the manager"
        return f"cannot connect to {target}: {_meaning(details)}"
    return details or code.name.lower().replace("_", " ")


def describe_os_error(error: OSError, target: str) -> str:
    """Say in one sentence why there is no connection to ``target``; also for an ``ssl.SSLError``."""
    reason = _meaning(str(error)) if isinstance(error, ssl.SSLError) else _system_reason(error)
    return f"cannot connect to {target}: {reason}"


def _meaning(details: str) -> str:
    """Translate what gRPC or OpenSSL say of a connection."""
    return next((meaning for sign, meaning in _CONNECTION_TROUBLE if sign in details), details)


def _is_connection_trouble(details: str) -> bool:
    return details.startswith(_PREFIXES) or "GOAWAY" in details or "Connection reset" in details


__all__ = [
    "CA_NAME",
    "DIAL_SECONDS",
    "MANAGER_NAME",
    "AddressError",
    "ConnectError",
    "anonymous_channel",
    "describe_os_error",
    "describe_rpc_error",
    "fetch_leaf",
    "leaf_channel",
    "member_channel",
    "secure_channel",
    "unix_channel",
]
