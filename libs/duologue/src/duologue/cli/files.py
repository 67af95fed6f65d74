"""Reading what people wrote (workflows, personas, campaigns), and writing what they asked for."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from duologue.cli.output import Failure
from duologue.core.campaign import Campaign, load_campaign
from duologue.core.problems import InvalidInput, Problem
from duologue.core.workflow import Workflow
from duologue.core.workflow_file import load_workflow


def read_text(path: Path) -> str:
    """The text of a file. Raises `InvalidInput` when it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput([Problem(str(path), 0, f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise InvalidInput([Problem(str(path), 0, "is not a text file in UTF-8")]) from None


def read_workflow(path: Path) -> Workflow:
    return load_workflow(read_text(path), str(path))


def read_campaign(path: Path) -> tuple[Campaign, str, dict[str, str]]:
    """A checked campaign, the text of its file, and the texts of the files that it names."""
    text = read_text(path)
    files: dict[str, str] = {}

    def read(name: str) -> str:
        files[name] = (path.parent / name).read_text(encoding="utf-8")
        return files[name]

    return load_campaign(text, str(path), read), text, files


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new file to write to, which takes the name `output` when it is whole. Raises `Failure` when it can't."""
    temporary = output.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        if output.exists() and not output.is_file():
            raise Failure(f"{output} can't be written: it is not a file.")
        yield temporary
        temporary.replace(output)
    except OSError as error:
        raise Failure(f"{output} can't be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
