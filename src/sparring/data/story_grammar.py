"""A grammar of very short children's stories: at most one noun to a sentence, in an order that makes a small plot.

Every sentence is in the past tense, so verbs agree with any hero. Words that can be asked for (`NOUNS`) stand in a
template's noun slot only; what fills the other slots comes from lists that share no word with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Role = Literal["opening", "problem", "middle", "closing"]

NOUNS: dict[str, str] = {
    "animal": "fox bear cat dog rabbit mouse owl duck frog horse goat hen turtle bee pig lion",
    "thing": "lamp ball kite boat drum key box hat bell rope book cup basket coat map wheel",
    "place": "forest river hill garden barn village beach bridge cave meadow lake market",
    "food": "cake apple pear carrot pie cookie plum egg pumpkin nut",
    "sky": "rain wind snow sun moon storm fog frost",
}
KIND: dict[str, str] = {noun: kind for kind, nouns in NOUNS.items() for noun in nouns.split()}

GIRLS = ("Mia", "Anna", "Lily", "Nora", "Zoe")
BOYS = ("Tom", "Ben", "Sam", "Max", "Leo")
LEADS = ("One day", "Once", "One morning", "Long ago")
NIGHT_LEADS = ("One night", "Late one night")
SEA_LEADS = ("One day by the sea", "Once by the sea")

FILLERS: dict[str, tuple[str, ...]] = {
    "adjective": ("tiny", "golden", "lovely", "strange", "pretty", "funny", "quiet", "bright", "soft", "little"),
    "glad": ("happy", "glad", "proud", "merry"),
    "sad": ("sad", "lonely", "upset", "scared"),
    "place": ("road", "house", "tree", "field", "school", "gate", "path"),
    "kin": ("mother", "father", "sister", "brother", "friend"),
}
PLAIN_FILLERS: dict[str, tuple[str, ...]] = {
    "adjective": ("big",),
    "glad": ("happy",),
    "sad": ("sad",),
    "place": ("house",),
    "kin": ("friend",),
}

NO_NOUN = "none"  # the kind of a sentence that only moves the plot

# {a} is the noun with its article; {who} is the hero by name or pronoun.
TEMPLATES: dict[Role, dict[str, tuple[str, ...]]] = {
    "opening": {
        "animal": (
            "{lead} {hero} lived with {a} near the {place}",
            "{lead} {hero} met a {adjective} {noun} by the {place}",
            "{lead} {hero} played with a {adjective} {noun}",
        ),
        "thing": (
            "{lead} {hero} found a {adjective} {noun} near the {place}",
            "{lead} {hero} got {a} from {his} {kin}",
            "{lead} {hero} made a {adjective} {noun} at home",
        ),
        "place": (
            "{lead} {hero} lived near a {adjective} {noun}",
            "{lead} {hero} went to the {noun} with {his} {kin}",
            "{lead} {hero} was alone at the {adjective} {noun}",
        ),
        "food": (
            "{lead} {hero} was hungry and wanted {a}",
            "{lead} {hero} brought {a} to {his} {kin}",
            "{lead} {hero} saw a {adjective} {noun} on the table",
        ),
        "sky": (
            "{lead} {hero} sat by the {place} and watched the {noun}",
            "{lead} {hero} went out to look at the {noun}",
            "{lead} {hero} dreamed of the {noun} and woke up",
        ),
        NO_NOUN: (
            "{lead} {hero} went out to play with {his} {kin}",
            "{lead} {hero} was at home and felt {sad}",
            "{lead} {hero} walked by a {adjective} {place}",
        ),
    },
    "problem": {
        "animal": (
            "But {a} was lost and could not get home",
            "{who} heard {a} cry behind the {place}",
            "Then {a} ran away, and {who} felt {sad}",
        ),
        "thing": (
            "But {who} could not find {his} {noun}",
            "{who} wanted {a}, but it cost too much",
            "Then {his} {noun} broke, and {who} felt {sad}",
        ),
        "place": (
            "{who} wanted to see the {noun}, but it was far away",
            "But {who} lost the way near the {noun}",
            "The {noun} was dark, and {who} felt {sad}",
        ),
        "food": (
            "But there was not even {a} to eat",
            "Then someone took the {noun}, and {who} felt {sad}",
            "{who} dropped {a} by the {place}",
        ),
        "sky": (
            "Then the {noun} came, and {who} could not see",
            "But {who} was afraid of the {noun}",
            "The {noun} did not stop, and {who} felt {sad}",
        ),
        NO_NOUN: (
            "But {who} lost the way and felt {sad}",
            "{who} wanted to help, but {who} was too small",
            "Then it got dark, and {his} {kin} was gone",
        ),
    },
    "middle": {
        "animal": (
            "A kind {noun} showed {him} the way",
            "{who} asked {a} for help",
            "{who} followed {a} to the {place}",
            "Soon a {adjective} {noun} came to play",
        ),
        "thing": (
            "{who} took {a} and ran to the {place}",
            "Under a leaf there was a {adjective} {noun}",
            "{his} {kin} gave {him} {a}",
            "{who} put the {noun} on {his} head",
        ),
        "place": (
            "{who} walked to the {noun} and looked around",
            "{who} ran past the {adjective} {noun}",
            "{who} sat down at the {noun} to think",
            "{his} {kin} waited by the {noun}",
        ),
        "food": (
            "{who} ate {a} and felt strong again",
            "{who} shared {a} with {his} {kin}",
            "Then a {adjective} {noun} fell from above",
            "They stopped to cut {a} in two",
        ),
        "sky": (
            "{who} waited until the {noun} was gone",
            "{who} sang a song about the {noun}",
            "Soon the {noun} made everything look {adjective}",
            "All at once the {noun} was over the {place}",
        ),
        NO_NOUN: (
            "{who} sat down under a {adjective} tree",
            "{his} {kin} told {him} a {adjective} story",
            "{who} ran as fast as {who} could",
            "{who} called for help again and again",
            "{who} looked behind the {place}",
        ),
    },
    "closing": {
        "animal": (
            "In the end {who} took the {noun} home",
            "At last the {noun} was safe, and {who} was {glad}",
            "From then on {who} loved the {noun}",
        ),
        "thing": (
            "In the end {who} gave the {noun} to {his} {kin}",
            "At last {who} went home with the {noun}",
            "That evening {who} slept next to the {noun}",
        ),
        "place": (
            "In the end {who} danced and sang at the {noun}",
            "At last {who} left the {noun} and was {glad}",
            "From then on {who} knew every part of the {noun}",
        ),
        "food": (
            "In the end {who} shared the {noun} with everyone",
            "At last {who} ate the {noun} and was {glad}",
            "That evening {who} tasted the {noun} and laughed",
        ),
        "sky": (
            "In the end {who} smiled at the {noun}",
            "At last the {noun} went away, and {who} was {glad}",
            "That evening {who} listened to the {noun} in bed",
        ),
        NO_NOUN: (
            "In the end {who} went home with {his} {kin}",
            "At last {who} was home again and felt {glad}",
            "From then on {who} was always {glad}",
        ),
    },
}
SHORT_TEMPLATES: dict[str, tuple[str, ...]] = {
    "animal": ("{who} called the {noun}", "The {noun} ran off", "{who} fed {a}", "The {noun} came back"),
    "thing": ("{who} had {a}", "{who} lost the {noun}", "{who} took {a}", "The {noun} was {adjective}"),
    "place": ("{who} ran to the {noun}", "The {noun} was far", "{who} left the {noun}", "{who} saw {a}"),
    "food": ("{who} ate {a}", "{who} wanted {a}", "The {noun} was sweet", "{who} cut the {noun}"),
    "sky": ("{who} saw the {noun}", "The {noun} came", "{who} liked the {noun}", "The {noun} went away"),
    NO_NOUN: ("{who} ran home", "{who} sat down", "It got dark", "{who} was {glad}"),
}
SPEECH_TEMPLATES: dict[bool, tuple[str, ...]] = {  # with a noun?
    True: (
        '"Look at the {noun}," said {hero}',
        '"I like the {noun}," said {his} {kin}',
        '"Where is the {noun}?" asked {hero}',
        '"Do not forget the {noun}," said {his} {kin}',
    ),
    False: (
        '"Come with me," said {his} {kin}',
        '"I want to go home," said {hero}',
        '"Do not be {sad}," said {his} {kin}',
    ),
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a story is told. `naming` is the chance that a sentence after the first names its hero."""

    leads: tuple[str, ...] = LEADS
    mark: str = "."
    short: bool = False
    speech: bool = False
    plain: bool = False
    closing: bool = True
    naming: float = 0.5


def write_sentences(rng: Random, nouns: Sequence[str | None], style: Style) -> list[str]:
    """A story with one sentence for each noun, or None; no template is used twice while another is left."""
    hero = rng.choice(GIRLS + BOYS)
    he, his, him = ("she", "her", "her") if hero in GIRLS else ("he", "his", "him")
    fillers = PLAIN_FILLERS if style.plain else FILLERS
    used: set[str] = set()
    sentences: list[str] = []
    for position, (noun, role) in enumerate(zip(nouns, _roles(len(nouns), style.closing), strict=True)):
        options = _templates(role, noun, style, speech=style.speech and position == 1)
        template = rng.choice([option for option in options if option not in used] or options)
        used.add(template)
        named = position == 0 or rng.random() < style.naming
        slots = {kind: rng.choice(words) for kind, words in fillers.items()}
        slots |= {"hero": hero, "who": hero if named else he, "his": his, "him": him, "lead": rng.choice(style.leads)}
        text = template.format(noun=noun, a=noun and _with_article(noun), **slots)
        sentences.append(text[0].upper() + text[1:] + style.mark)
    return sentences


def _roles(count: int, closing: bool) -> list[Role]:
    """An opening, then a problem, then as many middles as there is room for, then a closing."""
    beginning: list[Role] = ["opening", "problem"]
    middle: list[Role] = ["middle"]
    ending: list[Role] = ["closing"]
    return [*(beginning + middle * count)[: count - 1], *(ending if closing else middle)]


def _templates(role: Role, noun: str | None, style: Style, *, speech: bool) -> tuple[str, ...]:
    if speech:
        return SPEECH_TEMPLATES[noun is not None]
    kind = NO_NOUN if noun is None else KIND[noun]
    return SHORT_TEMPLATES[kind] if style.short else TEMPLATES[role][kind]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
