"""One round with a randomly initialised Llama: tokens per second and peak memory of each stage, full and LoRA.

    uv run python tests/benchmarks/gpu_round.py                      # 0.5 B parameters, bf16-mixed, one GPU
    uv run python tests/benchmarks/gpu_round.py --smoke              # a tiny model on the processor: does it run?

Random policies do not end their answers, so every response has `--new-tokens` tokens and work is known in advance. The
run goes through the real command's own parts: configuration, rollout, store, trainer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HALF_BILLION = [
    "model.hidden_size=1280",
    "model.intermediate_size=5120",
    "model.num_hidden_layers=20",
    "model.num_attention_heads=20",
    "model.num_key_value_heads=4",
    "model.max_position_embeddings=2048",
    "trainer=gpu",
    "sampler.token_budget=262144",
    "sampler.scoring_budget=65536",
]
COMMON = ["experiment=quickstart", "model=llama", "rounds=1", "callbacks.win_rate=null", "callbacks.export=null"]
STAGES = ("sample", "reference", "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
        return
    prompts, tokens = (8, 16) if options.smoke else (options.prompts, options.new_tokens)
    shape = [] if options.smoke else HALF_BILLION
    sizes = [f"prompts.train={prompts}", f"rollout.chunk_size={prompts}", f"sampler.max_new_tokens={tokens}"]
    for name, extra in (("full", []), ("LoRA", ["model/lora=default"])):
        report(name, measured([*COMMON, *shape, *sizes, *extra]))


def measured(overrides: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--child", *overrides]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def report(name: str, figures: dict[str, Any]) -> None:
    print(f"{name}: {figures['parameters'] / 1e6:.1f} M parameters, {figures['trainable'] / 1e6:.1f} M trained")
    for stage in STAGES:
        seconds, tokens = figures["seconds"][stage], figures["tokens"][stage]
        memory = figures["memory"].get(stage)
        peak = "" if memory is None else f", peak {memory / 2**30:.2f} GiB"
        print(f"  {stage:<10}{seconds:8.2f} s {tokens / seconds:12,.0f} tokens/s{peak}")


def child(overrides: list[str]) -> None:
    import torch
    from lightning.pytorch.callbacks import Callback

    from sparring.analysis.summary import summarise
    from sparring.cli import build, train
    from sparring.rollout import chunks

    cuda = torch.cuda.is_available()
    memory: dict[str, int] = {}

    def peak(stage: str) -> None:
        if cuda:
            memory[stage] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()

    class Peaks(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            peak("before training")

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            peak("train")

    def between_stages(score: Callable[..., Any]) -> Callable[..., Any]:
        def scored(*arguments: Any, **options: Any) -> Any:
            peak("sample")
            result = score(*arguments, **options)
            peak("reference")
            return result

        return scored

    counts: dict[str, int] = {}

    def with_peaks(build_experiment: Callable[..., Any]) -> Callable[..., Any]:
        def built(*arguments: Any, **options: Any) -> Any:
            experiment = build_experiment(*arguments, **options)
            experiment.trainer.callbacks.insert(0, Peaks())
            parameters = list(experiment.objective.policy.parameters())
            counts["parameters"] = sum(p.numel() for p in parameters)
            counts["trainable"] = sum(p.numel() for p in parameters if p.requires_grad)
            return experiment

        return built

    chunks.score = between_stages(chunks.score)
    build.build = with_peaks(build.build)
    sys.argv = [train.__file__, *overrides]
    train.main()
    (run,) = Path("outputs").iterdir()
    (entry,) = summarise(run, status="finished", objective="DNO")["rounds"]
    print(json.dumps({**counts, "seconds": entry["seconds"], "memory": memory, "tokens": tokens_of(run)}))


def tokens_of(run: Path) -> dict[str, int]:
    """Useful tokens of each stage: sampled; responses scored; responses trained on, each once, however many pairs."""
    from sparring.data.rounds import read_rows

    candidates = list(read_rows(run / "rounds/round-000/candidates.parquet"))
    pairs = list(read_rows(run / "rounds/round-000/pairs.parquet"))
    trained = {
        (row["prompt_id"], row[f"{side}_index"]): len(row[f"{side}_ids"])
        for row in pairs
        for side in ("chosen", "rejected")
    }
    return {
        "sample": sum(len(row["ids"]) for row in candidates if row["origin"] == "policy"),
        "reference": sum(len(row["ids"]) for row in candidates),
        "train": sum(trained.values()),
    }


if __name__ == "__main__":
    main()
