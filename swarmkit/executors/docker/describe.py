"""An engine's ``info`` and plugins as a node description; pure (contract/executor.md, 16)."""

from typing import Any

from swarmkit.api import messages as api

Json = dict[str, Any]

_CAPABILITIES = {"volumedriver": "Volume", "networkdriver": "Network"}
_INFO_PLUGINS = ("Volume", "Network", "Authorization", "Log")


def _labels(entries: list[str]) -> dict[str, str]:
    split = [entry.partition("=") for entry in entries]
    return {key: value for key, equals, value in split if equals}


def _managed_plugins(plugins: list[Json]) -> set[tuple[str, str]]:
    found = set()
    for plugin in plugins:
        if not plugin.get("Enabled"):
            continue
        name = plugin.get("Name", "")
        reference = name if ":" in name else f"{name}:latest"
        for kind in ((plugin.get("Config") or {}).get("Interface") or {}).get("Types") or []:
            text = kind if isinstance(kind, str) else f"{kind.get('Prefix')}.{kind.get('Capability')}"
            prefix, _, capability = text.partition("/")[0].rpartition(".")
            if prefix == "docker":
                found.add((_CAPABILITIES.get(capability, capability), reference))
    return found


def plugins(info: Json, managed: list[Json]) -> list[api.PluginDescription]:
    """Return the set of (type, name), sorted; ``Network``/``overlay`` is always there."""
    found = {("Network", "overlay"), *_managed_plugins(managed)}
    built_in = info.get("Plugins") or {}
    for kind in _INFO_PLUGINS:
        found |= {(kind, name) for name in built_in.get(kind) or []}
    return [api.PluginDescription(type=kind, name=name) for kind, name in sorted(found)]


def node_description(info: Json, managed: list[Json]) -> api.NodeDescription:
    """Describe the node; free of volatile values, since any difference restarts the agent's session."""
    return api.NodeDescription(
        hostname=info.get("Name", ""),
        platform=api.Platform(architecture=info.get("Architecture", ""), os=info.get("OSType", "")),
        resources=api.Resources(
            nano_cpus=int(info.get("NCPU", 0)) * 1_000_000_000, memory_bytes=int(info.get("MemTotal", 0))
        ),
        engine=api.EngineDescription(
            engine_version=info.get("ServerVersion", ""),
            labels=_labels(info.get("Labels") or []),
            plugins=plugins(info, managed),
        ),
    )
