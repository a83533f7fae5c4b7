"""Questions whose answer is SQL: each query runs and finds something, and values are on one side alone."""

import itertools
import random
import sqlite3
from pathlib import Path

import pytest

from gemwright.data.skills import questions
from recipes.sql_data import FORMS, Shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A small shop of Chinook's shape."""
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript("""
            CREATE TABLE Genre (GenreId INTEGER, Name TEXT);
            CREATE TABLE Artist (ArtistId INTEGER, Name TEXT);
            CREATE TABLE Album (AlbumId INTEGER, Title TEXT, ArtistId INTEGER);
            CREATE TABLE Track (TrackId INTEGER, Name TEXT, AlbumId INTEGER, GenreId INTEGER, Composer TEXT,
                Milliseconds INTEGER);
            CREATE TABLE Customer (Email TEXT, City TEXT, Country TEXT);
            CREATE TABLE Invoice (BillingCountry TEXT, Total NUMERIC);
        """)
        for n in range(40):
            connection.execute("INSERT INTO Genre VALUES (?, ?)", (n, f"Genre {n}"))
            connection.execute("INSERT INTO Artist VALUES (?, ?)", (n, f"Artist's {n}"))
            connection.execute("INSERT INTO Album VALUES (?, ?, ?)", (n, f"Album {n}", n))
            track = (n, f"Track {n}", n, n, f"Composer {n}", 1000 * n + 9000)
            connection.execute("INSERT INTO Track VALUES (?, ?, ?, ?, ?, ?)", track)
            connection.execute("INSERT INTO Customer VALUES (?, ?, ?)", (f"{n}@x.org", f"City {n}", f"Land {n}"))
            connection.execute("INSERT INTO Invoice VALUES (?, ?)", (f"Land {n}", n + 0.5))
    connection.close()
    return Shop(path)


def test_every_answer_is_right_and_another_is_not(shop: Shop) -> None:
    rng = random.Random(0)
    found = [shop.sql(rng) for _ in range(300)]
    assert all(any(one.key.startswith(f"{form.name} ") for one in found) for form in FORMS)
    assert all(shop.is_right(one, f"```sql\n{one.answer}\n```") for one in found)
    assert not any(shop.is_right(one, said) for one in found[:20] for said in ("", "SELECT 'x'", "DROP TABLE Track"))
    assert len({one.prompt for one in found if "몇" in one.prompt or "か" in one.prompt}) > 50


def test_values_are_on_one_side_whatever_the_language(shop: Shop) -> None:
    sides = [
        {one.key for one in itertools.islice(questions(split, 0, [shop.skill]), 400)} for split in ("train", "heldout")
    ]
    assert not sides[0] & sides[1]
    assert len(sides[1]) > 20


def test_borrowed_values_are_held_out_with_no_form(shop: Shop) -> None:
    borrowed = {one.key for one in itertools.islice(questions("train", 0, [shop.borrowed]), 2000)}
    held_out = {one.key for one in itertools.islice(questions("heldout", 0, [shop.skill]), 2000)}
    values = {key.removeprefix(form.name).strip() for key in held_out for form in FORMS if key.startswith(form.name)}
    values -= {value for value in values if value.isdigit()}
    assert len(borrowed) > 500
    assert len(values) > 20
    assert not borrowed & {f"{form.name} {value}" for form in FORMS for value in values}


def test_invented_names_are_asked_for_and_quoted(shop: Shop) -> None:
    found = list(itertools.islice(questions("train", 0, [shop.invented]), 500))
    named = [one for one in found if not one.key.startswith("long tracks")]
    assert len({one.key for one in named}) > 0.9 * len(named)
    assert all("'" not in one.answer.replace("''", "").split("= '")[1].split("'")[0] for one in named)
    assert any("''" in one.answer for one in named)


def test_forms_have_a_place_for_the_value_in_each_language() -> None:
    assert all(text.count("{}") == 1 for form in FORMS for text in (*form.texts, form.query))


@pytest.mark.skipif(not Shop().is_there, reason="Chinook is not here")
def test_chinook_answers_every_form() -> None:
    shop, rng = Shop(), random.Random(1)
    assert all(shop.is_right(one, one.answer) for one in (shop.sql(rng) for _ in range(200)))


def test_without_the_database_the_skill_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes import skills

    monkeypatch.setattr(skills, "SHOP", Shop(Path("nowhere.sqlite")))
    assert "sql" not in {skill.__name__ for skill in skills.skills()}
