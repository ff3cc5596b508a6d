"""`sparring evaluate suite=taboo`: a round-robin of Adversarial Taboo between any policies, in both roles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparring.analysis.payoff import Player
from sparring.analysis.payoff_picture import draw_payoff
from sparring.cli.arena_tables import transcripts
from sparring.cli.policies import Source, load, refuse_decodings
from sparring.cli.saved_config import saved_config
from sparring.cli.tables import console, print_arena
from sparring.cli.taboo_parts import Speaker, game_of, speakers_of, words_of
from sparring.core.errors import ConfigError
from sparring.core.files import write_json
from sparring.core.seeding import derive_seed, numpy_rng
from sparring.data.rounds import write_parquet
from sparring.data.schema import EPISODES
from sparring.games.taboo.game import Taboo
from sparring.games.taboo.players import Player as TabooPlayer
from sparring.games.taboo.players import Wording
from sparring.policy.policy import Policy
from sparring.policy.sampler import Sampler
from sparring.rollout.arena import (
    Contestant,
    RoundRobin,
    all_meetings,
    conclude,
    policy_contestant,
    scripted_contestant,
)
from sparring.rollout.endpoint_player import EndpointPlayer

ENDPOINT = "endpoint"


@dataclass
class Field:
    """Who takes part. `starts` says which of the policies the others of a run began as."""

    players: list[Player] = field(default_factory=list[Player])
    contestants: dict[str, Contestant] = field(default_factory=dict[str, Contestant])
    starts: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, player: Player, contestant: Contestant) -> None:
        if player.label in self.contestants:
            raise ConfigError(f"two policies are called {player.label!r}; give them different labels, as LABEL=PLACE.")
        self.players.append(player)
        self.contestants[player.label] = contestant

    def add_speakers(self, speakers: Sequence[Speaker]) -> None:
        for each in speakers:
            contestant = policy_contestant(each.attacker, each.defender, each.weights)
            self.add(Player(each.label, "round", each.rounds), contestant)
        base, *later = (each.label for each in speakers)
        self.starts |= dict.fromkeys(later, base)


def evaluate_taboo(
    sources: Sequence[Source],
    *,
    output: Path,
    seed: int,
    game: Taboo | None,
    words: str | Sequence[str] | None,
    limit: int | None,
    load_model: Callable[..., Policy],
    sampler: Sampler,
    wording: Wording,
    scripted: Mapping[str, Mapping[str, TabooPlayer]],
    endpoint: Callable[..., EndpointPlayer],
    games_per_word: int,
    games_at_once: int,
    surprises: int,
) -> None:
    """Documented in conf/suite/taboo.yaml. Writes games, `episodes.parquet`, `payoff.png` and, last, `summary.json`."""
    refuse_decodings(sources, "in a game a policy speaks as its run or suite.sampler says")
    first = next((saved_config(Path(source.place)) for source in sources if source.is_run), None)
    targets = _drawn(words_of(words, first, seed), limit, seed)
    robin = RoundRobin(
        output / "games",
        game or game_of(first),
        targets,
        games_per_word=games_per_word,
        games_at_once=games_at_once,
        seed=seed,
    )
    loaded: dict[str, Policy] = {}  # several policies of a run share a model

    def policy_of(source: Source) -> Policy:
        if source.place not in loaded:
            loaded[source.place] = load(source, load_model)
        return loaded[source.place]

    taking_part = Field()
    for source in sources:
        if source.round is not None and source.place in (*scripted, ENDPOINT):
            raise ConfigError(f"{source.place} has no rounds; leave out @{source.round}.")
        if source.place in scripted:
            contestant = scripted_contestant(source.place, scripted[source.place], targets)
            taking_part.add(Player(source.label, "other", None), contestant)
        elif source.place == ENDPOINT:
            player = endpoint(wording=wording)
            contestant = Contestant(player, player, f"{player.described}, {type(wording).__name__}")
            taking_part.add(Player(source.label, "other", None), contestant)
        else:
            taking_part.add_speakers(speakers_of(source, policy_of=policy_of, sampler=sampler, wording=wording))
    if not any(player.kind == "round" for player in taking_part.players):
        raise ConfigError("nobody was trained among these players; name a run or a model too.")
    meetings = all_meetings(list(taking_part.contestants))
    robin.play(taking_part.contestants, meetings)
    episodes = output / "episodes.parquet"
    write_parquet(episodes, EPISODES, robin.rows(meetings))
    standing, upsets = conclude(
        [episodes],
        taking_part.players,
        starts=taking_part.starts,
        seed=derive_seed(seed, "arena bootstrap"),
        surprises=surprises,
    )
    draw_payoff(standing.payoff, output / "payoff.png", "words")
    summary = standing.to_dict() | {"surprises": upsets, "seconds": robin.seconds(meetings)}
    write_json(output / "summary.json", summary)
    out = console()
    print_arena(out, summary)
    for line in (*transcripts(summary), f"\nwritten to {output}"):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _drawn(words: list[str], limit: int | None, seed: int) -> list[str]:
    if limit is None:
        return words
    if not 1 <= limit <= len(words):
        raise ConfigError(f"suite.limit is {limit}, but there are {len(words)} words; give a number from 1 to that.")
    return sorted(words[place] for place in numpy_rng(seed, "words").permutation(len(words))[:limit])
