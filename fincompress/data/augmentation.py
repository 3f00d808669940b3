"""More texts to distil on: variants of training texts, made by rules that need no language model.

A tiny student has too few weights to learn a task from a few thousand labelled texts, but its teacher labels any text,
so the texts need not be true nor fluent, only alike (Tang et al. 2019, arXiv:1903.12136; Jiao et al. 2020,
arXiv:1909.10351). All rules change what a label hangs on: words, figures, directions, clauses.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fincompress.data.prepared import normalise

TRIES = 4  # a wanted variant, before a text that has no more is left
MOST_RULES = 2  # a variant
DROPPED, REPLACED = 0.12, 0.3  # share of words
SHORTEST_WINDOW = 0.5  # of a text
SHINGLE, TOO_ALIKE = 3, 0.5
"""Words in a row that are compared, and the share of a held-out text's that a variant must not have."""
OPPOSITES = {
    "rose": "fell",
    "rise": "fall",
    "rises": "falls",
    "rising": "falling",
    "risen": "fallen",
    "increased": "decreased",
    "increase": "decrease",
    "increases": "decreases",
    "up": "down",
    "higher": "lower",
    "grew": "shrank",
    "grow": "shrink",
    "growth": "decline",
    "gained": "lost",
    "gains": "losses",
    "profit": "loss",
    "profits": "losses",
    "beat": "missed",
    "beats": "misses",
    "raised": "cut",
    "raises": "cuts",
    "widened": "narrowed",
    "improved": "worsened",
    "better": "worse",
    "strong": "weak",
    "stronger": "weaker",
    "above": "below",
    "won": "lost",
    "jumped": "slumped",
    "climbed": "dropped",
    "accelerated": "slowed",
    "upgraded": "downgraded",
    "upgrade": "downgrade",
    "positive": "negative",
    "record": "disappointing",
    "more": "fewer",
}
_OPPOSITE = {**OPPOSITES, **{other: word for word, other in OPPOSITES.items()}}
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_CLAUSE = re.compile(r"(?<=[,;:])\s+|\s+(?=(?:and|but|while|although|as|after|because)\s)")
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Material:
    """What rules draw from besides the text itself."""

    clauses: Sequence[str]  # of all texts
    neighbours: Mapping[str, Sequence[str]] = field(default_factory=dict)  # lower-case word -> words like it


def augment(
    texts: Iterable[str], variants: int, seed: int, neighbours: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Up to `variants` variants of each text, in its order; no variant occurs twice or is one of the texts.

    The result depends on the arguments alone.

    Args:
        neighbours: lower-case word -> words that may stand for it, as `compress.neighbours` finds them.
    """
    texts = list(texts)
    material = Material([clause for text in texts for clause in clauses(text)], neighbours or {})
    seen = {normalise(text) for text in texts}
    made = []
    for place, text in enumerate(texts):
        rng = random.Random(f"{seed} {place}")
        wanted = variants
        for _ in range(TRIES * variants):
            if not wanted:
                break
            variant = " ".join(_varied(text, rng, material).split())
            if variant and normalise(variant) not in seen:
                seen.add(normalise(variant))
                made.append(variant)
                wanted -= 1
    return made


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of letters in texts, lower case: those that `replace_words` can replace."""
    return {word.lower() for text in texts for word in _WORD.findall(text)}


def clauses(text: str) -> list[str]:
    """A text's clauses, as commas, semicolons and conjunctions part them."""
    return [part for part in _CLAUSE.split(text) if part]


def unlike(variants: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """The variants that are no near-duplicates of a held-out text.

    A variant is one if it has at least `TOO_ALIKE` of the held-out text's shingles (`SHINGLE` words in a row), or of
    its words where it is shorter than that.
    """
    index: dict[str, list[int]] = defaultdict(list)
    sizes = []
    for place, text in enumerate(held_out):
        parts = _shingles(text)
        sizes.append(len(parts))
        for part in parts:
            index[part].append(place)
    kept = []
    for variant in variants:
        shared = Counter(place for part in _shingles(variant) for place in index.get(part, ()))
        if not any(count >= TOO_ALIKE * sizes[place] for place, count in shared.items()):
            kept.append(variant)
    return kept


def _shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.casefold())
    return {" ".join(words[place : place + SHINGLE]) for place in range(max(1, len(words) - SHINGLE + 1))}


def _varied(text: str, rng: random.Random, material: Material) -> str:
    """A text after one or two rules."""
    for rule in rng.sample(RULES, rng.randint(1, MOST_RULES)):
        text = rule(text, rng, material)
    return text


def drop_words(text: str, rng: random.Random, material: Material) -> str:
    """Some words less, one at least where there are two."""
    words = text.split()
    kept = [word for word in words if rng.random() >= DROPPED]
    if len(kept) == len(words) > 1:
        kept.pop(rng.randrange(len(kept)))
    return " ".join(kept or words)


def replace_words(text: str, rng: random.Random, material: Material) -> str:
    """Some words replaced by their neighbours, capitalised as they were."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        choices = material.neighbours.get(word.lower())
        if not choices or rng.random() >= REPLACED:
            return word
        return _capitalised_as(word, rng.choice(choices))

    return _WORD.sub(other, text)


def change_figures(text: str, rng: random.Random, material: Material) -> str:
    """Every figure by another of its kind: up to twice or half as large, years by up to three."""
    return _FIGURE.sub(lambda match: _another_figure(match.group(), rng), text)


def cut_window(text: str, rng: random.Random, material: Material) -> str:
    """A part of the text, from half of its words on."""
    words = text.split()
    size = max(1, round(len(words) * rng.uniform(SHORTEST_WINDOW, 1)))
    start = rng.randint(0, len(words) - size)
    return " ".join(words[start : start + size])


def join_clauses(text: str, rng: random.Random, material: Material) -> str:
    """One of its clauses with one of another text."""
    own = rng.choice(clauses(text) or [text])
    pair = [own, rng.choice(material.clauses)]
    rng.shuffle(pair)
    return " ".join(pair)


def flip_directions(text: str, rng: random.Random, material: Material) -> str:
    """Words that say in which direction something went, turned round, each with an even chance and one at least."""
    places = [match for match in _WORD.finditer(text) if match.group().lower() in _OPPOSITE]
    chosen = [match for match in places if rng.random() < 0.5] or ([rng.choice(places)] if places else [])
    for match in reversed(chosen):
        word = match.group()
        turned = _capitalised_as(word, _OPPOSITE[word.lower()])
        text = text[: match.start()] + turned + text[match.end() :]
    return text


Rule = Callable[[str, random.Random, Material], str]
RULES: tuple[Rule, ...] = (drop_words, replace_words, change_figures, cut_window, join_clauses, flip_directions)


def _capitalised_as(word: str, other: str) -> str:
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _another_figure(figure: str, rng: random.Random) -> str:
    """A figure with as many digits and the same separators."""
    if figure.isdigit() and len(figure) == 4 and figure[:2] in ("19", "20"):
        return str(int(figure) + rng.randint(-3, 3))
    digits = re.sub(r"\D", "", figure)
    value = min(round(int(digits) * 2 ** rng.uniform(-1, 1)), 10 ** len(digits) - 1)
    fresh = iter(str(value).zfill(len(digits)))
    return "".join(next(fresh) if character.isdigit() else character for character in figure)
