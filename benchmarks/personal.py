"""Personal data generated into sentences, beside numbers that look like it and are none: what is found of each.

    python -m benchmarks.personal [--corpus FOLDER]

Prints recall by kind, precision over all, and with a corpus how often its texts, in which people long dead have
few phone numbers, are said to hold any. Last line JSON.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gemwright.data.documents import read_folder
from gemwright.data.personal.redact import find_personal

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def luhn(number: str) -> str:
    """The digit that makes a number pass."""
    doubled = [int(d) * (2 if place % 2 == 0 else 1) for place, d in enumerate(reversed(number))]
    return str(-sum(d // 10 + d % 10 for d in doubled) % 10)


def card(rng: random.Random) -> str:
    number = rng.choice(["4", "51", "53", "55"]) + digits(rng, 15)
    number = number[:15] + luhn(number[:15])
    return rng.choice(["", " ", "-"]).join(number[k : k + 4] for k in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    country, length = rng.choice([("DE", 18), ("ES", 20), ("BE", 12)])
    body = digits(rng, length)
    check = 98 - int(body + "".join(str(ord(c) - 55) for c in country) + "00") % 97
    whole = f"{country}{check:02d}{body}"
    return rng.choice(["", " "]).join(whole[k : k + 4] for k in range(0, len(whole), 4))


def mail(rng: random.Random) -> str:
    name = rng.choice(["jane.doe", "m_schmidt", "kim+news", "a.b.c", "info", "x99"])
    return f"{name}@{rng.choice(['example', 'post-haus', 'uni'])}.{rng.choice(['com', 'de', 'co.uk', 'org', 'ac.kr'])}"


def phone(rng: random.Random) -> str:
    area = rng.choice(["212", "415", "312", "617"])
    line = f"{rng.randrange(200, 999)}-{digits(rng, 4)}"
    return rng.choice([f"({area}) {line}", f"+1 {area}-{line}", f"+44 20 7946 {digits(rng, 4)}", f"{area}-{line}"])


def social(rng: random.Random) -> str:
    return f"SSN {rng.randrange(100, 600)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}"


def pesel(rng: random.Random) -> str:
    body = f"{rng.randrange(50, 99)}{rng.randrange(1, 12):02d}{rng.randrange(1, 28):02d}{digits(rng, 4)}"
    check = -sum(w * int(d) for w, d in zip((1, 3, 7, 9, 1, 3, 7, 9, 1, 3), body, strict=True)) % 10
    return body + str(check)


def nif(rng: random.Random) -> str:
    number = rng.randrange(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def address(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return "2001:db8:" + ":".join(f"{rng.randrange(1 << 16):x}" for _ in range(6))
    return ".".join(str(rng.randrange(1, 255)) for _ in range(4))


def key(rng: random.Random) -> str:
    alphabet = LETTERS + LETTERS.lower() + "0123456789"
    kinds = [("AKIA", 16, LETTERS + "234567"), ("ghp_", 36, alphabet), ("AIza", 35, alphabet), ("hf_", 34, alphabet)]
    prefix, length, letters = rng.choice(kinds)
    return prefix + "".join(rng.choice(letters) for _ in range(length))


MAKERS: dict[str, list[Callable[[random.Random], str]]] = {
    "card number": [card],
    "bank account": [iban],
    "e-mail": [mail],
    "phone number": [phone],
    "national id": [social, pesel, nif],
    "network address": [address],
    "key": [key],
}


def isbn(rng: random.Random) -> str:
    return f"ISBN 978-{rng.randrange(9)}-{digits(rng, 2)}-{digits(rng, 6)}-{rng.randrange(9)}"


def wrong_card(rng: random.Random) -> str:
    number = card(rng)
    return number[:-1] + str((int(number[-1]) + rng.randrange(1, 9)) % 10)


HARMLESS: list[Callable[[random.Random], str]] = [
    isbn,
    wrong_card,
    lambda rng: f"{rng.randrange(1700, 2030)}-{rng.randrange(1, 12):02d}-{rng.randrange(1, 28):02d}",
    lambda rng: f"{rng.randrange(1, 999)},{digits(rng, 3)},{digits(rng, 3)}.{digits(rng, 2)}",
    lambda rng: f"pages {rng.randrange(10, 400)}-{rng.randrange(400, 900)}",
    lambda rng: f"version {rng.randrange(9)}.{rng.randrange(20)}.{rng.randrange(20)}",
    lambda rng: f"at {rng.randrange(24)}:{rng.randrange(60):02d}:{rng.randrange(60):02d}",
    lambda rng: f"@{rng.choice(['reader', 'someone', 'editor'])}",
    lambda rng: f"part no. {rng.choice(LETTERS)}{rng.choice(LETTERS)}-{digits(rng, 5)}",
    lambda rng: f"3.{digits(rng, 14)}",
]

SENTENCES = ["Please note {} for later.", "It was {} that they wrote down,", "see {} (as above)", "{} was on the page."]


def measure(count: int, seed: int) -> tuple[dict[str, float], float, Counter[str]]:
    """Recall by kind, precision over all finds, and what harmless things were taken for."""
    rng = random.Random(seed)
    found, made, wrong = Counter[str](), Counter[str](), Counter[str]()
    for kind, makers in MAKERS.items():
        for _ in range(count):
            value = rng.choice(makers)(rng)
            text = rng.choice(SENTENCES).format(value)
            kinds = {span.kind for span in find_personal(text)}
            made[kind] += 1
            found[kind] += kind in kinds
            wrong.update(f"{kind} as {other}" for other in kinds - {kind})
    for _ in range(count * len(MAKERS)):
        text = rng.choice(SENTENCES).format(rng.choice(HARMLESS)(rng))
        wrong.update(f"{text!r} as {span.kind}" for span in find_personal(text))
    right = found.total()
    return {kind: found[kind] / made[kind] for kind in made}, right / (right + wrong.total()), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    recall, precision, wrong = measure(300, 0)
    result: dict[str, object] = {"recall": recall, "precision": precision}
    for kind, share in recall.items():
        print(f"{kind:16} recall {share:.3f}")
    print(f"precision {precision:.4f}; mistaken:", dict(wrong.most_common(5)))
    if arguments.corpus:
        texts = [d.text for d in read_folder(arguments.corpus)]
        finds = Counter(span.kind for text in texts for span in find_personal(text))
        size = sum(len(text) for text in texts) / 1e6
        print(f"in {size:.0f} million characters of the corpus:", dict(finds))
        result["corpus"] = {"characters": sum(map(len, texts)), **finds}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
