"""The quickstart in a fresh process, for several seeds: wall seconds, peak memory, held-out win rate with interval.

uv run python tests/benchmarks/quickstart.py --seeds 1 2 3
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("overrides", nargs="*", help="further KEY=VALUE for sparring train")
    options = parser.parse_args()
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as directory:
            command = ["sparring", "train", "experiment=quickstart", f"seed={seed}", *options.overrides]
            started = time.perf_counter()
            result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - started
            if result.returncode:
                sys.exit(result.stderr)
            (run,) = Path(directory, "outputs").iterdir()
            rounds = json.loads((run / "summary.json").read_text())["rounds"]
        rates = [f"{r['win_rate_vs_base']:.3f}" for r in rounds]
        low, high = rounds[-1]["win_rate_vs_base_ci95"]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"seed {seed}: win rate vs base {' '.join(rates)}, last within {low:.3f} .. {high:.3f}; "
            f"{seconds:.1f} s wall, peak {peak:.0f} MB of any run so far"
        )


if __name__ == "__main__":
    main()
