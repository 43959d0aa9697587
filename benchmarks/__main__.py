"""``python -m benchmarks``: assemble benchmarks/README.md from the tables of the last runs."""

from __future__ import annotations

from pathlib import Path

from kadanoff.files import atomic_write

HERE = Path(__file__).parent
HEAD = """# Benchmarks

Each table is written by one program, `python -m benchmarks.NAME`, with the peer beside us in the
same run; this page is assembled from `results/NAME.md` by `python -m benchmarks`. Ratios mean
more than seconds: of the runs on 2 shared CPU cores, no GPU, those of kernels, ensembles and
sparsity had the machine to themselves; it was busy with other work during most of the others, and
the tables say so where it matters. Programs without a table here have not been run to
the end yet.
"""


def main() -> None:
    parts = [HEAD]
    for path in sorted((HERE / "results").glob("*.md")):
        text = path.read_text(encoding="utf-8").strip()
        if not text.startswith("#"):
            text = f"### {path.stem.replace('_', ' ').capitalize()}\n\n{text}"
        lines = text.splitlines()
        title = lines[0].lstrip("# ")
        parts.append(
            f"## {title}\n\n`python -m benchmarks.{path.stem}`\n" + "\n".join(lines[1:]) + "\n"
        )
    missing = sorted(
        path.stem
        for path in HERE.glob("*.py")
        if not path.stem.startswith("_")
        and not path.stem.endswith("_peer")
        and not (HERE / "results" / f"{path.stem}.md").exists()
    )
    if missing:
        parts.append("## Not run to the end yet\n\n" + ", ".join(f"`{m}`" for m in missing) + "\n")
    atomic_write(HERE / "README.md", "\n".join(parts))


if __name__ == "__main__":
    main()
