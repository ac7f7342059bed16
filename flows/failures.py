"""A failed stage is an answer, not an accident: no traceback in the run's log.

Prefect 3.8 logs a returned Failed state as an exception. The state and its message
stay, and they are logged; the traceback, which shows Prefect's own code, goes.
"""

import logging

from prefect.exceptions import FailedRun


class Answered(logging.Filter):
    """Drops what is logged of a FailedRun, and the traceback where there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple):
            kind, *_ = record.exc_info
            if kind is None:
                record.exc_info = None
            elif issubclass(kind, FailedRun):
                return False
        return True


def quieten() -> None:
    """Filter the loggers of runs and of the engine; once is enough."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, Answered) for known in logger.filters):
            logger.addFilter(Answered())
