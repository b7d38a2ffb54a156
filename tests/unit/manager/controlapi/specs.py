"""Service specs as tests say them."""

from collections.abc import Sequence

from swarmkit.api import messages as api

INGRESS = api.PortConfig.INGRESS
HOST = api.PortConfig.HOST


def service_spec(name: str = "web", replicas: int = 1) -> api.ServiceSpec:
    """A replicated service of redis."""
    spec = api.ServiceSpec(replicated=api.ReplicatedService(replicas=replicas))
    spec.annotations.name = name
    spec.task.container.image = "redis:3.0.5"
    return spec


def published(
    port: int,
    mode: "api.PortConfig.PublishMode.ValueType" = INGRESS,
    protocol: "api.PortConfig.Protocol.ValueType" = api.PortConfig.TCP,
) -> api.PortConfig:
    """A published port."""
    return api.PortConfig(protocol=protocol, target_port=80, published_port=port, publish_mode=mode)


def with_ports(name: str, ports: Sequence[api.PortConfig]) -> api.ServiceSpec:
    """A service that publishes."""
    spec = service_spec(name)
    spec.endpoint.ports.extend(ports)
    return spec


def ingress_network() -> api.Network:
    """The ingress network."""
    spec = api.NetworkSpec(annotations=api.Annotations(name="ingress"), ingress=True)
    return api.Network(id="ingress-id", spec=spec)
