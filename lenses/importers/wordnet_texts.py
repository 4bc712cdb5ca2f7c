"""Makes plain sentences out of WordNet synsets: "A violin is a bowed stringed instrument that ...".

Knows synsets and a little English (articles, plurals, casing), nothing about tokens or models. Every text is
a pure function of (synset, seed, epoch): a later epoch tells the same fact in another way.

    Texts(wordnet).document(synset, seed=0, epoch=3)   one text for one synset
    Texts(wordnet).walk(synset, seed=0, epoch=3)       a few lines: it, its hypernym, others of that kind
    Texts(wordnet).statement(synset)                   the plainest single sentence, always the same
"""

import random
import re
from collections import Counter
from collections.abc import Mapping

from lenses.importers.wordnet import Synset

_PERSONS = 18
_COUNTED_TOPICS = frozenset({5, 6, 8, 14, 15, 17, 18, 20})
"""Lexicographer files whose nouns are things one can count: animals, artifacts, body parts, groups, places,
objects, persons, plants."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words("""
    a an the any one some someone something somebody all either each every anything anyone anybody two
    three four five six seven eight nine ten several many what whatever whoever his her their its my
    your our this that these those both no nothing not more less
""")
_HEAD_ENDS = _words("""
    of that which who whom whose where when in on at by for from with without to into between among used
    having consisting made found native usually often especially such as and or but if under over near
    about against containing characterized formed given caused produced resulting is are was were being
    the a an through during than associated related resembling based located living grown belonging
    designed attached covered not so
""")
_SUPERLATIVES = _words("most first last only principal main same chief second third least")
_OF_HEADS = _words("act state quality condition property process trait fact feeling study branch")
_DOMAIN = re.compile(r"^\(([A-Za-z][a-z]+(?: [A-Za-z][a-z]+)?)\)\s+")
_PARENTHESIS = re.compile(r"^\([^)]*\)\s*")
_NOT_DOMAINS = _words("""
    usually often used plural sometimes especially informal formal followed of in not with by slang
""")
_VOWEL_SOUND = re.compile(
    r"^(?:[aeioAEIO]|u(?!ni(?!n)|se|su|k|r[aeiou]|t[aeiou])|hour|honest|honou?r|heir|x-|[FHLMNRSX](?:[A-Z]|\b))"
)
_CONSONANT_SOUND = re.compile(r"^(?:one\b|once\b|eu|ewe)", re.IGNORECASE)


class Texts:
    """Texts of synsets. `synsets` are those a text may quote: leave the held-out ones away when training."""

    def __init__(self, synsets: Mapping[str, Synset], *, lemma_of: Mapping[str, str] | None = None) -> None:
        self._synsets = synsets
        self._lemma_of = lemma_of or {synset.id: synset.lemmas[0] for synset in synsets.values()}
        self._children: dict[str, list[str]] = {}
        for synset in synsets.values():
            if synset.hypernyms:
                self._children.setdefault(synset.hypernyms[0], []).append(synset.id)
        # Glosses leave many articles out ("bowed stringed instrument that ..."). Which heads take one is
        # learnt from the glosses that did not.
        self._counted_heads = Counter(
            _head(synset.definition)[0]
            for synset in synsets.values()
            if synset.pos == "n" and synset.definition.split(" ", 1)[0] in ("a", "an")
        )

    def document(self, synset: Synset, *, seed: int, epoch: int) -> str:
        """One text for a synset, of one to a few sentences."""
        return self._document(synset, random.Random(f"{seed}:{epoch}:{synset.id}"))

    def walk(self, synset: Synset, *, seed: int, epoch: int) -> str:
        """A longer text: the synset, what it is a kind of, then others of that kind, a paragraph each."""
        dice = random.Random(f"{seed}:{epoch}:{synset.id}:walk")
        paragraphs = [self._document(synset, dice)]
        seen = {synset.id}
        current = synset
        for _ in range(dice.randint(2, 4)):
            above = [one for one in current.hypernyms if one in self._synsets and one not in seen]
            siblings = [
                one
                for parent in current.hypernyms[:1]
                for one in self._children.get(parent, ())
                if one not in seen
            ]
            below = [one for one in self._children.get(current.id, ()) if one not in seen]
            choices = [one for one in (above[:1], siblings, siblings, below) if one]
            if not choices:
                break
            current = self._synsets[dice.choice(dice.choice(choices))]
            seen.add(current.id)
            paragraphs.append(self._document(current, dice))
        return "\n".join(paragraphs)

    def chat(self, synset: Synset, *, seed: int, epoch: int) -> tuple[str, str]:
        """A question about a synset and its answer."""
        dice = random.Random(f"{seed}:{epoch}:{synset.id}:chat")
        lemma = _pick_lemma(synset, dice)
        if synset.pos == "n":
            verb = "are" if self._is_plural(synset, lemma) else "is"
            asked = "Who" if synset.topic == _PERSONS and synset.is_instance else "What"
            question = f"{asked} {verb} {self._with_article(synset, lemma)}?"
        else:
            question = f"What does {'to ' if synset.pos == 'v' else ''}{lemma} mean?"
        return question, self._told(synset, lemma, dice)

    def statement(self, synset: Synset) -> str:
        """The plainest sentence: "A violin is a bowed stringed instrument that ..."."""
        return self._told(synset, synset.lemmas[0], None)

    def sentences(self, synset: Synset) -> tuple[str, ...]:
        """The examples as sentences."""
        return tuple(_sentence(example) for example in synset.examples)

    def _document(self, synset: Synset, dice: random.Random) -> str:
        lemma = _pick_lemma(synset, dice)
        examples = list(self.sentences(synset))
        dice.shuffle(examples)
        roll = dice.random()
        if examples and roll < 0.15:
            return " ".join(examples)
        told = self._told(synset, lemma, dice)
        if examples and roll < 0.25:
            return " ".join([*examples, told])
        if examples and roll < 0.80:
            return " ".join([told, *examples])
        return told

    def _told(self, synset: Synset, lemma: str, dice: random.Random | None) -> str:
        """The definition in a sentence; without dice the plainest form."""
        if synset.pos == "n":
            return self._told_noun(synset, lemma, dice)
        definition = _plain(synset.definition)
        roll = dice.random() if dice else 0.5
        if roll < 0.2:
            return _sentence(f"{_listed(synset, lemma)}: {synset.definition.replace('`', chr(39))}")
        if synset.pos == "v":
            if roll < 0.35 and len(synset.lemmas) > 1:
                other = next(one for one in synset.lemmas if one != lemma)
                return _sentence(f"to {lemma}, or to {other}, is to {definition}")
            parent = self._parent_lemma(synset)
            if roll > 0.9 and parent and parent not in synset.lemmas:
                kind = _sentence(f"to {lemma} is to {parent} in some way")
                return kind + " " + _sentence(f"it is to {definition}")
            return _sentence(f"to {lemma} is to {definition}")
        return _sentence(f"{lemma} means {definition}")

    def _told_noun(self, synset: Synset, lemma: str, dice: random.Random | None) -> str:
        domain, definition = _domain(synset.definition)
        roll = dice.random() if dice else 0.5
        if roll < 0.12:
            return _sentence(f"{_listed(synset, lemma)}: {synset.definition.replace('`', chr(39))}")
        is_plural = self._is_plural(synset, lemma)
        verb = "are" if is_plural else "is"
        subject = self._with_article(synset, lemma)
        said = self._defined(synset, definition)
        opening = f"in {domain}, " if domain else ""
        parent = self._parent_lemma(synset)
        if 0.12 <= roll < 0.24 and subject.startswith(("a ", "an ")):
            return _sentence(f"{opening}the {lemma} {verb} {said}")
        if 0.24 <= roll < 0.36 and parent and not synset.is_instance and parent.lower() != lemma.lower():
            kind = dice.choice(("kind of", "kind of", "type of")) if dice else "kind of"
            it = "they are" if is_plural else "it is"
            return _sentence(f"{subject} {verb} a {kind} {parent}") + " " + _sentence(f"{it} {said}")
        if 0.36 <= roll < 0.46 and len(synset.lemmas) > 1:
            other = next(one for one in synset.lemmas if one != lemma)
            return _sentence(f"{opening}{subject}, or {other}, {verb} {said}")
        return _sentence(f"{opening}{subject} {verb} {said}")

    def _parent_lemma(self, synset: Synset) -> str | None:
        return self._lemma_of.get(synset.hypernyms[0]) if synset.hypernyms else None

    def _with_article(self, synset: Synset, lemma: str) -> str:
        return f"{_article(lemma)} {lemma}" if self._is_counted(synset, lemma) else lemma

    def _is_counted(self, synset: Synset, lemma: str) -> bool:
        """Whether the lemma reads well after "a"."""
        if synset.is_instance or self._is_plural(synset, lemma):
            return False
        first = _plain(synset.definition).split(" ", 1)[0]
        if first in ("a", "an", "any", "one", "someone"):
            return True
        if lemma[:1].isupper():
            # A breed ("Airedale") counts, a genus or a family ("Felidae") does not.
            return synset.topic == _PERSONS or (
                synset.topic in (5, 6) and not lemma.endswith(("idae", "us", "a"))
            )
        return synset.topic in _COUNTED_TOPICS and first not in ("genus", "family", "all")

    def _is_plural(self, synset: Synset, lemma: str) -> bool:
        first = _plain(synset.definition).split(" ", 1)[0]
        if synset.is_instance or first in ("a", "an") or not _is_plural_word(lemma.split(" ")[-1]):
            return False
        return not lemma.endswith("ics") and not lemma[:1].isupper()

    def _defined(self, synset: Synset, definition: str) -> str:
        """The definition with an article before its head where it lacks one."""
        first = definition.split(" ", 1)[0]
        if first.lower() in _DETERMINERS or not first[:1].isalpha():
            return definition
        head, position = _head(definition)
        words = definition.split(" ")
        if first in _SUPERLATIVES or (first.endswith("est") and position > 0):
            return f"the {definition}"
        if _is_plural_word(head) or (position == 0 and head.endswith("ing")):
            return definition
        follows = words[position + 1] if position + 1 < len(words) else ""
        if follows == "of" and head in _OF_HEADS and synset.topic not in _COUNTED_TOPICS:
            return f"the {definition}"
        is_person = synset.topic == _PERSONS and synset.is_instance and head[:1].islower()
        if is_person or (self._counted_heads[head] >= 2 and head[:1].islower()):
            return f"{_article(first)} {definition}"
        return definition


def _head(definition: str) -> tuple[str, int]:
    """The head word of a noun phrase and its position: the last word before what follows a head."""
    words = _plain(definition).split(" ")
    start = 1 if words[0] in ("a", "an", "the") else 0
    for position in range(start, len(words)):
        word = words[position]
        if word.endswith((",", ";", ":")) and not word[:-1].endswith("y"):
            return word.rstrip(",;:"), position
        if position > start and (word.lower() in _HEAD_ENDS or word.startswith(("(", '"', "`", "'"))):
            return words[position - 1].rstrip(",;:"), position - 1
    return words[-1].rstrip(",;:."), len(words) - 1


def _plain(definition: str) -> str:
    """A definition without a leading parenthesis, with straight quotes."""
    return _PARENTHESIS.sub("", definition.replace("`", "'")) or definition


def _domain(definition: str) -> tuple[str | None, str]:
    """Split "(music) a short piece" into the subject and the rest."""
    found = _DOMAIN.match(definition)
    if found is None or found[1].split(" ", 1)[0].lower() in _NOT_DOMAINS:
        return None, _plain(definition)
    return found[1], definition[found.end() :].replace("`", "'") or definition


def _is_plural_word(word: str) -> bool:
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "os", "as"))


def _article(phrase: str) -> str:
    return "an" if _VOWEL_SOUND.match(phrase) and not _CONSONANT_SOUND.match(phrase) else "a"


def _pick_lemma(synset: Synset, dice: random.Random) -> str:
    """Mostly the first lemma, which is the commonest."""
    if len(synset.lemmas) == 1 or dice.random() < 0.6:
        return synset.lemmas[0]
    return dice.choice(synset.lemmas)


def _listed(synset: Synset, lemma: str) -> str:
    return ", ".join([lemma, *(one for one in synset.lemmas if one != lemma)][:3])


def _sentence(text: str) -> str:
    """Begin with a capital and end with a full stop; backquotes become straight ones."""
    text = " ".join(text.replace("`", "'").split())
    for position, letter in enumerate(text):
        if letter.isalpha():
            # "pH" and "e-mail" and "iPod" keep their case: a capital after the first letter says so.
            if position == 0 and not text[1:2].isupper():
                text = letter.upper() + text[1:]
            break
    return text if text.endswith((".", "!", "?", '."', '!"', '?"')) else text.rstrip(";:, ") + "."
