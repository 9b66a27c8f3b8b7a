"""One line of JSON for each request and event, on standard error: never a text, a vector or a key."""

from __future__ import annotations

import asyncio
import datetime
import logging
import sys
from typing import Any

import orjson

logger = logging.getLogger("stcompile.server")

# Seconds that records wait for others: with short texts a line for each request, made and written for itself, took a
# tenth of the loop's time.
_TOGETHER = 0.05


class AsJson(logging.Formatter):
    """A record as one line: its time, level and message, and what was passed as `extra={"facts": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        content: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            # Where, not what: the words of an error may quote a text.
            content["traceback"] = self.formatException(record.exc_info).splitlines()[:-1][-6:]
            content["error"] = getattr(record.exc_info[0], "__name__", "")
        return orjson.dumps(content).decode()


class Together(logging.StreamHandler[Any]):
    """Writes what a loop's callbacks say in a few milliseconds at once, and what is a warning or from elsewhere now."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._records: list[logging.LogRecord] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # which writes those that wait

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._records.append(record)
            loop = _running_loop()
            if loop is None or record.levelno >= logging.WARNING:
                self.flush()
            elif len(self._records) == 1 or self._loop is not loop:
                self._loop = loop
                loop.call_later(_TOGETHER, self.flush)
        except Exception:  # as every handler of the standard library has it
            self.handleError(record)

    def flush(self) -> None:
        """Writes what waits; at the end of the process `logging` asks for it."""
        self.acquire()
        try:
            records, self._records = self._records, []
            lines = [line for record in records if (line := self._line(record))]
            if lines:
                self.stream.write("".join(lines))
        finally:
            self.release()
        super().flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return f"{self.format(record)}\n"
        except Exception:  # the others are still told
            self.handleError(record)
            return ""


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def to_standard_error() -> None:
    """Sends what the server and uvicorn say there, warnings and more of uvicorn alone."""
    handler = Together(sys.stderr)
    handler.setFormatter(AsJson())
    for name, level in (("stcompile.server", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.ERROR)):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)
    # No line says who of this one process and thread wrote it; to ask costs more than to write it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if hasattr(logging, "logAsyncioTasks"):  # from Python 3.12 on
        logging.logAsyncioTasks = False


def event(name: str, **facts: Any) -> None:
    """Something that happened, and what of it is worth a line."""
    if logger.isEnabledFor(logging.INFO):
        # Without the search for the line of source that says it.
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, name, None, None)
        record.facts = facts
        logger.handle(record)
