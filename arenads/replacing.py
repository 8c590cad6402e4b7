"""Files that are the old or the new one at every moment.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as directory:
...     path = os.path.join(directory, "results")
...     check_replaceable(path)
...     write_whole(path, b"text")
...     print(open(path).read(), os.listdir(directory))
text ['results']
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from arenads.errors import SchemaError

__all__ = ["check_replaceable", "replacing", "write_whole"]


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Give the path of a new, empty file, which takes the place of `path` at the end.

    Raises
    ------
    SchemaError
        `path` is something else than a file: a device must not be replaced.
    OSError
        With the name that was asked for, not the hidden one.
    """
    target = os.path.realpath(path)  # what a link leads to is replaced, not the link
    if os.path.exists(target) and not os.path.isfile(target):
        raise SchemaError(f"{path}: expected a file to write to, found something else")
    place = os.path.join(
        os.path.dirname(target), f".{os.path.basename(target)[:200]}.{secrets.token_hex(8)}"
    )
    try:
        # Not tempfile: the file gets the permissions that any new file gets.
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            yield place
            os.replace(place, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(place)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from error


def check_replaceable(path: str) -> None:
    """Raise what `replacing` would raise later; changes nothing that is there."""
    with contextlib.suppress(_EnoughError), replacing(path):
        raise _EnoughError


def write_whole(path: str, data: bytes) -> None:
    """Write a file; what is no file, such as /dev/stdout or a FIFO, is written to as it is."""
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(data)
        return
    with replacing(path) as place, open(place, "wb") as file:
        file.write(data)


class _EnoughError(Exception):
    pass
