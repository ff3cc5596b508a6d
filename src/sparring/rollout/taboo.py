"""A round of Adversarial Taboo (SPAG, arXiv 2404.10642): play, judge, keep the winners' utterances, score them.

The reference is the policy that played. Games that nobody won, and losers, are stored and not trained on.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from sparring.core.errors import ConfigError, DataError
from sparring.core.protocols import PromptSource
from sparring.core.seeding import derive_seed, numpy_rng
from sparring.core.types import Prompt
from sparring.data.episodes import Episode, episode_row, to_episode
from sparring.data.schema import EPISODES
from sparring.games.taboo.credit import turn_rewards
from sparring.games.taboo.game import Role, Taboo
from sparring.games.taboo.players import Player, Position, Wording
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.rollout.chunks import chunk_ranges, progress
from sparring.rollout.context import RoundContext
from sparring.rollout.recorded import check_chunk
from sparring.rollout.taboo_opponents import SELF, Opponent, Scripted, check_opponents, draw_opponent
from sparring.rollout.taboo_play import POLICY, play
from sparring.rollout.taboo_players import PolicyPlayer, require_plain
from sparring.rollout.taboo_turns import ROLES, Row, assemble_turns, supervised_rows, turn_rows, write_turns

SCRIPTED = "scripted"


@dataclass(frozen=True)
class TabooRollout:
    """Plays `games_per_word` games for each word of `prompts`, `chunk_size` games at once.

    The policy speaks under `wording` and learns what it said under `training_wording`, as published. It plays both
    roles, unless `attacker` or `defender` is a scripted player, or some of `opponents` are given: then it plays one
    role, an opponent drawn for each game the other. What the policy itself said is learnt, or where both players are
    scripted what either said, which is imitation. `gamma` discounts earlier utterances of a won game. Answers of
    `supervised` stand among the turns, `supervised_per_turn` of them for each and each at most once a round.
    """

    table: ClassVar[str] = "turns"

    prompts: PromptSource
    game: Taboo
    sampler: Sampler
    wording: Wording
    training_wording: Wording
    chunk_size: int
    attacker: Player | None = None
    defender: Player | None = None
    opponents: Sequence[Opponent] = ()
    defender_sampler: Sampler | None = None
    gamma: float = 0.8
    games_per_word: int = 1
    supervised: PromptSource | None = None
    supervised_per_turn: float = 0.5

    def __post_init__(self) -> None:
        for name in ("chunk_size", "games_per_word"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rollout.{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.supervised_per_turn < 0:
            raise ConfigError(f"rollout.supervised_per_turn is {self.supervised_per_turn}; it must be 0 or more.")
        if self.opponents and (self.attacker or self.defender):
            raise ConfigError(
                "rollout.opponents are drawn for either role, so rollout.attacker and rollout.defender must be null."
            )
        require_plain(*self._samplers.values())
        check_opponents(self.opponents)
        turn_rewards(1, self.gamma)  # which checks it

    @property
    def _samplers(self) -> dict[Role, Sampler]:
        return {"attacker": self.sampler, "defender": self.defender_sampler or self.sampler}

    def check(self, policy: Policy, *, rounds: int) -> None:
        """Words, supervised answers and the context, before the first game."""
        words = {prompt.id: None for index in range(rounds) for prompt in self._words(index)}
        scripted = [self.attacker, *(each.attacker for each in self.opponents if isinstance(each, Scripted))]
        for attacker in filter(None, scripted):  # lest one have no clue of a word
            attacker([Position("attacker", word, (), self.game.max_turns, seed=0) for word in words])
        lengths = {word: _writable(policy, word) for word in words}
        longest = max(lengths, key=lambda word: lengths[word])
        for role in ROLES:
            if getattr(self, role) is None:
                self._check_room(policy, role, longest)
        if self.supervised is not None:
            prompts = {prompt.id: prompt for index in range(rounds) for prompt in self.supervised.for_round(index)}
            for _ in supervised_rows(policy, prompts.values()):
                pass

    def _words(self, index: int) -> Sequence[Prompt]:
        prompts = self.prompts.for_round(index)
        if not len(prompts):
            raise DataError(f"round {index} has no words to play for; give more words, or fewer rounds.")
        return prompts

    def _check_room(self, policy: Policy, role: Role, word: str) -> None:
        """The first utterance of a role has room, in the wording that is sampled and in the one that is trained on."""
        seen = Position(role, word if role == "attacker" else None, (), self.game.max_turns, seed=0)
        needed = self._samplers[role].max_new_tokens
        for wording in (self.wording, self.training_wording):
            length = len(policy.render(wording(seen)))
            if length + needed > policy.context:
                raise ConfigError(
                    f"the {role}'s first prompt ({type(wording).__name__}, word {word!r}) has {length} tokens, and "
                    f"with max_new_tokens={needed} exceeds the model's context of {policy.context}; use "
                    "games.taboo.wording.ShortWording, lower sampler.max_new_tokens, or use another model."
                )

    # ---------------------------------------------------------------- every rank

    def collect(self, policy: Policy, context: RoundContext) -> None:
        chunks, fingerprint = context.chunks, policy.fingerprint()
        # All words before any again: training sees consecutive games together, and should not see one word's alone.
        words = [prompt.id for prompt in self._words(context.index)] * self.games_per_word
        ranges = chunk_ranges(len(words), self.chunk_size)
        with progress(f"round {context.index}: play", "game", context.rank) as bar:
            for number, places in enumerate(ranges):
                targets = [words[place] for place in places]
                made_of = {"policy": fingerprint, "words": hashlib.sha256(" ".join(targets).encode()).hexdigest()[:16]}
                if chunks.has("episodes", number):
                    check_chunk(chunks, "episodes", number, made_of)
                if not context.owns(number) or chunks.has("turns", number):
                    continue
                if not chunks.has("episodes", number):
                    started = time.perf_counter()
                    episodes = self._play(policy, context, places, targets)
                    rows = [episode_row(place, one) for place, one in zip(places, episodes, strict=True)]
                    seconds = {"sample": time.perf_counter() - started}
                    chunks.write("episodes", number, EPISODES, rows, {**made_of, "seconds": seconds})
                self._write_turns(policy, context, number, len(ranges), made_of)
                bar.update(len(places))

    def _play(
        self, policy: Policy, context: RoundContext, places: Sequence[int], targets: Sequence[str]
    ) -> list[Episode]:
        """The games of a chunk, those of the same two players together."""
        seeds = [derive_seed(context.seed, "taboo", context.index, place) for place in places]
        pairs = [self._players(context, seed) for seed in seeds]
        played: dict[int, Episode] = {}
        for names in dict.fromkeys(pairs):
            games = [game for game, pair in enumerate(pairs) if pair == names]
            episodes = play(
                self.game,
                [targets[game] for game in games],
                self._player(policy, context, names[0], "attacker"),
                self._player(policy, context, names[1], "defender"),
                seeds=[seeds[game] for game in games],
                names=names,
            )
            played |= dict(zip(games, episodes, strict=True))
        return [played[game] for game in range(len(targets))]

    def _players(self, context: RoundContext, seed: int) -> tuple[str, str]:
        """Who attacks and who defends, by name."""
        if not self.opponents:
            return SCRIPTED if self.attacker else POLICY, SCRIPTED if self.defender else POLICY
        opponent, attacks = draw_opponent(self.opponents, context.index, seed)
        name = opponent.name if isinstance(opponent, Scripted) else name_after(opponent)
        return (POLICY, name) if attacks else (name, POLICY)

    def _player(self, policy: Policy, context: RoundContext, name: str, role: Role) -> Player:
        scripted = {each.name: getattr(each, role) for each in self.opponents if isinstance(each, Scripted)}
        if name in scripted:
            return scripted[name]
        if name == SCRIPTED:
            return getattr(self, role)
        states = {name_after(rounds): path for rounds, path in enumerate(context.policies)}
        return PolicyPlayer(policy, self._samplers[role], self.wording, None if name == POLICY else states[name])

    def _write_turns(
        self, policy: Policy, context: RoundContext, number: int, chunks: int, made_of: dict[str, Any]
    ) -> None:
        played = [(row["game"], to_episode(row)) for row in context.chunks.rows("episodes", number)]
        rows: list[Row] = list(
            turn_rows(
                policy,
                [(game, episode) for game, episode in played if _learnt_from(episode)],
                rules=self.game,
                wording=self.training_wording,
                gamma=self.gamma,
                seed=derive_seed(context.seed, "training", context.index),
            )
        )
        if self.supervised is not None:
            wanted = _rounded(len(rows) * self.supervised_per_turn, context, number)
            prompts = self.supervised.for_round(context.index)
            rows += supervised_rows(policy, [prompts[i] for i in range(number, len(prompts), chunks)[:wanted]])
        write_turns(policy, context, number, rows, made_of=made_of, token_budget=self.sampler.scoring_budget)

    # ---------------------------------------------------------------- rank 0

    def assemble(self, context: RoundContext) -> None:
        facts = {
            "sampler": asdict(self.sampler),
            "defender_sampler": asdict(self._samplers["defender"]),
            "chunk_size": self.chunk_size,
        }
        assemble_turns(context, facts)


def name_after(rounds: int) -> str:
    """What tables call the policy after so many rounds of training."""
    if rounds == SELF:
        return POLICY
    return f"round {rounds - 1}" if rounds else "base"


def _learnt_from(episode: Episode) -> bool:
    """Whether the policy won, or scripted players show how."""
    if episode.game.outcome not in ROLES:
        return False
    return getattr(episode, episode.game.outcome) == POLICY or POLICY not in (episode.attacker, episode.defender)


def _rounded(count: float, context: RoundContext, number: int) -> int:
    """To a whole number, up or down at random, so that small chunks do not round all one way."""
    return int(count + numpy_rng(context.seed, "supervised", context.index, number).random())


def _writable(policy: Policy, word: str) -> int:
    """How many tokens the word takes; an error where they do not spell it."""
    ids = policy.encode_response(word)
    spelt = policy.decode((), ids).strip()
    if spelt.casefold() != word.casefold():
        raise DataError(
            f"the tokenizer writes the word {word!r} as {spelt!r}, so no player can say it; drop it from the words."
        )
    return len(ids)
