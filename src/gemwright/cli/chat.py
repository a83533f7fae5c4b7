"""`gemwright chat`: talk to a model."""

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemwright.cli import look, options, pictures
from gemwright.cli.interruptible import Interrupt
from gemwright.cli.piped import at_terminal, piped_text

if TYPE_CHECKING:
    from gemwright.conversation import Conversation

_HELP = (
    "/new begins a new conversation, /image FILE puts a picture into the next message, /exit or Ctrl-D ends, "
    "Ctrl-C ends an answer."
)


def chat(
    model: options.ModelArgument = None,
    adapter: options.Adapter = None,
    prompt: Annotated[str | None, typer.Option(help="Answer this alone and exit; so does piped input.")] = None,
    image: pictures.Image = None,
    pan_and_scan: pictures.PanAndScan = False,
    draw: pictures.Draw = None,
    masks: pictures.Masks = None,
    system: Annotated[str, typer.Option(help="Instructions, folded into the first user turn.")] = "",
    max_new_tokens: Annotated[int, typer.Option(help="Tokens an answer has at most.")] = 512,
    temperature: options.Temperature = 0.7,
    top_k: options.TopK = 0,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.05,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = 0,
    stop: options.Stop = None,
    show_tokens: Annotated[bool, typer.Option("--show-tokens", help="Show the prompt's ids and pieces.")] = False,
    dtype: options.DType = None,
    cache_bits: options.CacheBits = None,
    draft: options.Draft = None,
    revision: options.Revision = None,
) -> None:
    """Talk to a model: in the terminal, or one answer for --prompt or piped input."""
    question = prompt or _piped_question()
    pictures.check_options(image, draw, masks)
    from gemwright.conversation import Conversation  # after the arguments are checked: it brings JAX
    from gemwright.looking import converses
    from gemwright.model import load

    loaded = load(model, dtype=dtype, cache_bits=cache_bits, draft=draft, revision=revision)
    loaded = loaded.with_adapter(adapter) if adapter else loaded
    pictures.check_finds_places(loaded, draw)
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or (),
    }
    if image and not converses(loaded.config):
        look.at_pictures(loaded, image, [question] if question else _lines(), settings, draw, masks)
        return
    conversation = Conversation(loaded, system=system, pan_and_scan=pan_and_scan)
    if question:
        _answer(conversation, [*(image or ()), question], settings, show_tokens)
    else:
        _talk(conversation, image or [], settings, show_tokens)


def _piped_question() -> str:
    """What stands on standard input; nothing where that is a terminal."""
    if at_terminal():
        return ""
    missing = "nothing to answer: standard input is empty; give --prompt, or a terminal to chat in"
    text = piped_text(missing)
    if not text.strip():
        raise ValueError(missing)
    return text


def _talk(conversation: "Conversation", shown: list[Any], settings: dict[str, Any], show_tokens: bool) -> None:
    """Answer line by line; pictures are `shown` with the next one."""
    from gemwright.inference.session import ContextFull

    name = conversation.model.folder.name
    print(f"{name}, context {conversation.model.config.max_positions} tokens. {_HELP}", file=sys.stderr)
    for line in _lines():
        if line in ("/exit", "/quit"):
            return
        if line == "/new":
            conversation.clear()
        elif line == "/help":
            print(_HELP, file=sys.stderr)
        elif line.startswith("/image "):
            shown = [*shown, *_picture(conversation, line.removeprefix("/image ").strip())]
        elif line:
            try:
                _answer(conversation, [*shown, line], settings, show_tokens)
            except ContextFull as error:
                conversation.messages.pop()
                print(f"error: {error}", file=sys.stderr)
            shown = []


def _picture(conversation: "Conversation", name: str) -> list[Any]:
    """The file, if the model can look at it; else it is said why not."""
    try:
        return conversation.eyes.look([Path(name).expanduser()])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return []


def _lines() -> Iterator[str]:
    """What the user types, until Ctrl-D; Ctrl-C drops a line."""
    with suppress(ModuleNotFoundError):  # line editing and history, where the system has it
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]
    while True:
        try:
            line = input("> ").strip()
            line.encode()
            yield line
        except UnicodeError as error:
            print(f"error: what was typed is no text ({error}); it is left out", file=sys.stderr)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()


def _answer(conversation: "Conversation", content: list[Any], settings: dict[str, Any], show_tokens: bool) -> None:
    dropped = conversation.dropped
    answer = conversation.send(content if len(content) > 1 else content[0], **settings)
    if show_tokens:
        _show_prompt(conversation, settings["max_new_tokens"])
    try:
        with closing(answer), Interrupt() as interrupt:
            for part in answer:
                print(part, end="", flush=True)
                interrupt.check()
    except KeyboardInterrupt:
        print(" [interrupted]", end="")
    print()
    if conversation.dropped > dropped:
        gone = conversation.dropped - dropped
        print(f"(the context was full: the {gone} oldest turns were dropped)", file=sys.stderr)


def _show_prompt(conversation: "Conversation", max_new_tokens: int) -> None:
    from rich.console import Console

    from gemwright.text.show import token_table

    table = token_table(conversation.model.tokenizer, conversation.prompt(max_new_tokens))
    Console(stderr=True).print(table)
