import builtins
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from gemwright.checkpoints.save import save_checkpoint
from gemwright.model import Model
from gemwright.text.chat import Message

Run = Callable[..., Any]
GREEDY = ("--temperature", 0, "--max-new-tokens", 8)


def test_piped_input_is_answered_and_the_chat_ends(run: Run, tiny_folder: Path, tiny: Model) -> None:
    done = run("chat", tiny_folder, *GREEDY, stdin="hello\n")
    assert (done.code, done.out, done.err) == (0, tiny.chat([Message("user", "hello")], 8) + "\n", "")


def test_a_prompt_is_answered_and_the_chat_ends(run: Run, tiny_folder: Path, tiny: Model) -> None:
    done = run("chat", tiny_folder, *GREEDY, "--prompt", "hello", "--system", "Be brief.")
    answer = tiny.chat([Message("system", "Be brief."), Message("user", "hello")], 8)
    assert (done.code, done.out) == (0, answer + "\n")


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_input_is_an_error(run: Run, tiny_folder: Path, text: str) -> None:
    done = run("chat", tiny_folder, stdin=text)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: nothing to answer: standard input is empty")


def test_the_prompts_tokens_can_be_shown(run: Run, tiny_folder: Path, tiny: Model) -> None:
    done = run("chat", tiny_folder, *GREEDY, "--prompt", "hello", "--show-tokens")
    assert done.out == tiny.chat([Message("user", "hello")], 8) + "\n"
    rows = [line.split() for line in done.err.splitlines()]
    assert rows[0] == ["position", "id", "piece", "part"]
    assert rows[1] == ["0", "2", "<bos>", "template"]
    assert sum("<bos>" in row for row in rows) == 1


# ------------------------------------------------------------------------------------ in a terminal


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the user types, line by line; then Ctrl-D. An exception is raised in place of a line."""

    def type_lines(*lines: str | type[BaseException]) -> None:
        left = iter([*lines, EOFError])

        def read(_: str) -> str:
            line = next(left)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr(builtins, "input", read)

    return type_lines


def test_a_chat_goes_on_until_ctrl_d(run: Run, typed: Callable[..., None], tiny_folder: Path, tiny: Model) -> None:
    typed("hello", "", KeyboardInterrupt, "/help", "/new", "hello")
    done = run("chat", tiny_folder, *GREEDY)
    answer = tiny.chat([Message("user", "hello")], 8)
    assert done.code == 0
    assert done.out.split("\n").count(answer) == 2, "after /new the first turn is forgotten"
    assert done.err.startswith("tiny, context 128 tokens. /new begins")
    assert done.err.count("Ctrl-C ends an answer") == 2


@pytest.mark.parametrize("command", ["/exit", "/quit"])
def test_a_command_ends_the_chat(run: Run, typed: Callable[..., None], tiny_folder: Path, command: str) -> None:
    typed(command, "never answered")
    assert run("chat", tiny_folder).out == ""


def test_dropped_turns_are_told(run: Run, typed: Callable[..., None], tiny_folder: Path) -> None:
    typed(*["some words to fill the context"] * 4)
    done = run("chat", tiny_folder, *GREEDY)
    assert done.code == 0
    assert "(the context was full: the 2 oldest turns were dropped)" in done.err


def test_a_message_too_long_ends_neither_chat_nor_history(
    run: Run, typed: Callable[..., None], tiny_folder: Path, tiny: Model
) -> None:
    typed("hi", "x " * 200, "hello")
    done = run("chat", tiny_folder, *GREEDY)
    assert "error: " in done.err
    assert "do not fit the context of 128" in done.err
    first = Message("model", tiny.chat([Message("user", "hi")], 8))
    assert tiny.chat([Message("user", "hi"), first, Message("user", "hello")], 8) in done.out


def test_bytes_that_are_no_text_end_neither_chat_nor_history(
    run: Run, typed: Callable[..., None], tiny_folder: Path, tiny: Model
) -> None:
    typed("\udcff", "hello")
    done = run("chat", tiny_folder, *GREEDY)
    assert "error: what was typed is no text" in done.err
    assert tiny.chat([Message("user", "hello")], 8) in done.out


def test_ctrl_c_ends_the_answer_and_not_the_chat(
    run: Run, typed: Callable[..., None], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["half", KeyboardInterrupt], [KeyboardInterrupt], ["whole"]])

    def stream(*_: Any) -> Iterator[str]:
        for part in next(answers):
            if not isinstance(part, str):
                raise part
            yield part

    monkeypatch.setattr(Model, "stream_session", stream)
    typed("one", "two", "three")
    done = run("chat", tiny_folder, *GREEDY)
    assert done.code == 0
    assert done.out.split("\n")[:3] == ["half [interrupted]", " [interrupted]", "whole"]


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are of POSIX systems")
def test_ctrl_c_works_in_a_real_terminal(tiny: Model, tmp_path: Path) -> None:
    """Without its branches, the model repeats the line break before its answer for ever."""
    config = replace(tiny.config, windows=(24,), max_positions=200_000)
    silent = -jnp.ones(config.embed_dim)
    layers = tuple(replace(layer, attention_post_norm=silent, mlp_post_norm=silent) for layer in tiny.weights.layers)
    line_break = tiny.tokenizer.id("\n")
    embedding = tiny.weights.embedding.at[line_break].multiply(3.0)
    save_checkpoint(
        tmp_path / "endless", config, replace(tiny.weights, embedding=embedding, layers=layers), tiny.tokenizer
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", _IN_TERMINAL, "chat", str(tmp_path / "endless")]
    chat = subprocess.Popen(
        [*command, "--temperature", "0", "--max-new-tokens", "100000"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    screen = _Screen(ours)
    try:
        assert "context 200000 tokens" in screen.wait_for("> ")
        os.write(ours, b"hello\n")
        screen.wait_for("\r\n" * 8)
        os.write(ours, b"\x03")
        screen.wait_for("[interrupted]")
        screen.wait_for("> ")
        os.write(ours, b"\x04")
        assert chat.wait(timeout=60) == 0
    finally:
        if chat.poll() is None:
            chat.send_signal(signal.SIGKILL)
            chat.wait()
        os.close(ours)


_IN_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches this process
from gemwright.cli.main import main
main()
"""


class _Screen:
    """What a terminal shows, read up to each text that is waited for."""

    def __init__(self, terminal: int) -> None:
        self._terminal, self._shown = terminal, ""

    def wait_for(self, wanted: str, seconds: float = 120) -> str:
        """All that was shown since the last call, `wanted` included."""
        end = time.monotonic() + seconds
        while wanted not in self._shown:
            assert time.monotonic() < end, f"waited for {wanted!r}, saw {self._shown[-500:]!r}"
            if select.select([self._terminal], [], [], 1)[0]:
                self._shown += os.read(self._terminal, 4096).decode(errors="replace")
        before, _, self._shown = self._shown.partition(wanted)
        return before + wanted
