"""Lists of numbers and words: sorted, counted, edited."""

import random

from gemwright.data.skills.question import Question

WORDS = (
    *("apple", "river", "stone", "cloud", "table", "green", "horse", "light"),
    *("paper", "music", "garden", "window", "bread", "winter", "silver", "copper"),
)


def sorting(rng: random.Random) -> Question:
    numbers = rng.sample(range(100), rng.randint(3, 5))
    ordered = " ".join(map(str, sorted(numbers)))
    return Question("sorting", ordered, f"Sort: {' '.join(map(str, numbers))}", ordered)


def counting(rng: random.Random) -> Question:
    word = rng.choice(WORDS)
    words = rng.choices([word, *rng.sample(WORDS, 2)], k=rng.randint(3, 9))
    text = " ".join(words)
    return Question("counting", text, f"How often is {word} in: {text}?", str(words.count(word)))


def editing(rng: random.Random) -> Question:
    words = rng.sample(WORDS, rng.randint(3, 6))
    old, new = rng.choice(words), rng.choice(WORDS)
    text = " ".join(words)
    answer = " ".join(new if word == old else word for word in words)
    return Question("editing", f"{text} {old} {new}", f"Replace {old} by {new}: {text}", answer)
