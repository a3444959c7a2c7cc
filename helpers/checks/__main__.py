"""Grade submitted notebooks: ``python -m helpers.checks folder --csv marks.csv``."""

import argparse
import csv
import json
import sys
from pathlib import Path

from helpers import runtime

from .answers import printable
from .grading import Limits, grade


def main(arguments: list[str] | None = None) -> int:
    """Print one line for each exercise of each notebook; 0 if every notebook could be graded."""
    parser = argparse.ArgumentParser(prog="python -m helpers.checks", description="Grade submitted notebooks.")
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks, or folders of notebooks")
    parser.add_argument("--chapter", type=int, choices=range(1, 11), metavar="N", help="of all the notebooks")
    parser.add_argument(
        "--seconds", type=float, default=Limits().cells, help="for the cells of a notebook (%(default)g)"
    )
    parser.add_argument("--call", type=float, default=Limits().call, help="seconds for a call (%(default)g)")
    parser.add_argument("--memory", type=float, default=Limits().memory, help="in GiB (%(default)g)")
    parser.add_argument("--json", type=Path, help="write the marks here")
    parser.add_argument("--csv", type=Path, help="write the marks here, one line for each exercise")
    options = parser.parse_args(arguments)
    limits = Limits(options.seconds, options.call, options.memory)
    paths = [
        path for given in options.paths for path in (sorted(given.rglob("*.ipynb")) if given.is_dir() else [given])
    ]
    rows, unread = [], 0
    for path in runtime.progress(paths, "grading", "notebook"):
        name = printable(path)
        try:
            results = grade(path, chapter=options.chapter, limits=limits)
        except ValueError as error:
            unread += 1
            print(f"{name}: {printable(error)}", file=sys.stderr)
            continue
        print(f"{name}: {sum(result.passed for result in results)} of {len(results)}")
        for label, passed, message in results:
            print(f"  {label:>4}  {int(passed)}  {' '.join(message.split())}")  # one line, whatever it holds
            rows.append({"notebook": name, "exercise": label, "mark": int(passed), "message": message})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.csv:
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["notebook", "exercise", "mark", "message"])
            writer.writeheader()
            writer.writerows(rows)
    return int(unread > 0 or not paths)


if __name__ == "__main__":
    sys.exit(main())
