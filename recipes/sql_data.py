"""Questions about a music shop, in English, Korean and Japanese, whose right answer is an SQL query.

The shop is the Chinook database (github.com/lerocha/chinook-database). A question is a form of words with a value of
the database in it; what is held out are values, whatever the language. Answers are judged by running them.
"""

import random
import sqlite3
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gemwright.data.documents import split_of
from gemwright.data.skills import Question, Skill
from gemwright.tuning.rewards.sql import query_of, run_query, same_result

CHINOOK = Path(__file__).parents[1] / "../shared/data/chinook/Chinook_Sqlite.sqlite"


@dataclass(frozen=True)
class Form:
    """One question.

    Attributes:
      texts: in each language, with {} for the value.
      query: with {} for the value, its quotes doubled.
      values: a query for all values that are asked about.
    """

    name: str
    texts: tuple[str, str, str]
    query: str
    values: str


FORMS = (
    Form(
        "tracks of a genre",
        ("How many {} tracks are there?", "{} 장르의 트랙은 몇 개인가요?", "{}のトラックはいくつありますか?"),
        "SELECT COUNT(*) FROM Track JOIN Genre USING (GenreId) WHERE Genre.Name = '{}'",
        "SELECT Name FROM Genre",
    ),
    Form(
        "albums of an artist",
        ("List the albums by {}.", "{}의 앨범을 모두 보여 주세요.", "{}のアルバムをすべて挙げてください。"),
        "SELECT Title FROM Album JOIN Artist USING (ArtistId) WHERE Artist.Name = '{}'",
        "SELECT DISTINCT Name FROM Artist JOIN Album USING (ArtistId)",
    ),
    Form(
        "number of albums",
        ("How many albums does {} have?", "{}의 앨범은 몇 장인가요?", "{}のアルバムは何枚ありますか?"),
        "SELECT COUNT(*) FROM Album JOIN Artist USING (ArtistId) WHERE Artist.Name = '{}'",
        "SELECT DISTINCT Name FROM Artist JOIN Album USING (ArtistId)",
    ),
    Form(
        "customers of a country",
        ("How many customers live in {}?", "{}에 사는 고객은 몇 명인가요?", "{}に住む顧客は何人ですか?"),
        "SELECT COUNT(*) FROM Customer WHERE Country = '{}'",
        "SELECT DISTINCT Country FROM Customer",
    ),
    Form(
        "sales of a country",
        ("What are the total sales in {}?", "{}의 총 매출은 얼마인가요?", "{}の総売上はいくらですか?"),
        "SELECT SUM(Total) FROM Invoice WHERE BillingCountry = '{}'",
        "SELECT DISTINCT BillingCountry FROM Invoice",
    ),
    Form(
        "customers of a city",
        (
            "Give the e-mails of customers in {}.",
            "{} 고객의 이메일을 알려 주세요.",
            "{}の顧客のメールアドレスを教えてください。",
        ),
        "SELECT Email FROM Customer WHERE City = '{}'",
        "SELECT DISTINCT City FROM Customer",
    ),
    Form(
        "longest track",
        (
            "Which track of {} is the longest?",
            "앨범 {}에서 가장 긴 곡은 무엇인가요?",
            "アルバム{}で一番長い曲は何ですか?",
        ),
        "SELECT Track.Name FROM Track JOIN Album USING (AlbumId) WHERE Title = '{}' ORDER BY Milliseconds DESC LIMIT 1",
        "SELECT DISTINCT Title FROM Album",
    ),
    Form(
        "length of an album",
        ("How many tracks does the album {} have?", "앨범 {}에는 몇 곡이 있나요?", "アルバム{}には何曲ありますか?"),
        "SELECT COUNT(*) FROM Track JOIN Album USING (AlbumId) WHERE Title = '{}'",
        "SELECT DISTINCT Title FROM Album",
    ),
    Form(
        "composer",
        ("Who composed {}?", "{}의 작곡가는 누구인가요?", "{}の作曲者は誰ですか?"),
        "SELECT Composer FROM Track WHERE Name = '{}'",
        "SELECT Name FROM Track WHERE Composer IS NOT NULL GROUP BY Name HAVING COUNT(*) = 1",
    ),
    Form(
        "long tracks",
        (
            "How many tracks are longer than {} seconds?",
            "{}초보다 긴 트랙은 몇 개인가요?",
            "{}秒より長いトラックはいくつありますか?",
        ),
        "SELECT COUNT(*) FROM Track WHERE Milliseconds > {} * 1000",
        "SELECT DISTINCT Milliseconds / 1000 FROM Track WHERE Milliseconds < 600000",
    ),
)


_NUMBERS = "long tracks"
_NAMED = tuple(form for form in FORMS if form.name != _NUMBERS)


@dataclass(frozen=True)
class Shop:
    """The database, and the questions that can be asked about it."""

    database: Path = CHINOOK

    @property
    def is_there(self) -> bool:
        return self.database.is_file()

    @property
    def skill(self) -> Skill:
        """As the other skills are."""
        return self.sql

    def sql(self, rng: random.Random) -> Question:
        form = rng.choice(FORMS)
        return self._asked(form, rng.choice(self.values[form.name]), rng)

    def borrowed(self, rng: random.Random) -> Question:
        """To learn from alone: with the value of another form, since few of its own would be learned by heart and not
        copied."""
        return self._asked_of_any(self._other, rng)

    def invented(self, rng: random.Random) -> Question:
        """To learn from alone: with a name that nothing has, of letters, syllables and words of other names."""
        return self._asked_of_any(self._name, rng)

    def quoting(self, phrases: Sequence[str]) -> Skill:
        """To learn from alone: with words of running text, which have to be copied against what usually follows."""
        return lambda rng: self._asked_of_any(lambda rng: rng.choice(phrases), rng)

    def _asked_of_any(self, name: Callable[[random.Random], str], rng: random.Random) -> Question:
        form = rng.choice(FORMS)
        return self._asked(form, str(rng.randrange(1000)) if form.name == _NUMBERS else name(rng), rng)

    def _other(self, rng: random.Random) -> str:
        """A value of any form that is held out with none."""
        while True:
            value = rng.choice(self.values[rng.choice(_NAMED).name])
            if all(split_of(f"sql {_key(form, value)}", 10) == "train" for form in FORMS):
                return value

    def _name(self, rng: random.Random) -> str:
        kinds = (_letters, _syllables, lambda rng: rng.choice(self._other(rng).split()))
        return " ".join(rng.choice(kinds)(rng) for _ in range(rng.randint(1, 5)))

    def _asked(self, form: Form, value: str, rng: random.Random) -> Question:
        text = rng.choice(form.texts)
        answer = form.query.replace("{}", value.replace("'", "''"))
        return Question("sql", _key(form, value), f"SQL: {text.replace('{}', value)}", answer)

    def is_right(self, question: Question, said: str) -> bool:
        """Whether a query finds what the question's own finds, in any order unless one is asked for."""
        expected = run_query(self.database, question.answer)
        found = run_query(self.database, query_of(said))
        return same_result(found, expected, "order by" in question.answer.lower())

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """By a form's name, all values that are asked about."""
        connection = sqlite3.connect(f"{self.database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return {
                form.name: [str(row[0]) for row in connection.execute(f"{form.values} ORDER BY 1") if row[0]]
                for form in FORMS
            }
        finally:
            connection.close()


def _key(form: Form, value: str) -> str:
    return f"{form.name} {value}"


def _letters(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_uppercase, k=rng.randint(2, 4)))


def _syllables(rng: random.Random) -> str:
    count = rng.randint(1, 4)
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiouáéíóúãçñü") for _ in range(count)).capitalize()
