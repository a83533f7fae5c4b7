"""A recipe carried out in a folder: step after step, piece after piece; begun again, it goes on where it was."""

import functools
import json
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.data.leaks.contamination import Contamination, contamination
from gemwright.data.leaks.items import read_benchmarks
from gemwright.data.leaks.search import Decontaminate
from gemwright.data.pipeline.account import Account
from gemwright.data.pipeline.engine import Engine, run_work
from gemwright.data.pipeline.pieces import (
    Piece,
    Stage,
    account_of,
    decide,
    judge_piece,
    shards_of,
    sketch_piece,
)
from gemwright.data.pipeline.recipe import Recipe
from gemwright.data.pipeline.report import write_report
from gemwright.data.pipeline.shards import is_partial, write_json
from gemwright.data.pipeline.tokens import Counts, TokenStage, join_pieces, tokenise_piece
from gemwright.data.reading.files import find_files
from gemwright.data.step import Global
from gemwright.text.tokenizer import load_tokenizer

Progress = Callable[[str, int, int], None]  # a step's name, pieces done, pieces in all


def _silent(name: str, done: int, total: int) -> None:
    del name, done, total


@dataclass(frozen=True)
class Finished:
    """A recipe's folder after the run.

    Attributes:
      accounts: of each step, by its name, in order.
      shards: of the documents kept at the end, in order.
      tokens: by split and by source, if the recipe names a tokenizer.
      leaks: by benchmark, if the recipe looks for any.
    """

    folder: Path
    files: list[str]
    accounts: dict[str, Account]
    shards: list[Path]
    tokens: Counts | None
    leaks: dict[str, Contamination]

    def summary(self) -> dict[str, Any]:
        """`in`, `kept`, `dropped` by step and reason, `quarantined` by reason, and the counts of the steps."""
        accounts = list(self.accounts.values())
        read, kept, set_aside = accounts[0].read, accounts[-1].kept, accounts[0].quarantined
        dropped = {f"{name}/{r}": n for name, a in self.accounts.items() for r, n in sorted(a.dropped.items())}
        counts = {f"{name}/{what}": n for name, a in self.accounts.items() for what, n in sorted(a.counts.items())}
        total = kept + sum(dropped.values()) + set_aside.total()
        assert read == total, f"{read} records in, {total} accounted for"
        quarantined = dict(sorted(set_aside.items()))
        summary = {"in": read, "kept": kept, "dropped": dropped, "quarantined": quarantined, "counts": counts}
        leaks = {name: vars(row) for name, row in self.leaks.items()}
        return (
            summary | ({"tokens": self.tokens.tokens} if self.tokens else {}) | ({"benchmarks": leaks} if leaks else {})
        )


def run_recipe(
    recipe: Recipe,
    out: Path,
    engine: Engine = "native",
    workers: int = 1,
    address: str | None = None,
    progress: Progress = _silent,
) -> Finished:
    """Carry out a recipe in the folder `out`.

    Args:
      engine: `native` is embedded; `ray` uses the cluster at `address`, or starts one here.
      workers: processes of the native engine.

    The folder then has `summary.json`, `report.html`, a folder for each step and, with a tokenizer, `tokens/`.

    Raises:
      FileNotFoundError: if an input has no file, or a benchmark or the tokenizer is missing.
      FileExistsError: if `out` holds the run of another recipe or of other files, or is no folder.
      ValueError: if `out` is inside one of the inputs: what is written there would be read when the run goes on; or if
        a step or rule cannot be known again then.
      BlockingIOError: if another run is at work in `out`.
    """
    files = find_files(recipe.inputs)
    _check_place(out, recipe.inputs)
    _check_beside(recipe)
    do = functools.partial(run_work, engine=engine, workers=workers, address=address)
    with _alone(out):
        _claim(out, recipe.fingerprint(files))
        accounts: dict[str, Account] = {}
        before: Path | None = None
        for number, step in enumerate(recipe.all_steps):
            stage = Stage(out / f"{number:02d}-{step.name}", step, recipe, before)
            accounts[stage.folder.name[3:]] = _run_stage(stage, files, do, progress)
            before = stage.folder
        assert before is not None
        shards = [path for piece in _names(files) for path in shards_of(before, piece)]
        tokens = _tokens(recipe, out, before, files, do, progress)
        leaks = _leaks(recipe, accounts)
        finished = Finished(out, files, accounts, shards, tokens, leaks)
        write_json(out / "summary.json", finished.summary())
        write_report(out / "report.html", accounts, tokens, leaks)
        return finished


def _names(files: Sequence[str]) -> list[str]:
    return [f"{number:05d}" for number in range(len(files))]


def _run_stage(stage: Stage, files: Sequence[str], do: Callable[..., Iterator[str]], progress: Progress) -> Account:
    names = _names(files)
    pieces = list(_pieces(stage, files))
    if isinstance(stage.step, Global):
        waiting = [piece for piece in pieces if not stage.is_sketched(piece.name)]
        _work(functools.partial(sketch_piece, stage), waiting, do, progress, f"{stage.step.name}: reading", len(names))
        if not stage.is_decided():
            decide(stage, names)
    waiting = [piece for piece in pieces if not stage.is_done(piece.name)]
    _work(functools.partial(judge_piece, stage), waiting, do, progress, stage.step.name, len(names))
    whole = Account()
    for name in names:
        whole.add(account_of(stage.folder, name)[0])
    whole.check()
    return whole


def _leaks(recipe: Recipe, accounts: dict[str, Account]) -> dict[str, Contamination]:
    rows: dict[str, Contamination] = {}
    for step in recipe.all_steps:
        if isinstance(step, Decontaminate):
            rows |= contamination(step.benchmarks, accounts[step.name].counts)
    return rows


def _tokens(
    recipe: Recipe, out: Path, before: Path, files: Sequence[str], do: Callable[..., Iterator[str]], progress: Progress
) -> Counts | None:
    if recipe.tokenizer is None:
        return None

    stage = TokenStage(out / "tokens", before, recipe.tokenizer)
    names = _names(files)
    waiting = [Piece(name, file, 0) for name, file in zip(names, files, strict=True) if not stage.is_done(name)]
    _work(functools.partial(tokenise_piece, stage), waiting, do, progress, "tokens", len(names))
    return join_pieces(stage, names)


def _pieces(stage: Stage, files: Sequence[str]) -> Iterator[Piece]:
    first = 0
    for name, file in zip(_names(files), files, strict=True):
        yield Piece(name, file, first)
        if stage.before is not None:
            first += account_of(stage.before, name)[0].kept


def _work(
    work: Callable[[str], str],
    waiting: Sequence[Piece],
    do: Callable[..., Iterator[str]],
    progress: Progress,
    name: str,
    total: int,
) -> None:
    done = total - len(waiting)
    progress(name, done, total)
    for _ in do(work, [piece.to_text() for piece in waiting]):
        done += 1
        progress(name, done, total)


def _check_place(out: Path, inputs: Sequence[str]) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out}: is a file; expected a folder for the run, or a name for a new one")
    for name in inputs:
        if Path(name).is_dir() and Path(name).resolve() in (out.resolve(), *out.resolve().parents):
            raise ValueError(
                f"{out}: lies inside the input {name} and would be read as a part of it; choose another place"
            )


def _check_beside(recipe: Recipe) -> None:
    """Try now what is wanted only after the long work, since a recipe that is mended then begins anew."""
    for step in recipe.all_steps:
        if isinstance(step, Decontaminate):
            read_benchmarks(step.against, step.min_words)
    if recipe.tokenizer is not None:
        load_tokenizer(Path(recipe.tokenizer))


@contextmanager
def _alone(out: Path) -> Generator[None]:
    """Hold the folder; its lock goes with the process, however that ends."""
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BlockingIOError(
                f"{out}: another run is at work there; wait for it or choose another folder"
            ) from None
        yield


def _claim(out: Path, fingerprint: str) -> None:
    path = out / "recipe.json"
    if not path.exists():
        if any(child.is_dir() for child in out.iterdir()):
            raise FileExistsError(f"{out}: holds something else than a run; choose a folder that is new or empty")
        write_json(path, {"fingerprint": fingerprint})
    elif json.loads(path.read_text(encoding="utf-8"))["fingerprint"] != fingerprint:
        raise FileExistsError(
            f"{out}: holds the run of another recipe or of files that have changed; choose a new folder"
        )
    for scratch in out.glob("*/.scratch-*"):  # left by a run that was killed
        shutil.rmtree(scratch)
    for path in list(out.rglob(".*")):
        if is_partial(path):
            path.unlink(missing_ok=True)
