"""Tables of a round at rest, and the way from records to rows and back.

Text stands beside token ids so that a human can read a round; ids are what is trained on.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sparring.core.types import Candidates, Judgement, Message, Pair, Prompt, Response

_TOKENS = pa.list_(pa.int32())
_NUMBERS = pa.list_(pa.float64())

CANDIDATES = pa.schema(
    {
        "prompt_id": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "meta": pa.string(),  # JSON
        "prompt_ids": _TOKENS,
        "index": pa.int16(),
        "origin": pa.dictionary(pa.int8(), pa.string()),
        "text": pa.string(),
        "ids": _TOKENS,
        "finish": pa.dictionary(pa.int8(), pa.string()),
        "defect": pa.string(),
        "logp": pa.float64(),  # of the policy that sampled the round, nats
        "ref_logp": pa.float64(),  # of the reference in the loss, nats
    }
)

JUDGEMENTS = pa.schema(
    {
        "prompt_id": pa.string(),
        "win": pa.list_(_NUMBERS),  # win[i][j] = P(candidate i beats candidate j)
        "scores": _NUMBERS,
        "aspects": pa.map_(pa.string(), _NUMBERS),
        "notes": pa.map_(pa.string(), _NUMBERS),
        "status": pa.string(),
        "calls": pa.int32(),
        "raw": pa.string(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "cost": pa.float64(),
        "logits": pa.list_(_NUMBERS),  # logits[i][j]: a pair ranker's answer with candidate i shown first
    }
)

PAIRS = pa.schema(
    {
        "prompt_id": pa.string(),
        "prompt": pa.string(),
        "chosen": pa.string(),
        "rejected": pa.string(),
        "kind": pa.dictionary(pa.int8(), pa.string()),
        "win": pa.float64(),  # P(chosen beats rejected), null for single responses
        "margin": pa.float64(),  # on the pairing strategy's scale, null for single responses
        "chosen_win_rate": pa.float64(),  # P(response beats the round's policy)
        "rejected_win_rate": pa.float64(),
        "chosen_rating": pa.float64(),
        "rejected_rating": pa.float64(),
        "sample_win_rates": _NUMBERS,  # of all the policy's samples of the prompt
        "chosen_ref_logp": pa.float64(),
        "rejected_ref_logp": pa.float64(),
        "source_round": pa.int32(),
        "chosen_index": pa.int16(),
        "rejected_index": pa.int16(),
        "prompt_ids": _TOKENS,
        "chosen_ids": _TOKENS,
        "rejected_ids": _TOKENS,
    }
)

# Games, one row each, with everything needed to judge, train or play them again.
EPISODES = pa.schema(
    {
        "game": pa.int64(),  # its number in the round; with the run's seed and the round it decides all randomness
        "target": pa.string(),
        "attacker": pa.string(),  # who played: "policy", "round 2", "scripted", ...
        "defender": pa.string(),
        "outcome": pa.dictionary(pa.int8(), pa.string()),  # attacker | defender | tie | invalid
        "cut": pa.bool_(),  # a tie for want of room in a context
        "utterances": pa.list_(
            pa.struct(
                {
                    "role": pa.string(),
                    "text": pa.string(),
                    "prompt_ids": _TOKENS,  # what the speaker read; empty of players without tokens
                    "ids": _TOKENS,  # the very tokens that were sampled
                    "finish": pa.string(),  # stop | length
                    "seed": pa.int64(),
                }
            )
        ),
    }
)

# What is trained on: winners' utterances, and supervised answers beside them.
TURNS = pa.schema(
    {
        "kind": pa.dictionary(pa.int8(), pa.string()),  # attacker | defender | supervised
        "game": pa.int64(),  # of EPISODES; null of supervised rows
        "turn": pa.int16(),  # which utterance of the game, from 0
        "target": pa.string(),
        "prompt": pa.string(),
        "response": pa.string(),
        "reward": pa.float64(),
        "weight": pa.float64(),  # of the role
        "share": pa.float64(),  # rows of the round / rows of this row's kind (game or supervised)
        "ref_logp": pa.float64(),  # summed over tokens, nats
        "prompt_ids": _TOKENS,
        "response_ids": _TOKENS,
    }
)

# Who won on which held-out prompt: what runs are compared by, prompt for prompt.
OUTCOMES = pa.schema(
    {
        "prompt_id": pa.string(),
        "annotator": pa.string(),  # first, or second: the one that nothing is trained on
        "against": pa.string(),  # base or previous
        "win": pa.float64(),  # share of the prompt's comparisons that are won, a tie counting half
        "probability": pa.float64(),  # mean P(current beats opponent)
    }
)
POLICY_OUTCOMES = pa.schema([pa.field("policy", pa.string()), *OUTCOMES])  # where `against` is a policy's label


# What anybody answered to be compared: policies, files, endpoints.
OUTPUTS = pa.schema(
    {
        "prompt_id": pa.string(),
        "index": pa.int16(),  # among the responses of one answerer to one prompt
        "text": pa.string(),
        "finish": pa.dictionary(pa.int8(), pa.string()),
        "tokens": pa.int32(),  # by the answerer's own tokenizer; null where nobody knows
        "seconds": pa.float64(),  # null where they were not measured one by one
    }
)

# The same of all policies, with what they were asked: can be read as recorded outputs.
RESPONSES = pa.schema(
    [pa.field("policy", pa.string()), *OUTPUTS, *(CANDIDATES.field(name) for name in ("messages", "meta"))]
)


def message_columns(prompt: Prompt) -> dict[str, Any]:
    """A prompt as tables have it: its messages, and its meta as JSON."""
    return {
        "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
        "meta": json.dumps(dict(prompt.meta)),
    }


def candidate_rows(candidates: Candidates) -> list[dict[str, Any]]:
    prompt = candidates.prompt
    shared = {
        "prompt_id": prompt.id,
        **message_columns(prompt),
        "prompt_ids": candidates.prompt_ids,
    }
    return [
        shared
        | {
            "index": index,
            "origin": response.origin,
            "text": response.text,
            "ids": response.ids,
            "finish": response.finish,
            "defect": response.defect,
            "logp": response.logp,
            "ref_logp": response.logp,
        }
        for index, response in enumerate(candidates.responses)
    ]


def to_candidates(rows: Iterable[dict[str, Any]]) -> Iterator[Candidates]:
    """Candidate sets from rows in stored order; a row with index 0 begins a set."""
    group: list[dict[str, Any]] = []
    for row in rows:
        if row["index"] == 0 and group:
            yield _candidates(group)
            group = []
        group.append(row)
    if group:
        yield _candidates(group)


def _candidates(rows: Sequence[dict[str, Any]]) -> Candidates:
    first = rows[0]
    teachers = [row["text"] for row in rows if row["origin"] == "teacher"]
    return Candidates(
        Prompt(
            first["prompt_id"],
            tuple(Message(message["role"], message["content"]) for message in first["messages"]),
            teachers[0] if teachers else None,
            json.loads(first["meta"]),
        ),
        tuple(first["prompt_ids"]),
        tuple(
            Response(row["text"], tuple(row["ids"]), row["origin"], row["finish"], row["logp"], row["defect"])
            for row in rows
        ),
    )


def judgement_row(candidates: Candidates, judgement: Judgement) -> dict[str, Any]:
    return {
        "prompt_id": candidates.prompt.id,
        "win": judgement.win.tolist(),
        "scores": judgement.scores,
        "aspects": list(judgement.aspects.items()),
        "notes": list(judgement.notes.items()),
        "status": judgement.status,
        "calls": judgement.calls,
        "raw": judgement.raw,
        "prompt_tokens": judgement.prompt_tokens,
        "completion_tokens": judgement.completion_tokens,
        "cost": judgement.cost,
        "logits": None if judgement.logits is None else judgement.logits.tolist(),
    }


def to_judgement(row: dict[str, Any]) -> Judgement:
    return Judgement(
        win=np.array(row["win"], dtype=np.float64),
        scores=None if row["scores"] is None else tuple(row["scores"]),
        aspects={name: tuple(values) for name, values in row["aspects"]},
        notes={name: tuple(values) for name, values in row["notes"]},
        status=row["status"],
        calls=row["calls"],
        raw=row["raw"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cost=row["cost"],
        logits=None if row["logits"] is None else np.array(row["logits"], dtype=np.float64),
    )


def pair_row(
    pair: Pair,
    candidates: Candidates,
    ref_logps: Sequence[float],
    win_rates: Sequence[float],
    ratings: Sequence[float] | None,
    source_round: int,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt_id": candidates.prompt.id,
        "prompt": candidates.prompt.text,
        "kind": pair.kind,
        "win": None if pair.rejected is None else pair.win,
        "margin": None if pair.rejected is None else pair.margin,
        "source_round": source_round,
        "prompt_ids": candidates.prompt_ids,
        "sample_win_rates": [
            rate for rate, response in zip(win_rates, candidates.responses, strict=True) if response.origin == "policy"
        ],
    }
    for side, index in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if index is None:
            continue
        response = candidates.responses[index]
        row |= {
            side: response.text,
            f"{side}_win_rate": win_rates[index],
            f"{side}_rating": None if ratings is None else ratings[index],
            f"{side}_ref_logp": ref_logps[index],
            f"{side}_index": index,
            f"{side}_ids": response.ids,
        }
    return row
