"""A lock on a file, held by one process as long as it lives."""

import errno
import fcntl
import logging
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


def hold_lock(path: str | Path, *, what: str) -> IO[str]:
    """The file `path`, locked until it is closed or this process ends, with a line about who holds it.

    A lock of the operating system: nothing is left behind by a process that was killed. Where a file system
    has no locks, as on some clusters, that is logged and nothing is locked.

    Args:
        what: what two processes would do at once, for the message, such as "running in runs/a".

    Raises:
        ValueError: if another process holds it.
        OSError: if the file cannot be written.
    """
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (it stays open)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            logger.warning("no lock on %s (%s): a second process %s would not be noticed", path, error, what)
            return file
        file.seek(0)
        raise ValueError(
            f"another process is {what} ({file.read().strip() or 'it has just begun'}): two would write over "
            f"each other. Stop it, or give another output"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}, since {datetime.now(UTC):%F %T} UTC\n")
    file.flush()
    return file
