"""Generate the Python code of the contracts: `python protos/generate.py [OUT]` (default: where it is committed)."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent
OUT = PROTOS.parent / "libs/duologue/src/duologue/contracts"


def generate(out: Path) -> None:
    """Write `v1/*_pb2.py`, `*_pb2_grpc.py` and their type stubs below `out`."""
    sources = sorted(str(path) for path in (PROTOS / "duologue/v1").glob("*.proto"))
    options = [f"--{plugin}_out={out}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    # protoc looks for its plugins on the PATH; they lie beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    google = str(files("grpc_tools") / "_proto")
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{google}", *options, *sources]):
        raise SystemExit("protoc failed")
    _move(out / "duologue/v1", out / "v1")
    shutil.rmtree(out / "duologue")


def _move(made: Path, place: Path) -> None:
    """protoc names modules by proto path, duologue.v1; ours live in duologue.contracts.v1."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "__init__.py").write_text('"""Generated from protos/ by `make protos`."""\n')
    for module in sorted(made.iterdir()):
        text = module.read_text().replace("from duologue.v1", "from duologue.contracts.v1")
        text = text.replace("import duologue.v1.", "import duologue.contracts.v1.")
        text = text.replace("duologue.v1.", "duologue.contracts.v1.") if module.suffix == ".pyi" else text
        (place / module.name).write_text(text)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
