"""Which secrets and configs a task or a volume needs on its node (contract/dispatcher-agent.md, 3.10)."""

from dataclasses import dataclass

from swarmkit.api import messages as api


@dataclass(frozen=True)
class References:
    """Ids of what one task or volume depends on, each at most once over all three fields.

    Attributes:
        own_secrets: secrets whose value may differ for each user, so that each new user sends them again.
        shared_secrets: secrets that are the same for all.
        configs: configs.
    """

    own_secrets: tuple[str, ...] = ()
    shared_secrets: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()


def task_references(task: api.Task) -> References:
    """Return what the task's container and its resource references name."""
    container = task.spec.container
    own = dict.fromkeys(reference.secret_id for reference in container.secrets)
    shared: dict[str, None] = {}
    configs = dict.fromkeys(reference.config_id for reference in container.configs)
    for resource in task.spec.resource_references:
        if resource.resource_type == api.ResourceType.SECRET and resource.resource_id not in own:
            shared[resource.resource_id] = None
        elif resource.resource_type == api.ResourceType.CONFIG:
            configs[resource.resource_id] = None
    return References(tuple(own), tuple(shared), tuple(configs))


def volume_references(volume: api.Volume) -> References:
    """Return the secrets that publishing the volume needs."""
    return References(own_secrets=tuple(dict.fromkeys(secret.secret for secret in volume.spec.secrets)))
