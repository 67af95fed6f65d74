"""An imitation of the training process: it is told what to do, attempt by attempt, and needs no torch.

A test puts it where `python -m duologue_training.job` finds it (see `install`). `script.json` beside it lists what to
do at each attempt; `calls.jsonl` gets the plan and the environment of each.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

RESULT = {
    "base_files": {"config.json": "c0", "model.safetensors": "5a"},
    "steps": 2,
    "losses": [2.5, 1.25],
    "seconds": 3.5,
    "telling_probes": 1,
    "versions": {"torch": "2.15"},
}

# All other modules of the package are found where they are.
_BESIDE_THE_REAL_ONE = "import pkgutil\n__path__ = pkgutil.extend_path(__path__, __name__)\n"


def install(folder: Path, *attempts: str) -> Path:
    """Puts the imitation below `folder`; the path to add to PYTHONPATH."""
    package = folder / "imitation" / "duologue_training"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_BESIDE_THE_REAL_ONE)
    (package / "job.py").write_text(Path(__file__).read_text())
    (package / "script.json").write_text(json.dumps(attempts))
    return package.parent


def calls(path: Path) -> list[dict]:
    file = path / "duologue_training" / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def tell(stage: str, **fields: float) -> None:
    print(json.dumps({"stage": stage, **fields}), flush=True)


def train(plan: dict, folder: Path, what: str) -> None:
    out = folder / "out"
    tell("loading")
    print("a library says hello", flush=True)
    for step, loss in enumerate(RESULT["losses"], 1):
        tell("training", step=step, steps=2, loss=loss)
    if what == "holds at the last step":
        os.read(sys.stdin.fileno(), 1)
    tell("merging", step=2, steps=2)
    (out / "adapter").mkdir()
    (out / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    if plan["merge"]:
        (out / "merged").mkdir()
        (out / "merged" / "model.safetensors").write_bytes(b"merged weights")
    (out / "fingerprint.json").write_text(json.dumps({"max_tokens": 16, "probes": []}))
    (folder / "result.json").write_text(json.dumps(RESULT | {"examples": len(plan["examples"])}))
    tell("done")


def main() -> int:
    here = Path(__file__).parent
    folder = Path(sys.argv[1])
    plan = json.loads((folder / "plan.json").read_text())
    with (here / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"plan": plan, "environment": dict(os.environ), "pid": os.getpid()}) + "\n")
    script = json.loads((here / "script.json").read_text())
    what = script[min(len(calls(here.parent)), len(script)) - 1]
    if what == "killed":
        tell("loading")
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crashes":
        raise MemoryError("no room for the optimizer")
    if what == "unusable":
        print(json.dumps({"error": "base model 'x' can't be loaded"}), file=sys.stderr)
        return 3
    if what == "chatters":
        print("." * 200_000, flush=True)
    if what == "waits for a sign":
        tell("loading")
        while not (here.parents[1] / "sign").exists():
            time.sleep(0.02)
    if what == "waits":
        tell("loading")
        os.read(sys.stdin.fileno(), 1)
        return 1
    train(plan, folder, what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
