"""Files that are replaced while a service runs: certificates, tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from duologue.core.problems import WrongSetting

log = structlog.get_logger(__name__)

T = TypeVar("T")

Contents = Mapping[str, bytes]
"""Of files, by the setting that names each."""


class Reloaded(Generic[T]):
    """What files say by now. While they can't be used, as in the middle of a renewal, what they said last holds."""

    def __init__(self, files: Mapping[str, str], load: Callable[[Contents], T]) -> None:
        """`files`: paths by setting. `load` makes of their contents what is wanted.

        Both this and `load` raise `WrongSetting` for files that can't be used.
        """
        self._files = files
        self._load = load
        self._contents = _read(files)
        self._value = load(self._contents)
        self._complaint = ""

    @property
    def value(self) -> T:
        """Reads the files, which are small, whenever it is asked for; nobody has to watch them."""
        try:
            contents = _read(self._files)
            if contents != self._contents:
                self._value = self._load(contents)
                self._contents = contents
                log.info("files reloaded", files=list(self._files.values()))
            self._complaint = ""
        except WrongSetting as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("files not reloaded, what they said before holds", reason=str(error))
        return self._value


def _read(files: Mapping[str, str]) -> Contents:
    contents = {}
    for setting, file in files.items():
        try:
            contents[setting] = Path(file).read_bytes()
        except OSError as error:
            raise WrongSetting(f"{file} can't be read: {error.strerror} (setting {setting})") from error
    return contents
