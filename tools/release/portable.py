"""Run the unit tests and every notebook as on other CPUs: ``portable.py [CONFIGURATION …]``.

PyTorch, oneDNN, MKL, OpenBLAS and NumPy choose their kernels by what the CPU can do. Variables make them choose as an
older CPU would, so that one machine stands for many. Prints a table, configuration by what failed, and the ten closest
calls: the printed numbers that moved most against what they may. The result, with the date, is written to
``_build/portable.json``; the release notes quote it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "_build/portable"
CLOSEST = 10


def isa(aten: str, onednn: str, mkl: str, openblas: str) -> dict[str, str]:
    """The variables that hold the four libraries to one instruction set."""
    names = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")
    return dict(zip(names, (aten, onednn, mkl, openblas)))


def configurations() -> dict[str, dict[str, str]]:
    """Those that this machine can stand for, each with its variables."""
    has = __cpu_features__
    extra = [name for name in __cpu_dispatch__ if has.get(name)]
    found = {"as it is": {}, "SSE4": isa("default", "SSE41", "SSE4_2", "Nehalem")}
    if has.get("AVX2"):
        found["AVX2"] = isa("avx2", "AVX2", "AVX2", "Haswell")
    if has.get("AVX512_SKX"):
        found["AVX-512"] = isa("avx512", "AVX512_CORE", "AVX512", "SkylakeX")
    if extra:
        found["NumPy's baseline"] = {"NPY_DISABLE_CPU_FEATURES": " ".join(extra)}
    return found | {"two threads": {"OMP_NUM_THREADS": "2"}}


def run(name: str, variables: dict[str, str]) -> dict:
    """Both make targets with these variables: what failed, which numbers moved, and the seconds."""
    begin, failed = time.perf_counter(), []
    numbers = PLACE / f"{name}.jsonl"
    numbers.unlink(missing_ok=True)
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"} | variables
    one = "ONE=" + " ".join(f'{key}="{value}"' for key, value in settings.items())
    for target, options in (("unit", ""), ("nbval", f'--numbers "{numbers}"')):
        report, log = PLACE / f"{name}, {target}.xml", PLACE / f"{name}, {target}.log"
        report.unlink(missing_ok=True)
        environment = os.environ | {"PYTEST_ADDOPTS": f'{options} --junitxml="{report}"'}
        with log.open("w", encoding="utf-8") as file:
            command = ["make", "--no-print-directory", target, one, "KEEP="]  # the site shows this machine's own run
            code = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=file).returncode
        found = failures(report)
        if code and not found:
            found = [f"make {target} ended with {code}, see {log.relative_to(ROOT)}"]
        failed += found
    moved = [json.loads(line) for line in numbers.read_text().splitlines()] if numbers.exists() else []
    return {"failed": failed, "moved": moved, "seconds": round(time.perf_counter() - begin)}


def failures(report: Path) -> list[str]:
    """The names of the tests in a JUnit report that did not pass."""
    if not report.exists():
        return []
    cases = ElementTree.parse(report).iter("testcase")
    return [
        f"{case.get('classname', '').rpartition('.')[2]} {case.get('name')}".strip()
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]


def closest(results: dict[str, dict]) -> list[tuple[float, str]]:
    """The numbers that moved most against what they may, each once, with the configurations in which they did."""
    places: dict[tuple, list[tuple[float, str, str]]] = {}
    for name, result in results.items():
        for one in result["moved"]:
            # Of a count, which may not move at all, any move is beyond.
            share = one["units"] / one["allowed"] if one["allowed"] else float("inf")
            place = one["notebook"], one["cell"], one["committed"], one["line"].partition(one["found"])[0]
            places.setdefault(place, []).append((share, one["found"], name))
    rows = []
    for (notebook, cell, committed, before), moves in places.items():
        seen = "; ".join(f"{found} ({name})" for _, found, name in moves)
        said = f"{notebook}, cell {cell}: {before.strip()[-40:]} {committed} → {seen}"
        rows.append((max(share for share, *_ in moves), said))
    return sorted(rows, key=lambda row: -row[0])[:CLOSEST]


def table(results: dict[str, dict]) -> str:
    rows = ["| Configuration | Failed | Numbers that moved | Minutes |", "|---|---|---|---|"]
    for name, result in results.items():
        failed = "; ".join(result["failed"]) or "nothing"
        rows.append(f"| {name} | {failed} | {len(result['moved'])} | {result['seconds'] / 60:.0f} |")
    rows += ["", "The closest calls, as shares of what is allowed:"]
    return "\n".join(rows + [f"{share:5.2f}  {said}" for share, said in closest(results)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = configurations()
    parser.add_argument("names", nargs="*", metavar="CONFIGURATION", help=f"default: all of {', '.join(known)}")
    names = parser.parse_args().names or list(known)
    if unknown := set(names) - set(known):
        parser.error(f"this machine can't stand for {', '.join(unknown)}; it can for {', '.join(known)}")
    PLACE.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    results = {}
    for name in names:
        print(f"{name} …", flush=True)
        results[name] = run(name, known[name])
        print(f"  {len(results[name]['failed'])} failed, {results[name]['seconds'] / 60:.0f} minutes", flush=True)
    print(f"\n{table(results)}")
    result = {"date": datetime.date.today().isoformat(), "commit": commit, "configurations": results}
    (ROOT / "_build/portable.json").write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(result["failed"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
