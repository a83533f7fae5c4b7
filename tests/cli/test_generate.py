import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import map_specs
from gemwright.model import DEFAULT_MODEL, Model
from gemwright.models.family import specs_of
from gemwright.writer import Writer

Run = Callable[..., Any]


def test_the_continuation_goes_to_standard_output(run: Run, tiny_folder: Path, tiny: Model) -> None:
    done = run("generate", tiny_folder, "--prompt", "import", "--max-new-tokens", 12)
    assert (done.code, done.out, done.err) == (0, tiny.generate("import", 12) + "\n", "")


def test_a_prompt_may_come_from_standard_input(run: Run, tiny_folder: Path, tiny: Model) -> None:
    assert (
        run("generate", tiny_folder, "--max-new-tokens", 12, stdin="import").out == tiny.generate("import", 12) + "\n"
    )


def test_json_tells_all_about_the_completion(run: Run, tiny_folder: Path, tiny: Model) -> None:
    options = ("--temperature", 0.8, "--top-k", 30, "--top-p", 0.9, "--min-p", 0.01, "--repetition-penalty", 1.2)
    done = run("generate", tiny_folder, "--prompt", "x", "--max-new-tokens", 9, *options, "--seed", 5, "--json")
    (expected,) = tiny.complete(
        ["x"], 9, temperature=0.8, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=5
    )
    found = json.loads(done.out)
    assert found.keys() == {"prompt", "text", "ids", "log_probabilities", "finish"}
    assert (found["prompt"], found["ids"], found["text"]) == ("x", expected.ids, expected.text)
    assert found["finish"] == expected.finish


def test_stop_strings_may_be_repeated(run: Run, tiny_folder: Path, tiny: Model) -> None:
    text = tiny.generate("import", 12)
    done = run(
        "generate", tiny_folder, "--prompt", "import", "--max-new-tokens", 12, "--stop", "~~~", "--stop", text[3:5]
    )
    assert done.out == text[: text.index(text[3:5])] + "\n"


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "no folder": (("generate", "/no/such/folder", "--prompt", "x"), "/no/such/folder: no such folder"),
    "temperature": (("generate", "{tiny}", "--prompt", "x", "--temperature", "-1"), "temperature must be 0 or more"),
    "top k": (("generate", "{tiny}", "--prompt", "x", "--top-k", "-1"), "top_k must be 0 or more, found -1"),
    "count": (("generate", "{tiny}", "--prompt", "x", "--max-new-tokens", "0"), "max_new_tokens must be at least 1"),
    "count in chat": (
        ("chat", "{tiny}", "--prompt", "x", "--max-new-tokens", "0"),
        "max_new_tokens must be at least 1",
    ),
    "dtype": (("generate", "{tiny}", "--prompt", "x", "--dtype", "float8"), "float8"),
    "stop": (("generate", "{tiny}", "--prompt", "x", "--stop", ""), "a stop string must not be empty"),
    "no tokenizer": (("generate", "{bare}", "--prompt", "x"), "has no tokenizer: put its tokenizer.model"),
    "no tokenizer to chat": (("chat", "{bare}", "--prompt", "x"), "has no tokenizer"),
    "long prompt": (("generate", "{tiny}", "--prompt", "x " * 200), "do not fit the context of 128"),
    "long message": (("chat", "{tiny}", "--prompt", "x " * 200), "do not fit the context of 128"),
    "no prompt": (("generate", "{tiny}"), "nothing to continue: give --prompt"),
    "summary": (("summary", "gemma-77b"), "did you mean"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_a_user_can_mend_is_one_line_and_exit_code_1(
    run: Run, tiny_folder: Path, bare_folder: Path, case: str
) -> None:
    arguments, message = ERRORS[case]
    done = run(*(a.replace("{tiny}", str(tiny_folder)).replace("{bare}", str(bare_folder)) for a in arguments))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--json",), ("--draft",)])
def test_weights_that_are_no_numbers_do_not_pass_for_an_answer(
    run: Run, tiny_folder: Path, tiny: Model, tmp_path: Path, options: tuple[str, ...]
) -> None:
    broken = map_specs(lambda name, spec, weight: weight * jnp.nan, specs_of(tiny.config), tiny.weights)
    save_checkpoint(tmp_path / "broken", tiny.config, broken, tiny.tokenizer)
    draft = (tiny_folder,) if "--draft" in options else ()
    done = run("generate", tmp_path / "broken", "--prompt", "x", "--max-new-tokens", 4, *options, *draft)
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: the logits are not numbers: check the weights, or use a wider dtype\n"


def test_a_character_that_the_terminal_lacks_ends_no_answer(
    run: Run, tiny_folder: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tiny.generate("import", 100)
    assert not text.isascii()
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="ascii", newline="\n", write_through=True))
    assert run("generate", tiny_folder, "--prompt", "import", "--max-new-tokens", 100).code == 0
    assert screen.getvalue() == (text + "\n").encode("ascii", "backslashreplace")


def test_ctrl_c_ends_the_text_between_two_tokens(
    run: Run, tiny_folder: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.generate("import", 100)
    push = Writer.push

    def interrupted(self: Writer, token: int | None, score: float) -> str:
        signal.raise_signal(signal.SIGINT)
        return push(self, token, score)

    monkeypatch.setattr(Writer, "push", interrupted)
    done = run("generate", tiny_folder, "--prompt", "import", "--max-new-tokens", 100)
    assert (done.code, done.err) == (130, "")
    assert done.out
    assert whole.startswith(done.out)
    assert len(done.out) < len(whole)


def test_an_option_of_the_wrong_kind_is_refused(run: Run, tiny_folder: Path) -> None:
    assert run("generate", tiny_folder, "--prompt", "x", "--top-k", "many").code == 2


def test_without_a_model_the_default_one_answers(run: Run) -> None:
    if not DEFAULT_MODEL.is_dir():
        pytest.skip("the default model is not in this checkout")
    done = run("generate", "--prompt", "Once upon a time", "--max-new-tokens", 5)
    assert done.code == 0
    assert len(done.out) > 5
