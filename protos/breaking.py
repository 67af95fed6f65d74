"""Refuse a change of the contracts that readers of the main branch's messages could not follow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).parent
ROOT = PROTOS.parent
BUF = Path(sys.executable).with_name("buf")


def main() -> int:
    for branch in ("origin/main", "main"):
        listed = subprocess.run(
            ["git", "ls-tree", "-r", "--name-only", branch, "protos/duologue"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode == 0 and listed.stdout.strip():
            against = f"{ROOT}/.git#branch={branch},subdir=protos"
            return subprocess.run([BUF, "breaking", "--against", against], cwd=PROTOS, check=False).returncode
    print("protos: no main branch to compare with")
    return 0


if __name__ == "__main__":
    sys.exit(main())
