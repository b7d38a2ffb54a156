"""Which fields of a container spec are templates, and their expansion (contract/executor.md, 5)."""

from collections.abc import Callable

from swarmkit.api import messages as api
from swarmkit.api.template import Context, TemplateError, expand


def expand_container(spec: api.ContainerSpec, context: Context) -> api.ContainerSpec:
    """Return a copy with the templates expanded; what it was given stays as it is.

    Expanded are the values of environment entries, sources and targets of mounts, the values of volume labels
    and volume driver options, and the hostname; nothing else.

    Raises:
        TemplateError: the text names the field: ``expanding env failed: expanding env "A={{.X}}": …``.
    """
    expanded = api.ContainerSpec()
    expanded.CopyFrom(spec)
    _named("env", lambda: _env(expanded, context))
    _named("mounts", lambda: _mounts(expanded, context))
    _named("hostname", lambda: _hostname(expanded, context))
    return expanded


def _named(what: str, step: Callable[[], None]) -> None:
    try:
        step()
    except TemplateError as error:
        raise TemplateError(f"expanding {what} failed: {error}") from error


def _expanded(what: str, text: str, context: Context) -> str:
    try:
        return expand(text, context)
    except TemplateError as error:
        raise TemplateError(f'expanding {what} "{text}": {error}') from error


def _env(spec: api.ContainerSpec, context: Context) -> None:
    for number, entry in enumerate(spec.env):
        name, equals, value = entry.partition("=")
        try:
            spec.env[number] = name + equals + expand(value, context)
        except TemplateError as error:
            raise TemplateError(f'expanding env "{entry}": {error}') from error


def _mounts(spec: api.ContainerSpec, context: Context) -> None:
    for mount in spec.mounts:
        mount.source = _expanded("mount source", mount.source, context)
        mount.target = _expanded("mount target", mount.target, context)
        if mount.HasField("volume_options"):
            options = mount.volume_options
            for key, value in sorted(options.labels.items()):
                options.labels[key] = _expanded("volume label", value, context)
            for key, value in sorted(options.driver_config.options.items()):
                options.driver_config.options[key] = _expanded("volume driver option", value, context)


def _hostname(spec: api.ContainerSpec, context: Context) -> None:
    spec.hostname = expand(spec.hostname, context)
