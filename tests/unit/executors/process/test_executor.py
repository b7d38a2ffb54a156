"""Real processes under the process executor. Needs Linux; ends every process it starts."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from swarmkit.agent.dependencies import Dependencies
from swarmkit.agent.exec import AlreadyDoneError, ExecutorError, TaskExitError
from swarmkit.api import messages as api
from swarmkit.api.template import TemplateError
from swarmkit.clock import SystemClock
from swarmkit.executors.process import ProcessExecutor, supervisor
from swarmkit.executors.process.controller import ProcessController
from swarmkit.executors.process.process import LOG_BOUND, Identity, Launch
from swarmkit.executors.process.spec import BASE_ENVIRONMENT, UnsupportedError
from tests.fakes.agent_executor import until
from tests.fakes.agent_manager import make_task

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(sys.platform != "linux", reason="the process executor needs Linux"),
]
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


class Bench:
    """An executor over a directory, and controllers made by it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.executor = ProcessExecutor(directory, SystemClock())

    async def controller(self, *command: str, task_id: str = "t", grace: float = 5.0) -> ProcessController:
        task = make_task(task_id)
        task.spec.container.command.extend(command)
        return await self.of(task, grace)

    async def of(self, task: api.Task, grace: float = 5.0) -> ProcessController:
        duration = Duration()
        duration.FromMicroseconds(int(grace * 1e6))
        task.spec.container.stop_grace_period.CopyFrom(duration)
        controller = await self.executor.controller(task, Dependencies().restricted_to(task))
        assert isinstance(controller, ProcessController)
        return controller

    async def started(self, *command: str, task_id: str = "t", grace: float = 5.0) -> ProcessController:
        controller = await self.controller(*command, task_id=task_id, grace=grace)
        await controller.prepare()
        await controller.start()
        return controller

    def output(self, name: str = "stdout", task_id: str = "t") -> str:
        return (self.directory / task_id / f"{name}.log").read_text()

    def identity(self, task_id: str = "t") -> Identity:
        return self.identities(task_id)[1]

    def identities(self, task_id: str = "t") -> tuple[Identity, Identity]:
        _, *numbers = (self.directory / task_id / "record").read_text().split()
        return Identity(int(numbers[0]), numbers[1]), Identity(int(numbers[2]), numbers[3])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "processes")
    await bench.executor.start()
    yield bench
    await bench.executor.sweep(())
    assert list(bench.directory.iterdir()) == []
    await bench.executor.close()


async def test_a_command_runs_to_its_end_and_its_output_is_kept(bench: Bench) -> None:
    controller = await bench.started("sh", "-c", "echo out; echo err >&2")
    await controller.wait()
    assert (bench.output(), bench.output("stderr")) == ("out\n", "err\n")
    status = await controller.container_status()
    assert status is not None
    assert (status.container_id.startswith("process-"), status.pid, status.exit_code) == (True, 0, 0)


async def test_a_running_process_shows_its_pid(bench: Bench) -> None:
    controller = await bench.started("sleep", "60")
    status = await controller.container_status()
    assert status is not None
    assert status.pid == bench.identity().pid


async def test_an_exit_code_is_an_error_with_that_code(bench: Bench) -> None:
    controller = await bench.started("sh", "-c", "exit 3")
    with pytest.raises(TaskExitError, match=r"^task: non-zero exit \(3\)$") as caught:
        await controller.wait()
    assert caught.value.exit_code == 3


async def test_a_death_by_signal_counts_from_128(bench: Bench) -> None:
    controller = await bench.started("sh", "-c", "kill -SEGV $$")
    with pytest.raises(TaskExitError) as caught:
        await controller.wait()
    assert caught.value.exit_code == 128 + signal.SIGSEGV


async def test_a_command_that_is_not_there_fails_to_start_with_127(bench: Bench) -> None:
    for command in ("no-such-command", "/etc/passwd"):
        controller = await bench.controller(command, task_id=command.strip("/").replace("/", "-"))
        await controller.prepare()
        with pytest.raises(TaskExitError, match="starting process failed: .*" + command) as caught:
            await controller.start()
        assert caught.value.exit_code == 127


async def test_a_missing_working_directory_fails_to_start_with_128(bench: Bench) -> None:
    task = make_task("t")
    task.spec.container.command.append("pwd")
    task.spec.container.dir = "/no/such/directory"
    controller = await bench.of(task)
    await controller.prepare()
    with pytest.raises(TaskExitError, match="cannot set up the process") as caught:
        await controller.start()
    assert caught.value.exit_code == 128


async def test_environment_and_directory_are_the_tasks_own(bench: Bench) -> None:
    task = make_task("t")
    task.spec.container.command.extend(["sh", "-c", 'echo "$A"; pwd; env | wc -l; umask'])
    task.spec.container.env.append("A=b c\nd")
    task.spec.container.dir = "/usr"
    controller = await bench.of(task)
    await controller.prepare()
    await controller.start()
    await controller.wait()
    assert bench.output().split("\n")[:3] == ["b c", "d", "/usr"]


async def test_templates_in_the_environment_are_expanded(bench: Bench) -> None:
    task = make_task("t")
    task.slot = 3
    task.service_annotations.name = "web"
    task.spec.container.command.extend(["sh", "-c", "echo $WHO"])
    task.spec.container.env.append("WHO={{.Service.Name}}.{{.Task.Slot}} on {{.Node.Platform.OS}}")
    controller = await bench.of(task)
    assert task.spec.container.env[0].startswith("WHO={{")
    await controller.prepare()
    await controller.start()
    await controller.wait()
    assert bench.output() == "web.3 on linux\n"


async def test_a_template_that_cannot_be_expanded_is_refused(bench: Bench) -> None:
    task = make_task("t")
    task.spec.container.env.append("A={{.Nothing}}")
    with pytest.raises(TemplateError, match="expanding env failed"):
        await bench.of(task)


async def test_without_a_directory_the_process_has_one_of_its_own(bench: Bench) -> None:
    controller = await bench.started("pwd")
    await controller.wait()
    assert bench.output() == f"{bench.directory}/t/work\n"


@root
async def test_a_process_runs_as_the_user_and_in_the_groups_named(bench: Bench) -> None:
    task = make_task("t")
    task.spec.container.command.extend(["sh", "-c", "id -u; id -g; id -G; touch mine"])
    task.spec.container.user = "12345:23456"
    task.spec.container.groups.append("3")
    controller = await bench.of(task)
    await controller.prepare()
    await controller.start()
    await controller.wait()
    assert bench.output() == "12345\n23456\n23456 3\n"


async def test_signals_are_as_a_fresh_process_has_them(bench: Bench) -> None:
    controller = await bench.started("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    await controller.wait()
    # 32 and 33 are the C library's own: whoever started the tests may have them ignored, and no program can
    # change that.
    own = ~(1 << 31 | 1 << 32)
    assert [int(line.split()[1], 16) & own for line in bench.output().splitlines()] == [0, 0]


async def test_no_descriptor_of_the_daemon_is_passed_on(bench: Bench) -> None:
    controller = await bench.started("sh", "-c", "ls /proc/$$/fd")
    await controller.wait()
    assert bench.output().split() == ["0", "1", "2"]


async def test_a_task_without_command_idles_until_stopped_and_says_so(bench: Bench) -> None:
    controller = await bench.started()
    await until(lambda: "idling until stopped" in bench.output(), 10)
    assert bench.identity().alive
    await controller.shutdown()
    assert not bench.identity().alive


async def test_shutdown_sends_the_stop_signal_first(bench: Bench) -> None:
    task = make_task("t")
    task.spec.container.command.extend(
        ["sh", "-c", "trap 'echo bye; exit 5' USR1; echo ready; while :; do sleep 0.05; done"]
    )
    task.spec.container.stop_signal = "SIGUSR1"
    controller = await bench.of(task)
    await controller.prepare()
    await controller.start()
    await until(lambda: bench.output() == "ready\n", 10)
    await controller.shutdown()
    assert bench.output() == "ready\nbye\n"
    status = await controller.container_status()
    assert status is not None
    assert status.exit_code == 5


async def test_shutdown_kills_what_ignores_the_signal_and_its_whole_group(bench: Bench) -> None:
    controller = await bench.started(
        "sh", "-c", "trap '' TERM; sleep 60 & echo $!; while :; do sleep 0.05; done", grace=0.3
    )
    await until(lambda: bench.output().endswith("\n"), 10)
    background = Identity.of(int(bench.output()))
    assert background is not None
    assert background.alive
    await controller.shutdown()
    status = await controller.container_status()
    assert status is not None
    assert status.exit_code == 137
    await until(lambda: not background.alive, 10)


async def test_what_a_process_leaves_in_its_group_ends_with_it(bench: Bench) -> None:
    controller = await bench.started("sh", "-c", "sleep 60 & echo $!")
    await controller.wait()
    await until(lambda: Identity.of(int(bench.output())) is None, 10)


async def test_shutdown_of_nothing_or_of_an_ended_process_is_success(bench: Bench) -> None:
    controller = await bench.controller("true")
    await controller.shutdown()
    await controller.prepare()
    await controller.shutdown()
    await controller.start()
    await controller.wait()
    await controller.shutdown()


async def test_remove_ends_the_process_and_deletes_all_of_it_twice(bench: Bench) -> None:
    controller = await bench.started("sleep", "60")
    identity = bench.identity()
    await controller.remove()
    await controller.remove()
    assert not identity.alive
    assert list(bench.directory.iterdir()) == []


async def test_prepare_and_start_done_twice_say_already(bench: Bench) -> None:
    controller = await bench.started("sleep", "60")
    again = await bench.controller("sleep", "60")
    with pytest.raises(AlreadyDoneError):
        await again.prepare()
    with pytest.raises(AlreadyDoneError):
        await again.start()
    assert await again.container_status() == await controller.container_status()


async def test_two_starts_at_once_start_one_process(bench: Bench) -> None:
    controllers = [await bench.controller("sh", "-c", "echo started; sleep 60") for _ in range(3)]
    await controllers[0].prepare()
    results = await asyncio.gather(*(c.start() for c in controllers), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, AlreadyDoneError) for result in results) == 2
    await until(lambda: bench.output() == "started\n", 10)


async def test_a_start_that_was_cancelled_is_found_by_the_next_one(bench: Bench) -> None:
    controller = await bench.controller("sleep", "60")
    await controller.prepare()
    start = asyncio.ensure_future(controller.start())
    while controller._process._launching is None:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    with pytest.raises(AlreadyDoneError):
        await controller.start()


async def test_a_start_cancelled_and_then_removed_leaves_nothing(bench: Bench) -> None:
    controller = await bench.controller("sleep", "61.25")
    await controller.prepare()
    start = asyncio.ensure_future(controller.start())
    await until((bench.directory / "t" / "supervisor.log").exists, 10)
    start.cancel()
    await controller.remove()
    assert list(bench.directory.iterdir()) == []


async def test_another_daemon_finds_the_process_and_sees_its_exit_code(bench: Bench) -> None:
    await bench.started("sh", "-c", "sleep 0.4; exit 7")
    first = bench.identity()
    other = Bench(bench.directory)
    await other.executor.start()
    controller = await other.controller("sh", "-c", "sleep 0.4; exit 7")
    with pytest.raises(TaskExitError) as caught:
        await controller.wait()
    assert caught.value.exit_code == 7
    assert other.identity() == first
    await other.executor.close()


async def test_a_daemon_killed_in_the_middle_of_a_start_leaves_a_supervised_process(bench: Bench) -> None:
    controller = await bench.controller("sh", "-c", "sleep 0.3; exit 4")
    await controller.prepare()
    launch = Launch(("sh", "-c", "sleep 0.3; exit 4"), dict(BASE_ENVIRONMENT), "/", None)
    reading, writing = os.pipe()
    os.close(reading)  # nobody is there to read the supervisor's answer
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", supervisor.__file__, stdin=asyncio.subprocess.PIPE, stdout=writing
    )
    os.close(writing)
    await program.communicate(launch.encode(bench.directory / "t"))
    await until((bench.directory / "t" / "record").exists, 10)
    with pytest.raises(TaskExitError) as caught:
        await controller.wait()
    assert caught.value.exit_code == 4


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.unit.executors.process.test_executor import Bench

async def main():
    bench = Bench(Path(sys.argv[1]))
    await bench.executor.start()
    await bench.started("sh", "-c", sys.argv[2])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_process_outlives_the_kill_of_its_daemon_with_output_and_exit_code(
    bench: Bench, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo before; until [ -e {go} ]; do sleep 0.05; done; echo after; exit 7"
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(bench.directory), script)
    assert await daemon.wait() == -signal.SIGKILL
    assert bench.identity().alive
    go.touch()
    controller = await bench.controller("sh")
    with pytest.raises(AlreadyDoneError):
        await controller.start()
    with pytest.raises(TaskExitError) as caught:
        await controller.wait()
    assert caught.value.exit_code == 7
    assert bench.output() == "before\nafter\n"


async def test_an_exit_while_no_daemon_ran_is_found(bench: Bench) -> None:
    await bench.started("sh", "-c", "exit 7")
    await until(lambda: (bench.directory / "t" / "exit").exists(), 10)
    controller = await bench.controller("sh", "-c", "exit 7")
    with pytest.raises(TaskExitError) as caught:
        await controller.wait()
    assert caught.value.exit_code == 7


async def test_a_killed_supervisor_leaves_a_process_that_can_be_waited_for_and_stopped(bench: Bench) -> None:
    controller = await bench.started("sleep", "60")
    supervisor, process = bench.identities()
    os.kill(supervisor.pid, signal.SIGKILL)
    waiting = asyncio.ensure_future(controller.wait())
    await asyncio.sleep(0.1)
    assert (process.alive, waiting.done()) == (True, False)
    await controller.shutdown()
    assert (process.alive, supervisor.alive) == (False, False)
    with pytest.raises(ExecutorError, match="exit status is unknown"):
        await waiting


async def test_a_record_of_an_earlier_boot_names_nobody(bench: Bench) -> None:
    controller = await bench.started("sleep", "60")
    process = bench.identity()
    record = bench.directory / "t" / "record"
    text = record.read_text()
    record.write_text(text.replace(text.split()[0], "00000000-0000-0000-0000-000000000000"))
    with pytest.raises(ExecutorError, match="exit status is unknown"):
        await controller.wait()
    with pytest.raises(AlreadyDoneError):
        await controller.start()
    await controller.shutdown()
    assert process.alive
    assert await controller.container_status() is None
    record.write_text(text)


async def test_a_recycled_pid_is_never_signalled(bench: Bench) -> None:
    controller = await bench.started("sleep", "60")
    process = bench.identity()
    Identity(process.pid, "1").send(signal.SIGKILL)
    assert process.alive
    assert await controller.container_status() is not None


async def test_output_is_bounded(bench: Bench) -> None:
    size = 3 * LOG_BOUND + 12345
    controller = await bench.started("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; echo end")
    await controller.wait()
    files = [bench.directory / "t" / name for name in ("stdout.log", "stdout.log.1")]
    assert all(file.stat().st_size <= LOG_BOUND + 65536 for file in files)
    assert bench.output().endswith("end\n")


async def test_the_files_of_a_process_are_private(bench: Bench) -> None:
    await bench.started("sleep", "60")
    assert bench.directory.stat().st_mode & 0o777 == 0o700
    assert (bench.directory / "t").stat().st_mode & 0o777 == 0o700
    assert (bench.directory / "t" / "stdout.log").stat().st_mode & 0o777 == 0o600


async def test_arguments_and_environment_are_not_in_the_supervisors_command_line(bench: Bench) -> None:
    task = make_task("t")
    task.spec.container.command.extend(["sleep", "60"])
    task.spec.container.env.append("PASSWORD=geheim")
    controller = await bench.of(task)
    await controller.prepare()
    await controller.start()
    supervisor = bench.identities()[0]
    files = [Path(f"/proc/{supervisor.pid}/{name}") for name in ("cmdline", "environ")]
    assert [b"geheim" in file.read_bytes() for file in files] == [False, False]


async def test_a_sweep_removes_what_no_task_accounts_for(bench: Bench) -> None:
    await bench.started("sleep", "60", task_id="kept")
    await bench.started("sleep", "60", task_id="orphan")
    orphan = bench.identity("orphan")
    await bench.executor.sweep({"kept"})
    assert not orphan.alive
    assert bench.identity("kept").alive


async def test_a_task_id_that_is_no_name_is_refused(bench: Bench) -> None:
    for task_id in ("../x", "", "a/b", "."):
        with pytest.raises(UnsupportedError, match="invalid task id"):
            await bench.controller("true", task_id=task_id)


async def test_the_machine_is_described_without_an_engine(bench: Bench) -> None:
    described = await bench.executor.describe()
    assert described.hostname
    assert described.platform.os == "linux"
    assert described.platform.architecture == os.uname().machine
    assert described.resources.nano_cpus >= 10**9
    assert described.resources.memory_bytes > 1 << 26
    assert not described.HasField("engine")
    assert described == await bench.executor.describe()
