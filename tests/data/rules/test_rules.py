"""Each rule against a plain reading of its definition, and at its thresholds."""

import re
from collections import Counter
from collections.abc import Sequence

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.rules.batch import Batch, Rule, judge
from gemwright.data.rules.blocked import BlockList, SelfIdentification
from gemwright.data.rules.c4 import C4, sentences_of
from gemwright.data.rules.fineweb import FineWeb
from gemwright.data.rules.gopher import GopherQuality
from gemwright.data.rules.language import Language
from gemwright.data.rules.repetition import GopherRepetition
from gemwright.data.rules.words import Words, english_words

# Runs that spaCy cuts in various ways, and all kinds of white space.
# fmt: off
runs = st.sampled_from(["the", "can't", "U.S.", "a.m.", "(hello)", "http://a.b/c?d=1", "e-mail", "don’t", "...", "?!",
                        "10km", "#tag", ":-)", "Mr.", "$5.00", "\u00e9t\u00e9", "x" * 40, "1,000", "“quoted”", "end.",
                        "[3]"])
# fmt: on
spaces = st.sampled_from([" ", " ", " ", "\n", "\n\n", "  ", "\t", "\u3000"])
texts = st.lists(st.tuples(runs, spaces), min_size=1, max_size=60).map(lambda parts: "".join(r + s for r, s in parts))
few_words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=150).map(" ".join)


def words_of(words: Words, text: int) -> list[str]:
    names = {id: word for word, id in words.vocabulary.ids.items()}
    return [names[int(id)] for id in words.ids[words.starts[text] : words.starts[text + 1]]]


@settings(deadline=None, max_examples=60)
@given(batch=st.lists(texts, min_size=1, max_size=4))
def test_words_are_those_of_spacy_on_the_whole_text(batch: list[str]) -> None:
    nlp = _spacy()
    words = english_words(batch)
    for number, text in enumerate(batch):
        assert words_of(words, number) == [t.text.strip() for t in nlp.tokenizer(text) if t.text.strip()]


@settings(deadline=None, max_examples=60)
@given(text=texts.map(lambda text: " ".join(text.split("\n")).strip()).filter(bool))
def test_sentences_are_those_of_spacys_sentencizer(text: str) -> None:
    expected = [s for s in _spacy()(text).sents if s.text.strip()]
    assert sentences_of(text, english_words([]).vocabulary) == len(expected)


def _spacy() -> spacy.Language:
    if not _made:
        _made.append(spacy.blank("en"))
        _made[0].add_pipe("sentencizer")
    return _made[0]


_made: list[spacy.Language] = []


def plainly(text: str, rule: GopherRepetition) -> str | None:
    """The definition, read word by word."""
    words = [t.text.strip() for t in _spacy().tokenizer(text) if t.text.strip()]
    for parts, share, characters, name in (
        (re.split(r"\n{2,}", text.strip()), rule.paragraphs, rule.paragraph_characters, "paragraphs"),
        (re.split(r"\n+", text), rule.lines, rule.line_characters, "lines"),
    ):
        again = [part for k, part in enumerate(parts) if part in parts[:k]]
        if len(again) / len(parts) > share:
            return f"repeated {name}"
        if sum(map(len, again)) / len(text) > characters:
            return f"characters in repeated {name}"
    for n, most in rule.top:
        grams = Counter(" ".join(words[k : k + n]) for k in range(len(words) - n + 1))
        if grams and len(grams.most_common(1)[0][0]) * grams.most_common(1)[0][1] / len(text) > most:
            return f"top {n} words"
    for n, most in rule.repeated:
        if _greedy(words, n) / len(text) > most:
            return f"repeated {n} words"
    return None


def _greedy(words: Sequence[str], n: int) -> int:
    seen, k, count = set[str](), 0, 0
    while k + n <= len(words):
        gram = "".join(words[k : k + n])
        count, k = (count + len(gram), k + n) if gram in seen else (count, k + 1)
        seen.add(gram)
    return count


@settings(deadline=None, max_examples=60)
@given(batch=st.lists(st.one_of(texts, few_words), min_size=1, max_size=4))
def test_repetition_is_counted_as_a_plain_reading_counts_it(batch: list[str]) -> None:
    for rule in (GopherRepetition(), GopherRepetition(0.9, 0.9, 0.9, 0.9, ((2, 0.5),), ((5, 0.4), (6, 0.2), (7, 0.1)))):
        assert rule(Batch(batch)).reasons == [plainly(text, rule) for text in batch]


PROSE = (
    "The keeper of the lighthouse walked down to the harbour every morning, and he counted the boats that had "
    "come home with the tide. Most of them were small, and painted in colours that the salt had faded long ago. "
    "His daughter would wait for him at the gate with a basket of bread. They spoke little, because the wind "
    "carried words away before anyone could hear them. In winter the two of them mended nets by the fire. "
    "Nobody else in the village knew how to tie that old knot, which does not slip when it is wet."
)
SPOILED: list[tuple[Rule, str, str | None]] = [
    (GopherQuality(), PROSE, None),
    (GopherQuality(), " ".join(PROSE.split()[:40]), "few words"),
    (GopherQuality(max_words=60), PROSE, "many words"),
    (GopherQuality(), " ".join(["the", "be", "a", "of"] * 30), "short words"),
    (GopherQuality(), " ".join(["the", "and"] + ["extraordinarily"] * 90), "long words"),
    (GopherQuality(), PROSE.replace(" ", " # ", 30), "many hashes"),
    (GopherQuality(), PROSE.replace(" ", " ... ", 30), "many ellipses"),
    (GopherQuality(), "- " + PROSE.replace(". ", ".\n- "), "bullet lines"),
    (GopherQuality(), PROSE.replace(". ", "…\n"), "lines ending in ellipses"),
    (GopherQuality(), re.sub(r"(\w+) ", r"\1 17 ", PROSE), "few words with letters"),
    (GopherQuality(), re.sub(r"\b(the|and|to|of|that|have|be|with)\b", "le", PROSE, flags=re.I), "few stop words"),
    (GopherRepetition(), PROSE, None),
    (GopherRepetition(), "\n\n".join(["A.", "B.", "A.", "A."]), "repeated paragraphs"),
    (GopherRepetition(), "One.\nTwo.\nThree.\n" + PROSE + "\n" + PROSE, "characters in repeated lines"),
    (GopherRepetition(), PROSE + " " + PROSE[:300], "repeated 5 words"),
    (C4(), PROSE, None),
    (C4(), PROSE.rpartition(".")[0], "few sentences"),
    (C4(terminal_punctuation=False), PROSE.rpartition(".")[0], None),
    (C4(), PROSE + "\nLorem ipsum dolor sit.", "lorem ipsum"),
    (C4(), PROSE + "\nif (x) { return 1. }.", "curly bracket"),
    (FineWeb(), PROSE, None),
    (FineWeb(), PROSE.replace(".", ","), "lines without an end"),
    (FineWeb(), PROSE.replace(". ", ".\n") + "\nShort.\nOne." * 20, "short lines"),
    (FineWeb(), PROSE + "\nA line that is said twice, yes.\nA line that is said twice, yes.", "repeated lines"),
    (FineWeb(), "\n".join(f"A line with but a few words number{n}." for n in range(3)) + "\n" * 40 + "End.", "list"),
    (Language(("en",)), PROSE, None),
    (Language(("en",)), "Der Leuchtturmwärter ging jeden Morgen zum Hafen hinunter und zählte die Boote.", "de"),
    (Language(("ko",)), "등대지기는 매일 아침 항구로 내려가 배를 세었다. 그의 딸은 문 앞에서 그를 기다렸다.", None),
    (BlockList(("salt had", "zebra")), PROSE, "phrase"),
    (BlockList(("alt ha", "zebra")), PROSE, None),
    (SelfIdentification(), PROSE, None),
    (SelfIdentification(), "As an AI language model, I cannot do that.", "speaks of itself as a model"),
    (SelfIdentification(), "I’m a large language model trained by OpenAI.", "speaks of itself as a model"),
    (SelfIdentification(), "My name is Claude and I was made by Anthropic.", "speaks of itself as a model"),
    (SelfIdentification(), "I was trained by a language teacher in Paris, an AI expert too.", None),
    (SelfIdentification(allowed=("gemma", "trained by google")), "I was trained by Google.", None),
]


@pytest.mark.parametrize(("rule", "text", "reason"), SPOILED)
def test_a_text_is_dropped_for_what_was_spoiled_in_it(rule: Rule, text: str, reason: str | None) -> None:
    assert rule(Batch([PROSE, text, ""] if reason else [text])).reasons[1 if reason else 0] == reason


def test_c4_keeps_sentences_and_leaves_out_menus_citations_and_policies() -> None:
    menu, script, policy = (
        "Home | About",
        "Please enable Javascript to see this page.",
        "Read our privacy policy today.",
    )
    text = f"{menu}\n{PROSE}[12]\n{script}\n{policy}\nToo short."
    verdicts = C4()(Batch([text]))
    assert (verdicts.reasons, verdicts.texts) == ([None], [PROSE])


def test_rules_are_asked_in_order_and_each_text_has_the_first_reason() -> None:
    batch = [PROSE, "", "salt", PROSE + "\nMenu | Home"]
    verdicts = judge((BlockList(("salt had",), most=1), C4(), GopherQuality()), batch)
    assert verdicts.reasons == [None, "empty", "c4:few sentences", None]
    assert verdicts.texts == [PROSE, "", "salt", PROSE]
