"""``python -m kadanoff.atlas.worker OUT -- COMMAND...``: run it and leave its exit code in OUT."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kadanoff.files import atomic_write


def main(argv: list[str]) -> int:
    """Run the command after ``--``; its exit code goes to the file ``exit``."""
    out, command = Path(argv[0]), argv[argv.index("--") + 1 :]
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        print(f"Could not start {command[0]!r}: {error}", file=sys.stderr)
        code = 127
    atomic_write(out / "exit", f"{code}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
