"""contract/cli.md, 11: what a dump must not show."""

import re

from google.protobuf.descriptor import Descriptor

from swarmd.rafttool.redact import SECRET_FIELDS, redacted
from swarmkit.api import messages as api

#: Names that sound like a secret: references, public halves, and messages whose secret is hidden inside.
KNOWN_OPEN = {
    "AcceptancePolicy.RoleAdmissionPolicy.secret",
    "ContainerSpec.secrets",
    "IndexEntry.key",
    "NodeTLSInfo.cert_issuer_public_key",
    "Privileges.credential_spec",
    "Resource.payload",
    "RootCA.join_tokens",
    "SecretReference.secret_id",
    "SecretReference.secret_name",
    "StoreAction.secret",
    "VolumeSecret.key",
    "VolumeSecret.secret",
    "VolumeSpec.secrets",
}


def stored_messages() -> dict[str, Descriptor]:
    """Return all messages that can be part of a stored object, by short name."""
    found: dict[str, Descriptor] = {}
    waiting = [api.StoreAction.DESCRIPTOR]
    while waiting:
        descriptor = waiting.pop()
        name = descriptor.full_name.removeprefix("docker.swarmkit.v1.")
        if name not in found:
            found[name] = descriptor
            waiting += [field.message_type for field in descriptor.fields if field.message_type]
    return found


def test_each_field_named_to_be_hidden_is_there() -> None:
    messages = stored_messages()
    for name, fields in SECRET_FIELDS.items():
        descriptor = messages[name.removeprefix("docker.swarmkit.v1.")]
        assert fields <= set(descriptor.fields_by_name), name


def test_every_field_that_sounds_like_a_secret_is_hidden_or_known_to_be_none() -> None:
    sounds = re.compile(r"key$|secret|token|password|auth$|env$|^data$|payload|credential", re.IGNORECASE)
    open_ones = set()
    for name, descriptor in stored_messages().items():
        if descriptor.GetOptions().map_entry:
            continue
        hidden = SECRET_FIELDS.get(descriptor.full_name, frozenset())
        for field in descriptor.fields:
            if sounds.search(field.name) and field.name not in hidden:
                open_ones.add(f"{name}.{field.name}")
    assert open_ones == KNOWN_OPEN


def test_a_copy_is_redacted_at_any_depth_and_the_original_stays() -> None:
    service = api.Service(id="s")
    for spec in (service.spec, service.previous_spec):
        spec.task.container.env.extend(["A=1", "B=2"])
    shown = redacted(service)
    assert list(shown.spec.task.container.env) == ["REDACTED", "REDACTED"]
    assert list(shown.previous_spec.task.container.env) == ["REDACTED", "REDACTED"]
    assert service.spec.task.container.env[0] == "A=1"
    assert shown.id == "s"


def test_what_is_not_there_does_not_appear() -> None:
    assert redacted(api.Cluster(id="c")) == api.Cluster(id="c")


def test_a_foreign_payload_is_left_out() -> None:
    task = api.Task()
    task.spec.generic.kind = "plugin"
    task.spec.generic.payload.value = b"secret"
    shown = redacted(task)
    assert shown.spec.generic.kind == "plugin"
    assert not shown.spec.generic.HasField("payload")
