"""Rewards: right and wrong answers, and what code, queries and functions that misbehave come to."""

import math
import sqlite3
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemwright.text.chat import Message
from gemwright.tuning.rewards.answers import exact, last_number, number
from gemwright.tuning.rewards.function import Function
from gemwright.tuning.rewards.judge import Judge, asked_to_compare, by_reward
from gemwright.tuning.rewards.reward import Judged, Reward, Task
from gemwright.tuning.rewards.sandbox import Limits, program_of, run_python, unit_tests
from gemwright.tuning.rewards.sql import query_of, run_query, sql

SHORT = Limits(seconds=0.5, megabytes=256)


def task(**row: object) -> Task:
    return Task([Message("user", "How much?")], row, "data.jsonl, row 7")


def judged(reward: Reward, said: str, **row: object) -> Judged:
    return reward([task(**row)], [said])[0]


# ------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("said", "right", "value"),
    [("42", "42", 1), (" 42.\n", "42", 1), ("a  b", "a b", 1), ("43", "42", 0), ("", "42", 0), ("42", 42, 1)],
)
def test_an_exact_answer_is_worth_one(said: str, right: object, value: float) -> None:
    assert judged(exact(), said, answer=right) == Judged(value)


@pytest.mark.parametrize(
    ("said", "right", "value"),
    [
        ("2 + 2 = 4", "4", 1),
        ("It is 1,234.50.", "1234.5", 1),
        ("4, not 5", "4", 0),
        ("none", "4", 0),
        ("-3", "#### -3", 1),
    ],
)
def test_the_last_number_counts(said: str, right: str, value: float) -> None:
    assert judged(number(), said, answer=right) == Judged(value)


@given(
    st.integers(-(10**12), 10**12), st.text(st.characters(exclude_categories=["N", "Cs"], exclude_characters="+-.,"))
)
def test_any_number_is_found_behind_any_words(value: int, words: str) -> None:
    assert last_number(f"{words} {value:,}") == value
    assert last_number(f"{words} {value}") == value


def test_a_row_without_what_a_reward_needs_is_named_before_the_run() -> None:
    with pytest.raises(ValueError, match=r"data.jsonl, row 7: expected a text or a number as 'answer', found None"):
        exact().needs(task())
    assert "row 7: reward number raised ValueError: expected a number" in judged(number(), "4", answer="four").fault


# ------------------------------------------------------------------------------------------- code


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("def f(x): return 2 * x", 1),
        ("Here it is:\n```python\ndef f(x):\n    return x + x\n```\nGood luck.", 1),
        ("def f(x): return x", 0),
        ("def f(x:", 0),
        ("import sys; sys.exit(0)", 0),
        ("import os; os._exit(0)", 0),
        ("", 0),
    ],
)
def test_a_program_is_worth_one_if_all_its_tests_are_run_and_pass(said: str, value: float) -> None:
    assert judged(unit_tests(SHORT), said, tests="assert f(3) == 6\nassert f(0) == 0") == Judged(value)


def test_time_and_memory_are_limited() -> None:
    begun = time.perf_counter()
    assert run_python("while True: pass", SHORT).reason == "not ended after 0.5 s"
    assert time.perf_counter() - begun < 3
    assert "MemoryError" in run_python("x = bytearray(1 << 30)", SHORT).reason


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot take network and files away")
def test_no_network_no_files_elsewhere_and_no_child_left(tmp_path: Path) -> None:
    code = f"""
    import socket, subprocess, sys
    open("mine", "w").write("may be written")
    def refused(action):
        try: action()
        except OSError: return True
    net = refused(lambda: socket.create_connection(("192.0.2.1", 80), 1))
    files = refused(lambda: open({str(tmp_path / "theirs")!r}, "w"))
    later = "import time; time.sleep(1); open({str(tmp_path / "late")!r}, 'w')"
    subprocess.Popen([sys.executable, "-c", later], start_new_session=True)
    print(net, files)
    raise SystemExit(f"{{net}} {{files}}")
    """
    ran = run_python(textwrap.dedent(code), Limits(seconds=4))
    if ran.without != ("network", "writing"):
        pytest.skip(f"this system takes away {ran.without or 'nothing'} alone")
    assert "True True" in ran.reason
    time.sleep(1.2)
    assert list(tmp_path.iterdir()) == []


@given(st.text())
def test_any_text_has_a_program_or_is_one(said: str) -> None:
    assert isinstance(program_of(said), str)
    assert query_of(f"```sql\nSELECT 1\n```{said.replace('`', '')}") == "SELECT 1"


# ------------------------------------------------------------------------------------------- queries


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE items (name TEXT, price REAL)")
        connection.executemany("INSERT INTO items VALUES (?, ?)", [("pen", 1.5), ("ink", 0.1 + 0.2), ("pad", 3)])
    connection.close()
    return path


@pytest.mark.parametrize(
    ("said", "right", "value"),
    [
        ("SELECT name FROM items WHERE price > 1", "SELECT name FROM items WHERE price >= 1.5", 1),
        ("SELECT name FROM items ORDER BY name DESC", "SELECT name FROM items", 1),
        ("SELECT name FROM items ORDER BY name DESC", "SELECT name FROM items ORDER BY name", 0),
        ("SELECT 0.3 FROM items LIMIT 1", "SELECT price FROM items WHERE name = 'ink'", 1),
        ("SELECT name FROM items", "SELECT name FROM items LIMIT 2", 0),
        ("DELETE FROM items", "SELECT name FROM items WHERE price < 0", 0),
        ("no SQL", "SELECT name FROM items WHERE price < 0", 0),
    ],
)
def test_a_query_is_worth_one_if_it_finds_the_same(database: Path, said: str, right: str, value: float) -> None:
    assert judged(sql(database), said, sql=right) == Judged(value)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("DROP TABLE items", "not authorized"),
        ("ATTACH 'other.db' AS other", "not authorized"),
        ("PRAGMA writable_schema = 1", "not authorized"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT hex(zeroblob(100000000))", "too big"),
        ("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n", "not ended"),
        ("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n", "more than 1000 rows"),
    ],
)
def test_a_query_can_only_read_and_ends(database: Path, query: str, fault: str) -> None:
    assert fault in run_query(database, query, seconds=0.3).fault
    assert len(run_query(database, "SELECT * FROM items").rows) == 3


def test_a_wrong_query_of_the_row_is_a_fault_of_the_data(database: Path) -> None:
    assert "row 7: reward sql raised ValueError: the row's own query fails" in judged(sql(database), "x", sql="x").fault


# ------------------------------------------------------------------------------------------- functions


def test_a_function_that_raises_hangs_or_dies_is_named_and_the_next_call_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
        import os, time
        print("read")
        def reward(prompt, answer, row):
            print("called")
            if answer == "raise": return row["missing"]
            if answer == "hang": time.sleep(60)
            if answer == "die": os._exit(1)
            if answer == "nan": return float("nan")
            if answer == "text": return "much"
            return len(answer) + row["more"]
        """)
    )
    reward = Function(file, "reward", seconds=0.5)
    said = ["good", "raise", "hang", "die", "nan", "text", "better"]
    found = reward([task(more=1)] * len(said), said)
    reward.close()
    assert [one.value for one in found if not one.fault] == [5, 7]
    faults = [one.fault for one in found[1:-1]]
    assert all(fault.startswith("data.jsonl, row 7: ") for fault in faults)
    wanted = [
        "raised KeyError: 'missing'",
        "no answer within 0.5 s",
        "its process ended",
        "finite number",
        "ValueError",
    ]
    assert all(part in fault for part, fault in zip(wanted, faults, strict=True))


def test_a_file_that_cannot_be_read_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("import nothing_of_this_name")
    for name, why in (("wrong.py", "No module named"), ("none.py", "no such file")):
        with pytest.raises(ValueError, match=why):
            Function(tmp_path / name, "reward").needs(task())


# ------------------------------------------------------------------------------------------- judges


def test_a_judge_grades_by_the_first_number_it_says() -> None:
    said = iter(["7", "10 of 10", "I would say 8.5!", "bad"])
    judge = Judge(lambda questions: [next(said) for _ in questions])
    found = judge([task()] * 4, ["{prompt}"] * 4)
    assert [one.value for one in found[:3]] == [0.7, 1.0, 0.85]
    assert math.isnan(found[3].value)
    assert "expected a number from 0 to 10, found 'bad'" in found[3].fault


def test_two_answers_are_compared_whatever_the_order_they_are_shown_in() -> None:
    """The judge looks for the longer text; 20 orders drawn by the seed hold both (a fact of seed 0)."""
    shown: list[str] = []

    def ask(questions: object) -> list[str]:
        shown.extend(questions)  # type: ignore[arg-type]
        parts = [question.split("A: ")[1].split("Which")[0].split("B: ") for question in shown]
        return ["A" if len(a) > len(b) else "B" for a, b in parts]

    compare = asked_to_compare(ask)
    assert compare([task()] * 20, ["a long answer"] * 20, ["short"] * 20) == [1.0] * 20
    assert len(set(shown)) == 2
    assert asked_to_compare(lambda questions: ["tie", "what?"])([task()] * 2, ["a"] * 2, ["b"] * 2) == [0.5, 0.5]
    assert by_reward(exact())([task(answer="x")] * 2, ["x", "y"], ["y", "z"]) == [1.0, 0.5]
