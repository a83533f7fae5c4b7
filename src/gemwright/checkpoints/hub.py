"""From a name to a folder: a folder of this machine, a preset's name, or a name of the Hugging Face hub.

Downloads go through huggingface_hub, and so follow `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`,
`HF_ENDPOINT` and its other variables, share its cache with other libraries, and resume.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_reader import SUFFIX as GGUF
from gemwright.checkpoints.gguf_reader import gguf_config, gguf_file, open_gguf
from gemwright.checkpoints.hf_config import FILE_NAME, read_config
from gemwright.checkpoints.npz_paligemma import SUFFIX as NPZ
from gemwright.checkpoints.npz_paligemma import match_paligemma, npz_file

_GEMMA_1 = ("gemma-2b", "gemma-2b-it", "gemma-7b", "gemma-7b-it", "gemma-1.1-2b-it", "gemma-1.1-7b-it")
_CODEGEMMA = ("codegemma-2b", "codegemma-7b", "codegemma-7b-it", "codegemma-1.1-2b", "codegemma-1.1-7b-it")
_RECURRENTGEMMA = ("recurrentgemma-2b", "recurrentgemma-2b-it", "recurrentgemma-9b", "recurrentgemma-9b-it")
_GEMMA_3 = ("270m", "270m-it", "1b-pt", "1b-it", "4b-pt", "4b-it", "12b-pt", "12b-it", "27b-pt", "27b-it")
_PALIGEMMA = tuple(f"3b-{kind}" for kind in ("pt-224", "pt-448", "pt-896", "mix-224", "mix-448"))
_PALIGEMMA_2 = tuple(
    f"{size}-{kind}" for size in ("3b", "10b", "28b") for kind in ("pt-224", "pt-448", "pt-896", "mix-224", "mix-448")
)
_SHIELDGEMMA = ("shieldgemma-2b", "shieldgemma-9b", "shieldgemma-27b")
_GEMMA_2 = ("2b", "2b-it", "9b", "9b-it", "27b", "27b-it")

ALIASES: dict[str, str] = {
    **{name: f"google/{name}" for name in (*_GEMMA_1, *_CODEGEMMA, *_RECURRENTGEMMA, *_SHIELDGEMMA)},
    "embeddinggemma-300m": "google/embeddinggemma-300m",
    **{f"gemma-2-{size}": f"google/gemma-2-{size}" for size in _GEMMA_2},
    **{f"gemma-3-{size}": f"google/gemma-3-{size}" for size in _GEMMA_3},
    **{f"gemma3-{size}": f"google/gemma-3-{size}" for size in _GEMMA_3},
    **{f"gemma3-{size}": f"google/gemma-3-{size}-pt" for size in ("1b", "4b", "12b", "27b")},
    **{f"gemma2-{size}": f"google/gemma-2-{size}" for size in _GEMMA_2},
    **{f"paligemma-{kind}": f"google/paligemma-{kind}" for kind in _PALIGEMMA},
    **{f"paligemma2-{kind}": f"google/paligemma2-{kind}" for kind in _PALIGEMMA_2},
    **{f"paligemma-3b-{side}": f"google/paligemma-3b-pt-{side}" for side in (224, 448, 896)},
    **{
        f"paligemma2-{size}-{side}": f"google/paligemma2-{size}-pt-{side}"
        for size in ("3b", "10b", "28b")
        for side in (224, 448, 896)
    },
}
"""Short names, those of the presets among them, and the hub's."""

_WANTED = (
    FILE_NAME,
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "preprocessor_config.json",
    "processor_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "modules.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Dense/model.safetensors",
)
"""The files of a repository that are fetched: never a pickle, nor the copies in other formats."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(name_or_path: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model, its GGUF or .npz file, downloaded if it is not here yet.

    Args:
      name_or_path: a folder, a GGUF or .npz file, a short name (`gemma2-2b-it`), or the hub's (`google/gemma-2-2b-it`).
      revision: branch, tag or commit of the hub's repository.
      token: of the hub; None takes `HF_TOKEN` or the saved login.

    Raises:
      CheckpointError: one line with the reason and what to do.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir() or gguf_file(folder) or npz_file(folder):
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder}: expected the folder of a model, found a file; give the folder it lies in")
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(_unknown(str(name_or_path)))
    return _download(name, revision, token)


def _unknown(name: str) -> str:
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        return f"{name}: no such folder"
    close = get_close_matches(name, ALIASES, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}?" if close else f"short names: {', '.join(ALIASES)}"
    return f"{name}: no such folder, and no name of a model (owner/name on the hub); {meant}"


def _download(name: str, revision: str | None, token: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(name, revision=revision, token=token, allow_patterns=list(_WANTED))
    except Exception as error:  # the library lets those of several network libraries through
        raise CheckpointError(f"{name}: {_reason(name, revision, error)}") from None
    return Path(path)


def _reason(name: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import errors

    reasons: tuple[tuple[type[Exception], str], ...] = (
        (
            errors.GatedRepoError,
            f"the hub wants its terms accepted: do so once at https://huggingface.co/{name}, then "
            "`hf auth login` or set HF_TOKEN",
        ),
        (
            errors.RevisionNotFoundError,
            f"the hub has no revision {revision!r} of it; leave --revision out for the newest",
        ),
        (
            errors.RepositoryNotFoundError,
            "no such folder here, and the hub has no such model or keeps it private; check the name, "
            "and HF_TOKEN if it is private",
        ),
        (
            errors.LocalEntryNotFoundError,
            "the hub cannot be reached (or HF_HUB_OFFLINE is set) and the cache has no whole copy; "
            "check the connection, or download the model elsewhere and give its folder",
        ),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    first_line = (str(error).splitlines() or [""])[0]
    return f"the download failed ({type(error).__name__}: {first_line}); try again, finished files are kept"


# ------------------------------------------------------------------------------------ what is here


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine that can be loaded.

    Attributes:
      name: what `resolve` takes.
      folder: or its GGUF or .npz file.
      weight_bytes: of its safetensors files, or of that file.
    """

    name: str
    folder: Path
    family: str
    weight_bytes: int


def local_models(folders: Iterable[Path] = ()) -> list[LocalModel]:
    """The models in the hub's cache, then those in folders and one level below them."""
    places = (place for folder in folders for path in (folder, *_below(folder)) for place in (path, *_files(path)))
    candidates = [*_cached(), *((str(place), place) for place in places)]
    found = (_local_model(name, folder) for name, folder in candidates)
    return [model for model in found if model is not None]


def _cached() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        if repository.repo_type == "model" and repository.revisions:
            newest = max(repository.revisions, key=lambda revision: revision.last_modified)
            yield repository.repo_id, newest.snapshot_path


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _files(folder: Path) -> list[Path]:
    return sorted(path for suffix in (GGUF, NPZ) for path in folder.glob(f"*{suffix}"))


def _local_model(name: str, folder: Path) -> LocalModel | None:
    """None if it is not one that can be loaded."""
    try:
        if folder.is_file():
            config = gguf_config(open_gguf(folder)) if folder.suffix == GGUF else match_paligemma(folder)[0]
            return LocalModel(name, folder, config.family, folder.stat().st_size)
        family = read_config(folder).family
    except (CheckpointError, OSError):
        return None
    size = sum(path.stat().st_size for path in folder.glob("model*.safetensors"))
    return LocalModel(name, folder, family, size) if size else None
