"""The rules of CONTRIBUTING.md that a machine can check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE_LINES = 500
FUNCTION_LINES = 60
CLASS_METHODS = 25
PACKAGES = ("swarmkit", "swarmd", "swarmctl")
SOURCES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "_pb2" not in path.name
)
#: Waiting and telling the time is the injected clock's business; the client is no daemon and may look at one.
CLOCK_CALLS = re.compile(r"\b(time\.(time|sleep|monotonic)|datetime\.(now|utcnow))\(")
CLOCK_USERS = {"swarmkit/clock.py"}
#: The process executor's supervisor is a program of its own, without an event loop.
CLOCK_USERS |= {"swarmkit/executors/process/supervisor.py"}
LIBRARIES: dict[str, tuple[str, ...]] = {
    "pysyncobj": ("swarmkit/raft/",),
    "docker": ("swarmkit/executors/docker/",),
    "click": ("swarmd/", "swarmctl/"),
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator["ast.FunctionDef | ast.AsyncFunctionDef"]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def is_property(method: "ast.FunctionDef | ast.AsyncFunctionDef") -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "property" for mark in method.decorator_list)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_functions_and_classes_are_small(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MODULE_LINES, f"{lines} lines"
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_LINES, f"{function.name}: {length} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            # A property is an attribute to whoever uses the class.
            public = [m for m in methods if not m.name.startswith("_") and not is_property(m)]
            assert len(public) <= CLASS_METHODS, f"{node.name}: {len(public)} public methods"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_time_comes_from_the_injected_clock(path: Path) -> None:
    if name(path) in CLOCK_USERS or name(path).startswith("swarmctl/"):
        return
    hits = [line.strip() for line in path.read_text().splitlines() if CLOCK_CALLS.search(line)]
    assert hits == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_each_outside_library_stays_in_its_room(path: Path) -> None:
    for library, rooms in LIBRARIES.items():
        if library in imports(path):
            assert name(path).startswith(rooms), library


def pure(path: Path) -> bool:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return bool(re.search(r"[;.] [Pp]ure(\.|$| \(|;)", docstring.replace("\n", " ")))


@pytest.mark.parametrize("path", [path for path in SOURCES if pure(path)], ids=name)
def test_a_module_that_calls_itself_pure_is(path: Path) -> None:
    assert not imports(path) & {"asyncio", "grpc", "pysyncobj", "socket", "threading", "time"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_left_for_later(path: Path) -> None:
    hits = [
        line.strip() for line in path.read_text().splitlines() if re.search(r"\b(TODO|FIXME|XXX)\b", line)
    ]
    assert hits == []


def test_nothing_from_the_network_is_unpickled() -> None:
    users = {name(path) for path in SOURCES if imports(path) & {"pickle", "marshal", "shelve", "dill"}}
    assert users == set()
