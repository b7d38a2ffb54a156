import pytest

from swarmkit.api import messages as api
from swarmkit.executors.docker.mounts import MountError, engine_mounts, tmpfs_options, volumes_to_create

Mount = api.Mount


def one(mount: api.Mount, version: str = "1.41") -> dict[str, object]:
    (made,), tmpfs = engine_mounts([mount], version)
    assert tmpfs == {}
    return made


def test_a_plain_bind() -> None:
    assert one(Mount(type=Mount.BIND, source="/a", target="/b", readonly=True)) == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
    }


def test_propagation_is_sent_only_with_bind_options() -> None:
    mount = Mount(type=Mount.BIND, source="/a", target="/b")
    assert "BindOptions" not in one(mount)
    mount.bind_options.propagation = Mount.BindOptions.SHARED
    assert one(mount)["BindOptions"] == {"Propagation": "shared"}


def test_options_the_engine_does_not_know_yet_are_not_sent() -> None:
    mount = Mount(type=Mount.BIND, source="/a", target="/b")
    mount.bind_options.createmountpoint = True
    mount.bind_options.readonlynonrecursive = True
    assert one(mount, "1.41")["BindOptions"] == {"Propagation": "rprivate"}
    assert one(mount, "1.44")["BindOptions"] == {
        "Propagation": "rprivate",
        "CreateMountpoint": True,
        "ReadOnlyNonRecursive": True,
    }


def test_volumes_with_and_without_source() -> None:
    named = Mount(type=Mount.VOLUME, source="data", target="/d")
    named.volume_options.nocopy = True
    assert one(named) == {
        "Type": "volume",
        "Source": "data",
        "Target": "/d",
        "VolumeOptions": {"NoCopy": True},
    }
    assert one(Mount(type=Mount.VOLUME, target="/d"))["Source"] == ""


def test_a_part_of_a_volume_is_refused_where_the_engine_would_mount_the_whole() -> None:
    mount = Mount(type=Mount.VOLUME, source="data", target="/d")
    mount.volume_options.subpath = "x"
    with pytest.raises(MountError, match=r"subpath needs API 1\.45"):
        one(mount, "1.41")
    assert one(mount, "1.45")["VolumeOptions"] == {"Subpath": "x"}


@pytest.mark.parametrize(
    ("options", "readonly", "text"),
    [
        ({"size_bytes": 1 << 30}, False, "size=1g"),
        ({"size_bytes": 3 << 19}, False, "size=1536k"),
        ({"size_bytes": 1000}, False, "size=1000"),
        ({"mode": 0o1777}, True, "ro,mode=1777"),
        ({"options": "NOEXEC,other"}, False, "noexec"),
        ({}, False, ""),
    ],
)
def test_tmpfs_options(options: dict[str, object], readonly: bool, text: str) -> None:
    tmpfs = Mount.TmpfsOptions(**options)  # type: ignore[arg-type]
    mount = Mount(type=Mount.TMPFS, target="/t", readonly=readonly, tmpfs_options=tmpfs)
    assert tmpfs_options(mount) == text
    assert engine_mounts([mount], "1.41") == ([], {"/t": text})


def test_a_tmpfs_with_a_source_and_a_cluster_volume_are_refused() -> None:
    with pytest.raises(MountError, match="has no source"):
        engine_mounts([Mount(type=Mount.TMPFS, source="x", target="/t")], "1.41")
    with pytest.raises(MountError, match="cluster volumes"):
        engine_mounts([Mount(type=Mount.CLUSTER, source="x", target="/t")], "1.41")


def test_only_named_volumes_that_ask_for_a_driver_are_created_beforehand() -> None:
    plain = Mount(type=Mount.VOLUME, source="a", target="/a")
    driven = Mount(type=Mount.VOLUME, source="b", target="/b")
    driven.volume_options.driver_config.name = "nfs"
    driven.volume_options.driver_config.options["o"] = "x"
    driven.volume_options.labels["l"] = "y"
    expected = {"Name": "b", "Driver": "nfs", "DriverOpts": {"o": "x"}, "Labels": {"l": "y"}}
    assert volumes_to_create([plain, driven]) == [expected]
