"""The secrets and configs of this node, and what each task may see of them.

Source: contract/dispatcher-agent.md, 10. They are kept in memory only.
"""

from collections.abc import Iterable

from swarmkit.agent.exec import DependencyNotReadyError
from swarmkit.api import messages as api


class NotAuthorizedError(KeyError):
    """The task does not refer to this secret or config."""

    def __init__(self, kind: str, object_id: str) -> None:
        super().__init__(object_id)
        self._text = f"task not authorized to access {kind} {object_id}"

    def __str__(self) -> str:
        return self._text


class NotHereError(DependencyNotReadyError, KeyError):
    """The secret or config is not on this node, or not yet."""

    def __init__(self, kind: str, object_id: str) -> None:
        super().__init__(object_id)
        self._text = f"{kind} {object_id} has not arrived on this node"

    def __str__(self) -> str:
        return self._text


class Dependencies:
    """All secrets and configs the managers sent to this node. Messages in it are never changed."""

    def __init__(self) -> None:
        self.secrets: dict[str, api.Secret] = {}
        self.configs: dict[str, api.Config] = {}

    def reset(self, secrets: Iterable[api.Secret], configs: Iterable[api.Config]) -> None:
        """Replace everything."""
        self.secrets = {secret.id: secret for secret in secrets}
        self.configs = {config.id: config for config in configs}

    def restricted_to(self, task: api.Task) -> "TaskDependencies":
        """Return the view of one task."""
        return TaskDependencies(self, task)


class TaskDependencies:
    """What one task may see: the references of its container spec, and nothing by any other name.

    Resource references of the task spec make a manager send an object to the node, they give no access.
    """

    def __init__(self, dependencies: Dependencies, task: api.Task) -> None:
        self._dependencies = dependencies
        self._task_id = task.id
        container = task.spec.container
        self._secret_ids = frozenset(reference.secret_id for reference in container.secrets)
        self._config_ids = frozenset(reference.config_id for reference in container.configs)

    def get_secret(self, secret_id: str) -> api.Secret:
        """Return a copy of a secret, under its plain id.

        A driver may have made a value for this task alone: it is kept as ``<secret>.<task>`` and goes first.

        Raises:
            NotAuthorizedError: the task does not refer to it.
            NotHereError: it is not on this node (yet).
        """
        if secret_id not in self._secret_ids:
            raise NotAuthorizedError("secret", secret_id)
        secrets = self._dependencies.secrets
        found = secrets.get(f"{secret_id}.{self._task_id}") or secrets.get(secret_id)
        if found is None:
            raise NotHereError("secret", secret_id)
        secret = api.Secret()
        secret.CopyFrom(found)
        secret.id = secret_id
        return secret

    def get_config(self, config_id: str) -> api.Config:
        """Return a copy of a config.

        Raises:
            NotAuthorizedError: the task does not refer to it.
            NotHereError: it is not on this node (yet).
        """
        if config_id not in self._config_ids:
            raise NotAuthorizedError("config", config_id)
        found = self._dependencies.configs.get(config_id)
        if found is None:
            raise NotHereError("config", config_id)
        config = api.Config()
        config.CopyFrom(found)
        return config
