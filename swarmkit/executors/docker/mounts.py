"""Mounts of a container spec as the engine wants them; pure (contract/executor.md, 6)."""

from typing import Any

from swarmkit.agent.exec import ExecutorError
from swarmkit.api import messages as api

Json = dict[str, Any]

_PROPAGATION = {
    api.Mount.BindOptions.RPRIVATE: "rprivate",
    api.Mount.BindOptions.PRIVATE: "private",
    api.Mount.BindOptions.RSHARED: "rshared",
    api.Mount.BindOptions.SHARED: "shared",
    api.Mount.BindOptions.RSLAVE: "rslave",
    api.Mount.BindOptions.SLAVE: "slave",
}
_TYPES = {api.Mount.BIND: "bind", api.Mount.VOLUME: "volume", api.Mount.NPIPE: "npipe"}
_SUFFIXES = ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"))


class MountError(ExecutorError):
    """A mount this engine or this executor cannot make; the task is rejected with the text."""


def api_at_least(version: str, wanted: str) -> bool:
    """Compare two engine API versions such as ``1.41``."""
    return tuple(map(int, version.split("."))) >= tuple(map(int, wanted.split(".")))


def tmpfs_options(mount: api.Mount) -> str:
    """Return a tmpfs mount's option text, such as ``ro,mode=1777,size=64m,noexec``."""
    options = []
    if mount.readonly:
        options.append("ro")
    if mount.tmpfs_options.mode:
        options.append(f"mode={mount.tmpfs_options.mode:o}")
    size = mount.tmpfs_options.size_bytes
    if size:
        divisor, suffix = next(((d, s) for d, s in _SUFFIXES if size % d == 0), (1, ""))
        options.append(f"size={size // divisor}{suffix}")
    words = [word.strip() for word in mount.tmpfs_options.options.lower().split(",")]
    options += [word for word in words if word in ("exec", "noexec")]
    return ",".join(options)


def _bind_options(options: api.Mount.BindOptions, version: str) -> Json:
    wanted: Json = {"Propagation": _PROPAGATION[options.propagation]}
    if options.nonrecursive:
        wanted["NonRecursive"] = True
    if options.createmountpoint and api_at_least(version, "1.42"):
        wanted["CreateMountpoint"] = True
    if api_at_least(version, "1.44"):
        if options.readonlynonrecursive:
            wanted["ReadOnlyNonRecursive"] = True
        if options.readonlyforcerecursive:
            wanted["ReadOnlyForceRecursive"] = True
    return wanted


def _volume_options(options: api.Mount.VolumeOptions, version: str) -> Json:
    wanted: Json = {}
    if options.nocopy:
        wanted["NoCopy"] = True
    if options.labels:
        wanted["Labels"] = dict(options.labels)
    if options.HasField("driver_config"):
        driver = options.driver_config
        wanted["DriverConfig"] = {"Name": driver.name, "Options": dict(driver.options)}
    if options.subpath:
        if not api_at_least(version, "1.45"):
            # Older engines ignore the field and would mount the whole volume.
            raise MountError(
                f"this engine (API {version}) cannot mount a part of a volume: subpath needs API 1.45"
            )
        wanted["Subpath"] = options.subpath
    return wanted


def engine_mounts(mounts: list[api.Mount], version: str) -> tuple[list[Json], dict[str, str]]:
    """Split mounts into the engine's typed list and its map of tmpfs targets to option texts.

    Args:
        mounts: the expanded mounts of the container spec.
        version: the engine's API version.

    Raises:
        MountError: a mount that cannot be made here.
    """
    typed: list[Json] = []
    tmpfs: dict[str, str] = {}
    for mount in mounts:
        if mount.type == api.Mount.CLUSTER:
            raise MountError(f"cluster volumes are not supported by this node (mount at {mount.target})")
        if mount.type == api.Mount.TMPFS:
            if mount.source:
                raise MountError(f"a tmpfs mount has no source (mount at {mount.target})")
            tmpfs[mount.target] = tmpfs_options(mount)
            continue
        if mount.type not in _TYPES:
            raise MountError(f"mount type {mount.type} is not known to this node (mount at {mount.target})")
        entry: Json = {"Type": _TYPES[mount.type], "Source": mount.source, "Target": mount.target}
        if mount.readonly:
            entry["ReadOnly"] = True
        if mount.type == api.Mount.BIND and mount.HasField("bind_options"):
            entry["BindOptions"] = _bind_options(mount.bind_options, version)
        if mount.type == api.Mount.VOLUME and mount.HasField("volume_options"):
            entry["VolumeOptions"] = _volume_options(mount.volume_options, version)
        typed.append(entry)
    return typed, tmpfs


def directories_to_make(mounts: list[api.Mount], version: str) -> list[str]:
    """Return the bind sources to be made before the container, if the engine does not make them itself."""
    if api_at_least(version, "1.42"):
        return []
    binds = [mount for mount in mounts if mount.type == api.Mount.BIND]
    return [mount.source for mount in binds if mount.bind_options.createmountpoint]


def volumes_to_create(mounts: list[api.Mount]) -> list[Json]:
    """Return the create requests of the named volumes that ask for a driver."""
    requests = []
    for mount in mounts:
        options = mount.volume_options
        if mount.type == api.Mount.VOLUME and mount.source and options.HasField("driver_config"):
            requests.append(
                {
                    "Name": mount.source,
                    "Driver": options.driver_config.name or "local",
                    "DriverOpts": dict(options.driver_config.options),
                    "Labels": dict(options.labels),
                }
            )
    return requests
