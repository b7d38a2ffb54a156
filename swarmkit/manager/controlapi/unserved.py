"""The RPCs of Control that this manager does not serve: each says so."""

from collections.abc import Awaitable, Callable
from typing import Any

from swarmkit.net.errors import unimplemented


def _unserved(kinds: str) -> Callable[[object, object, object], Awaitable[Any]]:
    async def refuse(self: object, request: object, context: object) -> Any:
        raise unimplemented(f"this manager does not serve {kinds}")

    return refuse


class UnservedMixin:
    """Networks, secrets, configs, extensions, resources and volumes."""

    GetNetwork: Any = _unserved("networks")
    ListNetworks: Any = _unserved("networks")
    CreateNetwork: Any = _unserved("networks")
    RemoveNetwork: Any = _unserved("networks")
    GetSecret: Any = _unserved("secrets")
    ListSecrets: Any = _unserved("secrets")
    CreateSecret: Any = _unserved("secrets")
    UpdateSecret: Any = _unserved("secrets")
    RemoveSecret: Any = _unserved("secrets")
    GetConfig: Any = _unserved("configs")
    ListConfigs: Any = _unserved("configs")
    CreateConfig: Any = _unserved("configs")
    UpdateConfig: Any = _unserved("configs")
    RemoveConfig: Any = _unserved("configs")
    GetExtension: Any = _unserved("extensions")
    CreateExtension: Any = _unserved("extensions")
    RemoveExtension: Any = _unserved("extensions")
    GetResource: Any = _unserved("resources")
    ListResources: Any = _unserved("resources")
    CreateResource: Any = _unserved("resources")
    UpdateResource: Any = _unserved("resources")
    RemoveResource: Any = _unserved("resources")
    GetVolume: Any = _unserved("volumes")
    ListVolumes: Any = _unserved("volumes")
    CreateVolume: Any = _unserved("volumes")
    UpdateVolume: Any = _unserved("volumes")
    RemoveVolume: Any = _unserved("volumes")
