"""Logging: one line an event, logfmt (``time= level= msg= key=value``), on standard error.

``log = get_logger(__name__)``, then ``log.info("task started", task_id=task.id, node_id=node_id)``. Fields
with an empty value are left out. Never pass a secret, a key or a token as a field or in the message.
"""

import datetime
import logging
import sys
from typing import TextIO

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}
_LEVEL_NAMES = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}


class Logger:
    """A named logger whose keyword arguments become fields of the line."""

    def __init__(self, logger: logging.Logger, **fields: object) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: object) -> "Logger":
        """Return a logger that adds ``fields`` to each of its lines."""
        return Logger(self._logger, **{**self._fields, **fields})

    def debug(self, message: str, **fields: object) -> None:
        """Log what helps only whoever follows one object step by step."""
        self._emit(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """Log a change an operator wants to find in the log."""
        self._emit(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Log what went wrong and is being dealt with."""
        self._emit(logging.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Log what failed and needs somebody's attention."""
        self._emit(logging.ERROR, message, fields)

    def exception(self, message: str, **fields: object) -> None:
        """Log a programming error: the line, and its traceback below it. Call in an ``except`` block."""
        self._emit(logging.ERROR, message, fields, trace=True)

    def _emit(self, level: int, message: str, fields: dict[str, object], trace: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            merged = {**self._fields, **fields}
            self._logger.log(level, "%s", message, extra={"fields": merged}, exc_info=trace)


def get_logger(name: str) -> Logger:
    """Return the logger of a module; pass ``__name__``."""
    return Logger(logging.getLogger(name))


def quote(value: object) -> str:
    """Write a value as logfmt does: bare if it can be, otherwise in double quotes with escapes."""
    text = str(value)
    if text and not any(c in text for c in ' "=\n\r\t\\') and text.isprintable():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


class LogfmtFormatter(logging.Formatter):
    """Formats a record as one logfmt line; a traceback follows as ordinary lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        parts = [
            f"time={moment.strftime('%Y-%m-%dT%H:%M:%S.%f')}Z",
            f"level={_LEVEL_NAMES.get(record.levelno, record.levelname.lower())}",
            f"msg={quote(record.getMessage())}",
        ]
        fields: dict[str, object] = getattr(record, "fields", {})
        parts += [f"{key}={quote(value)}" for key, value in fields.items() if value not in (None, "")]
        parts.append(f"module={record.name.removeprefix('swarmkit.')}")
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send the program's lines of at least ``level`` (a key of ``LEVELS``) to ``stream``, default stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("swarmkit").setLevel(LEVELS[level])
    logging.getLogger("swarmd").setLevel(LEVELS[level])
