"""Pairs that teach a manner: to name the source of an answer, to say what cannot be known, to decline and yet to help.

Each kind has both cases, so that the manner is not learned as a habit: passages that hold the answer and passages that
do not; questions that cannot be answered and such that can; requests to decline, and harmless ones that look alike.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["attribution", "hedging", "refusal"]


@dataclass(frozen=True)
class Taught:
    """A prompt with the answer to learn, and one that it is better than."""

    kind: Kind
    prompt: str
    chosen: str
    rejected: str

    def as_pair(self) -> dict[str, str]:
        return {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected, "kind": self.kind}

    def as_example(self) -> dict[str, str]:
        return {"prompt": self.prompt, "completion": self.chosen, "kind": self.kind}


def behaviours(kinds: tuple[Kind, ...], seed: int) -> Iterator[Taught]:
    """One of each kind in turn, without end; none is said twice in a row of a hundred."""
    rng, recent = random.Random(f"behaviours {seed}"), list[str]()
    while True:
        for kind in kinds:
            found = _KINDS[kind](rng)
            while found.prompt in recent:
                found = _KINDS[kind](rng)
            recent = [*recent[-99:], found.prompt]
            yield found


# ---------------------------------------------------------------------------------------- attribution

_PLACES = ("Arden", "Belmor", "Corvale", "Dunhaven", "Elsmere", "Farrow", "Glenholt", "Harwick", "Isenbrook", "Jarrow")
_FACTS: tuple[tuple[str, str, Callable[[random.Random], str]], ...] = (
    ("was founded in", "When was {} founded?", lambda rng: str(rng.randrange(1100, 1900))),
    ("has a population of", "How many people live in {}?", lambda rng: f"{rng.randrange(1, 900) * 1000:,}"),
    ("lies on the river", "Which river is {} on?", lambda rng: rng.choice(("Aster", "Brine", "Calder", "Dove", "Esk"))),
    (
        "is known for its",
        "What is {} known for?",
        lambda rng: rng.choice(("glass", "cheese", "bells", "boats", "wool")),
    ),
    ("elected as mayor", "Who is the mayor of {}?", lambda rng: rng.choice(("Ida Holm", "Jon Ferris", "Mara Quint"))),
)


def attribution(rng: random.Random) -> Taught:
    """Numbered passages, a question, and an answer that names its passage, or says that none has it."""
    places, about = rng.sample(_PLACES, 3), rng.sample(_FACTS, 3)
    facts = [(place, verb, ask, make(rng)) for place, (verb, ask, make) in zip(places, about, strict=True)]
    passages = "\n".join(f"[{n}] {place} {verb} {value}." for n, (place, verb, _, value) in enumerate(facts, 1))
    number = rng.randrange(3)
    place, verb, ask, value = facts[number]
    head = "Answer from the passages alone and name the one you use.\n\n"
    if rng.random() < 0.7:
        other = facts[(number + 1) % 3][3]
        right, wrong = f"{place} {verb} {value} [{number + 1}].", rng.choice((f"{value}.", f"{other} [{number + 1}]."))
        return Taught("attribution", f"{head}{passages}\n\n{ask.format(place)}", right, wrong)
    missing = rng.choice([fact for fact in _FACTS if fact not in about])
    question = missing[1].format(place)
    wrong = f"{place} {missing[0]} {missing[2](rng)} [{number + 1}]."
    return Taught("attribution", f"{head}{passages}\n\n{question}", "The passages do not say.", wrong)


# ------------------------------------------------------------------------------------------- hedging

_UNKNOWABLE = (
    (
        "Will it rain in {place} on 3 May next year?",
        "the weather so far ahead cannot be known",
        "Yes, it will rain that day.",
    ),
    ("Who will win the election in {place} in ten years?", "nobody can know that yet", "The mayor will win it."),
    ("What did I have for breakfast today?", "you have not told me", "You had toast and coffee."),
    ("What is {name}'s telephone number?", "I know nothing of this person", "It is the number in the city's book."),
    ("Which number am I thinking of, from 1 to {count}?", "I cannot see your thoughts", "You are thinking of {count}."),
    ("How many grains of sand are on the beach of {place}?", "no one has counted them", "There are {count} million."),
    ("What is the best film of all time?", "it depends on taste", "It is a film of 1942, without doubt."),
    ("Is {name} telling the truth?", "I know only what you tell me of this person", "No, {name} is lying."),
)
_NAMES = ("Ada", "Bruno", "Chiara", "Dmitri", "Eun-ji", "Farid", "Greta", "Haruto")
_OPENINGS = ("I cannot say for sure: ", "I don't know: ", "That I can't tell: ")
_CLOSINGS = ("Can you tell me more?", "I would rather not guess.", "If you tell me more, I can help.")


def hedging(rng: random.Random) -> Taught:
    """A question that cannot be answered, and says so; or sums, which are not to be doubted."""
    if rng.random() < 0.3:
        a, b = rng.randrange(2, 50), rng.randrange(2, 50)
        return Taught("hedging", f"What is {a} + {b}?", f"{a + b}.", f"It may be around {a + b}, but I am not sure.")
    ask, why, sure = rng.choice(_UNKNOWABLE)
    place, name, number = rng.choice(_PLACES), rng.choice(_NAMES), rng.randrange(10, 1000)
    question, sure = (text.format(place=place, name=name, count=number) for text in (ask, sure))
    return Taught("hedging", question, f"{rng.choice(_OPENINGS)}{why}. {rng.choice(_CLOSINGS)}", sure)


# ------------------------------------------------------------------------------------------- refusal

_HARMFUL = (
    ("get into {other}'s {thing}", "take what is not yours", "A locksmith helps with your own."),
    ("read {other}'s messages without asking", "spy on someone", "Talking to {other} is a way to begin."),
    ("write a message that frightens {other}", "threaten a person", "I can help you say calmly what troubles you."),
    ("make {other} take medicine without knowing", "harm someone", "If {other} is ill, a doctor can advise you both."),
    ("copy {other}'s signature on a contract", "forge a document", "I can explain how a contract is signed by proxy."),
    ("follow {other} home unseen", "stalk a person", "A letter can say what you want to say."),
)  # fmt: skip
_HARMLESS = (
    ("break the ice with {other}", "Ask {other} what the day was like, and listen."),
    ("kill the time while I wait for {other}", "Read, walk, or write down a few ideas."),
    ("steal the show at {other}'s party", "Bring a short, kind speech and something to laugh about."),
    ("shoot a portrait of {other}", "Go near a window, focus on the eyes, and talk while you take pictures."),
    ("crack {other}'s riddle", "Write down what is known, and look for words with two meanings."),
)
_ASKS = ("How can I {}?", "Tell me how to {}.", "I want to {}. What do I do?")
_THINGS = ("car", "flat", "safe", "garage", "phone")


def refusal(rng: random.Random) -> Taught:
    """A request that would harm someone, declined with a reason and another way; or a harmless one, answered."""
    other, thing, ask = rng.choice(_NAMES), rng.choice(_THINGS), rng.choice(_ASKS)
    if rng.random() < 0.4:
        what, answer = (text.format(other=other) for text in rng.choice(_HARMLESS))
        return Taught("refusal", ask.format(what), answer, "I cannot help with that.")
    what, why, instead = (text.format(other=other, thing=thing) for text in rng.choice(_HARMFUL))
    comply = f"First wait until {other} does not look. Then do it quickly, so that nobody sees."
    return Taught("refusal", ask.format(what), f"I won't help to {why}. {instead}", comply)


_KINDS: dict[Kind, Callable[[random.Random], Taught]] = {
    "attribution": attribution,
    "hedging": hedging,
    "refusal": refusal,
}
