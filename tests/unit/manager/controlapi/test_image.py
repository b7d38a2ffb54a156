"""Image references."""

import pytest

from swarmkit.manager.controlapi.image import is_image_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "text",
    [
        "redis",
        "redis:3.0.5",
        "library/redis",
        "registry:5000/redis",
        "registry.example.com/a/b/c:tag",
        "localhost/x",
        "Registry/x",
        "[::1]:5000/x",
        "a__b/c.d-e--f",
        f"redis@{DIGEST}",
        f"redis:3@{DIGEST}",
        "x:" + "t" * 128,
    ],
)
def test_what_names_an_image(text: str) -> None:
    assert is_image_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "Redis",
        "re dis",
        "redis:",
        "redis:-x",
        "redis@",
        "redis@sha256:abc",
        "redis@md5:" + "a" * 32,
        f"redis@{DIGEST.upper()}",
        "/redis",
        "a//b",
        "a/",
        "-a",
        "a..b",
        "a" * 64,
        "x/" + "y" * 255,
        "x:" + "t" * 129,
        "http://x/y",
        "-.com/x",
    ],
)
def test_what_does_not(text: str) -> None:
    assert not is_image_reference(text)
