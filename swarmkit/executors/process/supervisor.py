"""Supervises one process: a program of its own, run by path, that outlives the daemon.

It imports nothing of the project and next to nothing of the library, so that one costs about 3 MB. It
becomes a daemon, takes the lock of its directory for as long as it lives, starts the process in a session of
its own, writes ``record`` (who runs), copies output to ``stdout.log`` and ``stderr.log``, each rotated once
at a bound, and when the process ends kills what is left of its process group and writes ``exit``.

Input on stdin, each field ended by a NUL byte: directory, working directory, uid, gid, groups joined by
commas (uid, gid and groups empty for "as I am"), bound of a log file in bytes, number of arguments, the
arguments (none: idle until stopped), then the environment as NAME=value.

Output on stdout, one line: ``started``, ``running`` (started before, by another supervisor), or
``failed N TEXT`` with the exit code a container engine would give. Nothing secret is in this program's
arguments.
"""

import fcntl
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes read from a pipe at once.
CHUNK = 65536
#: Most reads from a pipe after the end of the process; a pipe holds 64 KiB.
DRAIN = 32
#: Exit code of a command that was not found or cannot be executed.
NOT_EXECUTABLE = 127
#: Exit code where the process could not be set up: working directory, user.
SET_UP_FAILED = 128


class StartError(Exception):
    """The process cannot be started."""


class Log:
    """A log file of at most ``bound`` bytes, and the one before it; what cannot be written is dropped."""

    def __init__(self, name: str, bound: int) -> None:
        self._name = name
        self._bound = bound
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        """Append ``data``. A full disk must not stop the process, so errors lose output and nothing else."""
        try:
            if self._size >= self._bound:
                os.close(self._fd)
                os.rename(self._name, self._name + ".1")
                self._open()
            self._size += os.write(self._fd, data)
        except OSError:
            return


def start_time(pid: int) -> str:
    """Return the start of a process in clock ticks since boot: with the pid, its identity."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[19].decode()


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def replace(name: str, text: str) -> None:
    """Write a small file whole or not at all."""
    with open(name + ".new", "w") as file:
        file.write(text)
    os.rename(name + ".new", name)


def reply(text: str) -> None:
    """Tell whoever started this program how it went, and let go of it."""
    try:
        os.write(1, text.encode(errors="replace") + b"\n")
    except BrokenPipeError:
        pass  # the daemon was killed meanwhile; the next one reads the record
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def set_up(user: list[bytes], directory: bytes, fds: tuple[int, int]) -> None:
    """In the child: take the streams, the working directory and the identity the process is to have."""
    # Imported here, where its memory is given up a moment later.
    import signal

    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (fds[0], 1), (fds[1], 2)):
        os.dup2(source, target)
    os.chdir(directory)
    uid, gid, groups = user
    if uid:
        os.setgroups([int(group) for group in groups.split(b",") if group])
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def idle() -> None:
    """In the child of a task without a command: wait to be stopped."""
    os.write(1, b"no command given, and images cannot run without an engine: idling until stopped\n")
    os.closerange(3, 1024)  # the lock and the failure pipe, which exec would close
    while True:
        select.select([], [], [])


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Replace this program, looking for the command along the process's own PATH.

    ``os.execvpe`` would import a module for that, which the process's user may not be allowed to read.

    Raises:
        OSError: the command cannot be run; the reason of a file that is there goes before "not found".
    """
    folders = [b""] if b"/" in argv[0] else env.get(b"PATH", b"").split(b":")
    found: OSError = FileNotFoundError(2, "No such file or directory")
    for folder in folders:
        try:
            os.execve(os.path.join(folder, argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found = error
    raise found


def run_child(
    argv: list[bytes], env: dict[bytes, bytes], set_up_child: "Callable[[], None]", fd: int
) -> None:
    """In the child: become the process, or write the reason to ``fd`` and exit."""
    code, what = SET_UP_FAILED, "cannot set up the process"
    try:
        set_up_child()
        if not argv:
            idle()
        code, what = NOT_EXECUTABLE, os.fsdecode(argv[0])
        execute(argv, env)
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        os.write(fd, f"{code} {what}: {reason}".encode(errors="replace"))
    finally:
        os._exit(code)


def spawn(
    argv: list[bytes], env: dict[bytes, bytes], user: list[bytes], directory: bytes
) -> tuple[int, int, int]:
    """Start the process; return its pid and the reading ends of its stdout and stderr.

    Raises:
        StartError: it cannot be started; the text is the code and the reason.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        run_child(argv, env, lambda: set_up(user, directory, (out_write, err_write)), failure_write)
    for fd in (out_write, err_write, failure_write):
        os.close(fd)
    failure = os.read(failure_read, CHUNK)  # empty as soon as the process runs
    os.close(failure_read)
    if failure:
        os.waitpid(pid, 0)
        raise StartError(failure.decode())
    return pid, out_read, err_read


def start(fields: list[bytes]) -> tuple[int, dict[int, Log]]:
    """Start the process and write down who runs; return its pid and where its output goes.

    Raises:
        StartError: it cannot be started; nothing runs.
    """
    work, *user, bound, count = fields[:6]
    argv, env = fields[6 : 6 + int(count)], fields[6 + int(count) :]
    # Made now, so that a full disk later does not lose the exit code.
    replace("code", "000\n")
    logs = [Log("stdout.log", int(bound)), Log("stderr.log", int(bound))]
    pid, out, err = spawn(argv, dict(entry.split(b"=", 1) for entry in env), user, work)
    me = os.getpid()
    try:
        replace("record", f"{boot_id()} {me} {start_time(me)} {pid} {start_time(pid)}\n")
    except OSError:
        os.killpg(pid, 9)
        os.waitpid(pid, 0)
        raise
    return pid, dict(zip((out, err), logs, strict=True))


def supervise(pid: int, logs: dict[int, Log]) -> int:
    """Copy output until the process ends; kill the rest of its group and return its exit code."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    for fd in logs:
        poll.register(fd, select.POLLIN)
    ended = False
    while not ended:
        for fd, _ in poll.poll():
            if fd == pidfd:
                ended = True
            elif not copy(fd, logs[fd]):
                poll.unregister(fd)
                del logs[fd]
    os.killpg(pid, 9)  # the process itself is not reaped yet, so the group is still its own
    _, status = os.waitpid(pid, 0)
    for fd, log in logs.items():
        os.set_blocking(fd, False)
        for _ in range(DRAIN):  # bounded: a process that left the group may write for ever
            if not copy(fd, log):
                break
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def copy(fd: int, log: Log) -> bool:
    """Copy what there is; return False at the end, or if nothing is there and ``fd`` does not block."""
    try:
        data = os.read(fd, CHUNK)
    except BlockingIOError:
        return False
    log.write(data)
    return bool(data)


def main() -> None:
    """Start, supervise, and write down how it ended."""
    directory, *fields = sys.stdin.buffer.read().split(b"\0")[:-1]
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(directory)
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        reply("running")
        return
    if os.path.exists("exit"):
        reply("running")
        return
    try:
        pid, logs = start(fields)
    except StartError as error:
        reply(f"failed {error}")
        return
    except OSError as error:
        reply(f"failed {SET_UP_FAILED} cannot supervise the process: {error}")
        return
    reply("started")
    code = supervise(pid, logs)
    with open("code", "r+") as file:
        file.write(f"{code:03d}\n")
    os.rename("code", "exit")


if __name__ == "__main__":
    main()
