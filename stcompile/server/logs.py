"""One line of JSON for each request and event, on standard error: never a text, a vector or a key."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any

logger = logging.getLogger("stcompile.server")


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
        return json.dumps(content, ensure_ascii=False)


def to_standard_error() -> None:
    """Sends what the server and uvicorn say there, warnings and more of uvicorn alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AsJson())
    for name, level in (("stcompile.server", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.ERROR)):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)


def event(name: str, **facts: Any) -> None:
    """Something that happened, and what of it is worth a line."""
    logger.info(name, extra={"facts": facts})
