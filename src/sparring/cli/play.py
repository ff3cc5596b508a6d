"""`sparring play RUN|MODEL role=defender`: a game of Adversarial Taboo against a policy, in the terminal.

    sparring play outputs/taboo/spag role=defender
    sparring play outputs/taboo/spag@0 role=attacker word=apple save=game.parquet

The attacker knows a word and wants the defender to say it unawares, without saying it; the defender wants to find it,
and has one guess: "I know the word! It is ...!" The judge ends the game. Ctrl-D gives it up.

    role=ROLE        yours: attacker or defender
    word=WORD        to attack with; else one is drawn, of the held-out words of the run, or of sparring:clues
    save=FILE        the transcript: as a table (.parquet) or as text (.json)
    seed=N           of all that is drawn; another one each time unless given
    threads=N        torch threads

RUN is its last policy, RUN@ROUND another one; it speaks as it was trained to. Keys of conf/suite/taboo.yaml are set
with suite.KEY=VALUE; from there come a MODEL's sampler, wording and, with +game@suite.game=taboo, game.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.cli.check import check_targets
from sparring.cli.evaluate import composed
from sparring.cli.explain import one_sentence
from sparring.cli.make import make
from sparring.cli.policies import load, parse_policy, refuse_decodings
from sparring.cli.saved_config import saved_config
from sparring.core.errors import ConfigError
from sparring.core.files import require_writable, write_json
from sparring.core.seeding import derive_seed, numpy_rng
from sparring.games.taboo.game import Game, Role, Taboo
from sparring.games.taboo.players import Player, Position, Reply

if TYPE_CHECKING:
    from sparring.data.episodes import Episode  # takes pyarrow, which help does not

PARTS = ("game", "load_model", "sampler", "wording")  # of the suite
KEYS = ("role", "word", "save", "seed", "threads")
FORMATS = (".parquet", ".json")


@dataclass(frozen=True, slots=True)
class Options:
    place: str
    role: Role
    word: str | None
    save: Path | None
    seed: int
    threads: int | None
    overrides: tuple[str, ...]  # of the suite's configuration


class Human:
    """Who sits at the terminal. `gave_up` once there is nothing more to read."""

    def __init__(self) -> None:
        self.gave_up = False

    def __call__(self, positions: Sequence[Position]) -> list[Reply | None]:
        [position] = positions
        if position.utterances:
            print(f"{other(position.role)}: {position.utterances[-1]}")
        turn = 1 + len(position.utterances) // 2
        while not self.gave_up:
            try:
                said = input(f"you, the {position.role}, turn {turn} of {position.max_turns}: ").strip()
            except (EOFError, KeyboardInterrupt):
                print()
                self.gave_up = True
            else:
                if any("\ud800" <= letter <= "\udfff" for letter in said):  # how Python reads bytes that are no text
                    print("Judge: that is no text in UTF-8; say it again.")
                elif said:
                    return [Reply(said)]
        return [None]


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    with one_sentence():
        play(parse(arguments))


def parse(arguments: Sequence[str]) -> Options:
    place, *rest = arguments
    if place.partition("=")[0] in KEYS:
        raise ConfigError(f"there is nobody to play against; give a run or a model before {place}.")
    given: dict[str, str] = {}
    overrides: list[str] = []
    for argument in rest:
        key, equals, value = argument.partition("=")
        if key.lstrip("+~").startswith("suite.") or "@suite." in key:
            overrides.append(argument)
        elif key in KEYS and equals and value:
            given[key] = value
        else:
            raise ConfigError(
                f"the argument {argument!r} cannot be read; give KEY=VALUE with one of {', '.join(KEYS)}."
            )
    role = given.get("role")
    if role != "attacker" and role != "defender":
        raise ConfigError(f"role is {role!r}; say role=attacker or role=defender, which is what you will play.")
    if role == "defender" and "word" in given:
        raise ConfigError("a defender must not know the word; leave out word=, and one is drawn.")
    save = Path(given["save"]) if "save" in given else None
    if save is not None and save.suffix not in FORMATS:
        raise ConfigError(f"save is {str(save)!r}; give a file that ends in {' or '.join(FORMATS)}.")
    if save is not None:
        require_writable(save, "save")  # now, for a game that is over cannot be played again
    return Options(
        place=place,
        role=role,
        word=given.get("word"),
        save=save,
        seed=_number("seed", given["seed"]) if "seed" in given else secrets.randbits(31),
        threads=_number("threads", given["threads"], least=1) if "threads" in given else None,
        overrides=tuple(overrides),
    )


def _number(key: str, value: str, *, least: int = 0) -> int:
    if not value.isdecimal() or int(value) < least:
        raise ConfigError(f"{key} is {value!r}; it must be a whole number of at least {least}.")
    return int(value)


def play(options: Options) -> None:
    _, cfg = composed(["suite=taboo", *options.overrides])
    check_targets({"suite": {name: cfg["suite"][name] for name in PARTS}})

    import torch  # what a typing error can stop comes first

    from sparring.rollout.taboo_play import play as play_games

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    game, word, label, policy = _set_up(options, cfg["suite"])
    human = Human()
    print(_welcome(options.role, word, game))
    mine = options.role == "attacker"
    attacker, defender = (human, policy) if mine else (policy, human)
    names = ("human", label) if mine else (label, "human")
    seeds = [derive_seed(options.seed, "play")]
    [episode] = play_games(game, [word], attacker, defender, seeds=seeds, names=names)
    if episode.utterances and episode.utterances[-1].role != options.role:
        print(f"{other(options.role)}: {episode.utterances[-1].reply.text}")
    print(verdict(episode.game, options.role, gave_up=human.gave_up))
    if options.save is not None:
        _save(episode, options.save)
        print(f"saved: {options.save}")


def _set_up(options: Options, suite: dict[str, Any]) -> tuple[Taboo, str, str, Player]:
    """The game, its word, and the policy with its name: a run's last one unless another is asked for."""
    from sparring.cli.taboo_parts import game_of, speakers_of, words_of

    source = parse_policy(options.place)
    refuse_decodings([source], "in a game a policy speaks as its run or suite.sampler says")
    run = saved_config(Path(source.place)) if source.is_run else None
    if run is None and suite["game"] is None:
        raise ConfigError(
            f"{source.place} is no run, whose game could be played; name a run, or for a model add "
            "+game@suite.game=taboo."
        )
    game: Taboo = game_of(run) if suite["game"] is None else make(suite["game"])
    word = options.word
    if word is None:
        listed = "sparring:clues" if suite["words"] is None and run is None else suite["words"]
        words = words_of(listed, run, options.seed)
        word = words[int(numpy_rng(options.seed, "word").integers(len(words)))]
    game.start(word)  # a word that cannot be played for is refused before anything is loaded
    speaker = speakers_of(
        source,
        policy_of=partial(load, load_model=make(suite["load_model"])),
        sampler=make(suite["sampler"]),
        wording=make(suite["wording"]),
    )[-1]
    return game, word, speaker.label, speaker.defender if options.role == "attacker" else speaker.attacker


def other(role: Role) -> Role:
    return "defender" if role == "attacker" else "attacker"


def _welcome(role: Role, word: str, game: Taboo) -> str:
    turns = f"Each of you speaks up to {game.max_turns} times; Ctrl-D gives up."
    if role == "attacker":
        return f"You attack. The word is {word!r}: make the defender say it, and never say it yourself. {turns}"
    return f'You defend. Find the word, and never say it unawares; one guess: "I know the word! It is ...!" {turns}'


def verdict(game: Game, role: Role, *, gave_up: bool) -> str:
    """What the judge says to the player of `role`."""
    said_by = "defender" if game.role == "attacker" else "attacker"  # whoever spoke last
    if game.cut:
        why = "you have given up" if gave_up else "the policy has no room for another answer"
        return f"Judge: a tie, for {why}. The word was {game.target!r}."
    if game.outcome == "tie":
        return f"Judge: a tie, for all turns are over. The word was {game.target!r}."
    if said_by == "attacker":
        ends = "nobody wins" if game.outcome == "invalid" else "the defender wins"
        return f"Judge: the attacker has broken the rules; {ends}. The word was {game.target!r}."
    why = "has named the word" if game.outcome == "defender" else "has said the word, or guessed wrong"
    return (
        f"Judge: the defender {why}; {'you win' if game.outcome == role else 'you lose'}. The word was {game.target!r}."
    )


def _save(episode: "Episode", path: Path) -> None:
    from sparring.data.episodes import episode_row
    from sparring.data.rounds import write_parquet
    from sparring.data.schema import EPISODES

    row = episode_row(0, episode)
    if path.suffix == ".parquet":
        write_parquet(path, EPISODES, [row])
    else:
        write_json(path, row)
