from swarmkit.executors.docker.describe import node_description

INFO = {
    "Name": "host",
    "Architecture": "x86_64",
    "OSType": "linux",
    "NCPU": 2,
    "MemTotal": 1 << 30,
    "ServerVersion": "20.10.24",
    "Labels": ["a=1", "a=2", "b=x=y", "dropped"],
    "Plugins": {"Volume": ["local"], "Network": ["host", "bridge"], "Authorization": None, "Log": ["syslog"]},
}


def test_the_description_has_what_the_scheduler_asks_for() -> None:
    made = node_description(INFO, [])
    assert made.hostname == "host"
    assert (made.platform.architecture, made.platform.os) == ("x86_64", "linux")
    assert made.resources.nano_cpus == 2_000_000_000
    assert made.resources.memory_bytes == 1 << 30
    assert made.engine.engine_version == "20.10.24"


def test_engine_labels_split_at_the_first_equals_sign_and_the_last_wins() -> None:
    assert dict(node_description(INFO, []).engine.labels) == {"a": "2", "b": "x=y"}


def test_plugins_are_sorted_by_type_and_name_and_overlay_is_always_there() -> None:
    managed = [
        {
            "Enabled": True,
            "Name": "vieux/sshfs:latest",
            "Config": {"Interface": {"Types": ["docker.volumedriver/1.0"]}},
        },
        {"Enabled": False, "Name": "off", "Config": {"Interface": {"Types": ["docker.volumedriver/1.0"]}}},
        {
            "Enabled": True,
            "Name": "csi",
            "Config": {"Interface": {"Types": [{"Prefix": "docker", "Capability": "csinode"}]}},
        },
        {"Enabled": True, "Name": "odd", "Config": {"Interface": {"Types": ["other.thing/1.0"]}}},
    ]
    plugins = [(p.type, p.name) for p in node_description(INFO, managed).engine.plugins]
    assert plugins == sorted(plugins)
    assert ("Network", "overlay") in plugins
    assert ("Volume", "vieux/sshfs:latest") in plugins
    assert ("csinode", "csi:latest") in plugins
    assert ("Log", "syslog") in plugins
    assert not any(name.startswith(("off", "odd")) for _, name in plugins)


def test_the_description_is_the_same_for_the_same_engine() -> None:
    shuffled = {**INFO, "Plugins": {"Network": ["bridge", "host"], "Volume": ["local"], "Log": ["syslog"]}}
    assert node_description(INFO, []) == node_description(shuffled, [])
