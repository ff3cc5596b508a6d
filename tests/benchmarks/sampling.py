"""Tokens per second of `Sampler` against one bare `model.generate` call on the same prompts, one thread.

    python tests/benchmarks/sampling.py [--model DIRECTORY] [--repetitions 5]

Two cases, interleaved repetitions, the median of the ratios of each pair. "full": no token ends a response, so both
decode every row to the last step. "natural": rows end by chance, with lengths as in `--mean-length`; both count only
tokens up to the end. Rendering, decoding to text and building records is inside the sampler's time, and tokenising is
outside that of `generate`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sparring.core.collate import pad
from sparring.core.types import Message, Prompt
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler

VOCABULARY = 640


def random_policy() -> Policy:
    """Hidden size 96, 4 layers, 640 words; the words are numbers."""
    words = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *map(str, range(VOCABULARY - 3))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return Policy(LlamaForCausalLM(config), tokenizer)


def random_prompts(policy: Policy, count: int, shortest: int, longest: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(1)
    prompts = []
    for number in range(count):
        length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        ids = torch.randint(3, len(policy.tokenizer), (length,), generator=generator).tolist()
        text = policy.tokenizer.decode(ids)
        prompts.append(Prompt(str(number), (Message("user", text),)))
    return prompts


def set_end_rate(policy: Policy, rate: float) -> Callable[[], object]:
    """Every step ends a row with probability `rate`, the same for both contenders; returns what undoes it."""
    ends = list(policy.eos_ids)

    def change(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits[..., ends] = float("-inf")
        if rate:
            logits[..., ends[0]] = logits.logsumexp(-1) + torch.tensor(rate / (1 - rate)).log()
        return logits

    head = policy.base.get_output_embeddings()
    assert head is not None
    return head.register_forward_hook(change).remove


def generated_tokens(policy: Policy, prompts: list[Prompt], sampler: Sampler) -> tuple[int, float]:
    ids, mask = pad([policy.render(prompt) for prompt in prompts], pad_id=policy.pad_id, left=True)
    started = time.perf_counter()
    with torch.no_grad():
        output: Tensor = policy.base.generate(  # type: ignore
            input_ids=ids,
            attention_mask=mask.long(),
            do_sample=True,
            top_k=0,
            num_return_sequences=sampler.num_generations,
            max_new_tokens=sampler.max_new_tokens,
            eos_token_id=list(policy.eos_ids),
            pad_token_id=policy.pad_id,
        )
    seconds = time.perf_counter() - started
    ended = torch.isin(output[:, ids.shape[1] :], torch.tensor(policy.eos_ids))
    before_end = (ended.long().cumsum(1) - ended.long()) == 0
    return int(before_end.sum()), seconds


def sampled_tokens(policy: Policy, prompts: list[Prompt], sampler: Sampler, seed: int) -> tuple[int, float]:
    started = time.perf_counter()
    candidates = sampler(policy, prompts, seed=seed)
    seconds = time.perf_counter() - started
    return sum(len(response.ids) for group in candidates for response in group.responses), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model directory; a random Llama without it")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--shortest", type=int, default=20, help="tokens of the shortest prompt")
    parser.add_argument("--longest", type=int, default=30)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--mean-length", type=float, default=24, help="of a response, before the limit cuts it")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(1)
    policy = load_policy(options.model) if options.model else random_policy()
    policy.eval()
    prompts = random_prompts(policy, options.prompts, options.shortest, options.longest)
    sampler = Sampler(options.generations, 1.0, 1.0, 0, options.max_new_tokens, token_budget=10**9)
    for case, rate in (("full", 0.0), ("natural", 1 / options.mean_length)):
        undo = set_end_rate(policy, rate)
        rates: list[tuple[float, float]] = []
        for repetition in range(options.repetitions + 1):
            torch.manual_seed(repetition)
            tokens, seconds = generated_tokens(policy, prompts, sampler)
            own_tokens, own_seconds = sampled_tokens(policy, prompts, sampler, repetition)
            rates.append((tokens / seconds, own_tokens / own_seconds))
        undo()
        rates = rates[1:]  # the first warms up
        ratio = statistics.median(own / other for other, own in rates)
        other, own = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"{case:8} generate {other:8.0f} tokens/s   sampler {own:8.0f} tokens/s   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
