"""Validation of service specs against the other objects (contract/control-api.md, 4, checks 13 to 16)."""

from collections.abc import Iterable, Sequence
from typing import Any

from swarmkit.api import messages as api
from swarmkit.manager.controlapi.errors import InvalidError, PreconditionError
from swarmkit.store import Reader

_INTERNAL_LABEL = "com.docker.swarm.internal"
_INGRESS_NAME = "ingress"

_HOST = api.PortConfig.HOST
_INGRESS = api.PortConfig.INGRESS


def is_ingress(network: api.Network) -> bool:
    """Tell whether a network is the ingress network, by its flag or as old versions marked it."""
    annotations = network.spec.annotations
    return network.spec.ingress or (
        annotations.name == _INGRESS_NAME and _INTERNAL_LABEL in annotations.labels
    )


def check_networks(reader: Reader, spec: api.ServiceSpec) -> None:
    """Refuse to attach tasks to the ingress network; unknown networks are not looked at here.

    Raises:
        InvalidError: one of the networks is the ingress network.
    """
    for attachment in (*spec.task.networks, *spec.networks):
        network = reader.get(api.Network, attachment.target)
        if network is not None and is_ingress(network):
            raise InvalidError(
                "Service cannot be explicitly attached to the ingress network"
                f' "{network.spec.annotations.name}"'
            )


def check_ports(reader: Reader, spec: api.ServiceSpec, service_id: str = "") -> None:
    """Refuse published ports that other services have; host ports exclude ingress ports only.

    Args:
        reader: the other services, with the ports they ask for and those they were given.
        spec: the new spec.
        service_id: the service that is updated: its own ports do not count.

    Raises:
        InvalidError: a port is taken.
    """
    wanted: dict[int, set[tuple[int, int]]] = {_HOST: set(), _INGRESS: set()}
    for port in spec.endpoint.ports:
        if port.published_port:
            mode = _HOST if port.publish_mode == _HOST else _INGRESS
            wanted[mode].add((port.protocol, port.published_port))
    if not any(wanted.values()):
        return
    for service in reader.find(api.Service):
        if service.id == service_id:
            continue
        for port in (*service.spec.endpoint.ports, *service.endpoint.ports):
            key = (port.protocol, port.published_port)
            if port.publish_mode == _INGRESS and (key in wanted[_INGRESS] or key in wanted[_HOST]):
                raise _taken(port, service, "an ingress port")
            if port.publish_mode == _HOST and key in wanted[_INGRESS]:
                raise _taken(port, service, "a host-published port")


def _taken(port: api.PortConfig, service: api.Service, how: str) -> InvalidError:
    name = service.spec.annotations.name
    return InvalidError(
        f"port '{port.published_port}' is already in use by service '{name}' ({service.id}) as {how}"
    )


def check_ingress_exists(reader: Reader, spec: api.ServiceSpec) -> None:
    """Refuse ingress ports while there is no ingress network.

    Raises:
        PreconditionError: there is none.
    """
    if any(port.publish_mode == _INGRESS for port in spec.endpoint.ports) and not any(
        is_ingress(network) for network in reader.find(api.Network)
    ):
        raise PreconditionError("service needs ingress network, but no ingress network is present")


def check_dependencies(reader: Reader, spec: api.ServiceSpec) -> None:
    """Refuse references to secrets and configs that do not exist under their id and their name.

    Raises:
        InvalidError: the text names all that are missing.
    """
    container = spec.task.container
    _check_exist(reader, "secret", api.Secret, container.secrets)
    _check_exist(reader, "config", api.Config, container.configs)


def _check_exist(reader: Reader, word: str, kind: Any, references: Iterable[Any]) -> None:
    absent: dict[str, None] = {}
    for reference in references:
        name = getattr(reference, f"{word}_name")
        stored = reader.get(kind, getattr(reference, f"{word}_id"))
        if stored is None or stored.spec.annotations.name != name:
            absent[name] = None
    if absent:
        raise InvalidError(f"{_plural(word, [*absent])} not found: {', '.join(absent)}")


def _plural(word: str, items: Sequence[object]) -> str:
    return word if len(items) == 1 else f"{word}s"
