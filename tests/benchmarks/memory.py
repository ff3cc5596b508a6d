"""Peak resident memory of making and training a round, for few and for many prompts: it must not grow with them.

    uv run python tests/benchmarks/memory.py --prompts 2000 20000

Each size runs in a fresh process: the quickstart's rollout with K=5 and a few new tokens per response (a round's tables
then have as many rows as with long ones), one epoch of training on its pairs, the usual 200 held-out prompts.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time

OVERRIDES = [
    "experiment=quickstart",
    "rounds=1",
    "sampler.max_new_tokens=12",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
        return
    peaks = {prompts: measured(prompts) for prompts in options.prompts}
    smallest = min(peaks)
    for prompts, (megabytes, seconds) in peaks.items():
        ratio = megabytes / peaks[smallest][0]
        print(
            f"{prompts:>7} prompts x 5: peak {megabytes:7.1f} MB, {ratio:.3f} of {smallest} prompts', {seconds:6.1f} s"
        )


def measured(prompts: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--child", str(prompts)]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    figures = json.loads(result.stdout.splitlines()[-1])
    return figures["megabytes"], figures["seconds"]


def child(prompts: int) -> None:
    from sparring.cli import train

    sys.argv = [train.__file__, *OVERRIDES, f"prompts.train={prompts}"]
    started = time.perf_counter()
    train.main()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"megabytes": megabytes, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
