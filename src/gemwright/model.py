"""A model as its user holds it: weights, constants and tokenizer, with text in and text out."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import index
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_config import is_packed
from gemwright.checkpoints.hub import resolve
from gemwright.checkpoints.load import Checkpoint, load_checkpoint
from gemwright.checkpoints.peft_reader import read_adapter
from gemwright.compilation import cache_compilations
from gemwright.conversation import Conversation
from gemwright.core.int_weights import int_weights
from gemwright.core.lora import lora_weights
from gemwright.core.packed import pack_weights
from gemwright.inference.generate import Chosen
from gemwright.inference.interleaved import Row
from gemwright.inference.sampling import Sampling
from gemwright.inference.session import ContextFull, Session
from gemwright.inference.speculative import Drafter, decode_with_guesses
from gemwright.looking import Eyes, Prompt, begin, is_picture, rows_of
from gemwright.models.family import Config, Decoder, specs_of, stop_ids
from gemwright.text.chat import Message
from gemwright.text.tokenizer import Tokenizer
from gemwright.tuning.lora import merge, settle, together
from gemwright.writer import Completion, Writer

DEFAULT_MODEL = Path(__file__).parent / "default_model"


@dataclass(frozen=True)
class Model:
    """Make one with `gemwright.load`."""

    config: Config
    weights: Decoder = field(repr=False)
    folder: Path
    optional_tokenizer: Tokenizer | None
    cache_bits: int | None = None
    drafter: Drafter | None = field(default=None, repr=False)

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises ValueError if the model's folder has none."""
        if self.optional_tokenizer is None:
            raise ValueError(
                f"{self.folder} has no tokenizer: put its tokenizer.model or tokenizer.json there, "
                "or use the methods that take token ids"
            )
        return self.optional_tokenizer

    def logits(self, token_ids: Any) -> jax.Array:
        """Scores of the next token after each token.

        Args:
          token_ids: (length,) or (batch, length) integers; begin rows with BOS.

        Returns:
          (batch, length, vocabulary) float32.
        """
        tokens = np.atleast_2d(np.asarray(token_ids))
        if tokens.ndim != 2 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(f"token_ids: expected batch x length integers, found {tokens.dtype} {tokens.shape}")
        if tokens.min() < 0 or tokens.max() >= self.config.vocab_size:
            raise ValueError(
                f"token_ids: expected 0 to {self.config.vocab_size - 1}, found {tokens.min()} to {tokens.max()}"
            )
        return _all_logits(self.weights, jnp.asarray(tokens, jnp.int32), self.config)

    @overload
    def generate(self, prompts: str, max_new_tokens: int = ..., **options: Any) -> str: ...  # pyright: ignore[reportOverlappingOverload]  # a str is a sequence of str, yet one prompt
    @overload
    def generate(self, prompts: Sequence[str], max_new_tokens: int = ..., **options: Any) -> list[str]: ...
    @overload
    def generate(self, prompts: Sequence[Any], max_new_tokens: int = ..., **options: Any) -> Any: ...
    def generate(self, prompts: Prompt | Sequence[Prompt], max_new_tokens: int = 256, **options: Any) -> Any:
        """Continue texts.

        Args:
          prompts: one, or several, which are continued together. A list with a picture in it is one: texts and
            pictures in their order.
          options: those of `complete`.

        Returns:
          the text that follows the prompt, or each of them.
        """
        one = isinstance(prompts, str) or any(map(is_picture, prompts))
        completions = self.complete([prompts] if one else prompts, max_new_tokens, **options)
        texts = [completion.text for completion in completions]
        return texts[0] if one else texts

    def complete(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 256,
        *,
        images: Sequence[Any] | None = None,
        pan_and_scan: bool = False,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> list[Completion]:
        """Continue texts together, and tell how each ended.

        Args:
          prompts: plain texts, or lists of texts and pictures (`Path`, bytes of a file, or Pillow's); one BOS is put
            before each, and for PaliGemma a newline behind it.
          images: a picture before each prompt, or a list of them; a path can be a `str` here.
          pan_and_scan: for Gemma 3: an oblong picture is shown whole and again in crops, so that small things in it
            stay legible.
          stop: strings at which a text ends, before them.
          sampling: the fields of `Sampling`: temperature, top_k, top_p, min_p, repetition_penalty, seed.
        """
        rows = rows_of(self._eyes(pan_and_scan), self.tokenizer, prompts, images)
        return self._complete_rows(rows, max_new_tokens, stop, Sampling(**sampling))

    @overload
    def generate_ids(self, token_ids: Sequence[int], max_new_tokens: int, temperature: float = ..., seed: int = ..., stop_ids: Sequence[int] | None = ..., **sampling: Any) -> list[int]: ...  # fmt: skip  # noqa: E501
    @overload
    def generate_ids(self, token_ids: Sequence[Sequence[int]], max_new_tokens: int, temperature: float = ..., seed: int = ..., stop_ids: Sequence[int] | None = ..., **sampling: Any) -> list[list[int]]: ...  # fmt: skip  # noqa: E501
    def generate_ids(
        self,
        token_ids: Any,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        stop_ids: Sequence[int] | None = None,
        **sampling: Any,
    ) -> Any:
        """Continue token ids; needs no tokenizer.

        Args:
          token_ids: one row, or several, which are continued together.
          stop_ids: ids after which a row ends; None takes EOS and the end of turn, `()` never stops.

        Returns:
          the new ids of the row, or of each row, a stop id included.
        """
        batched = len(token_ids) > 0 and np.ndim(token_ids[0]) > 0
        rows = [[index(token) for token in row] for row in (token_ids if batched else [token_ids])]
        session = self._session([Row(row) for row in rows], max_new_tokens)
        new: list[list[int]] = [[] for _ in rows]
        stops = self._default_stop_ids() if stop_ids is None else stop_ids
        settings = Sampling(temperature, seed=seed, **sampling)
        for chosen in decode_with_guesses(session, max_new_tokens, settings, stops, self.drafter):
            for row, token in zip(new, chosen.tokens, strict=True):
                row.extend([] if token is None else [token])
        return new if batched else new[0]

    def stream(
        self,
        prompt: Prompt,
        max_new_tokens: int = 256,
        *,
        images: Sequence[Any] | None = None,
        pan_and_scan: bool = False,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> Generator[str]:
        """Continue a text, handing out each piece as soon as its characters are whole."""
        rows = rows_of(self._eyes(pan_and_scan), self.tokenizer, [prompt], images)
        session = self._session(rows, max_new_tokens)
        return self.stream_session(session, max_new_tokens, stop, Sampling(**sampling))

    def stream_session(
        self, session: Session, max_new_tokens: int, stop: Sequence[str], sampling: Sampling
    ) -> Generator[str]:
        """Continue the only row of a session, as text."""
        writer = Writer(self.tokenizer, stop)
        for chosen in self._decode(session, max_new_tokens, sampling):
            yield writer.push(chosen.tokens[0], chosen.log_probabilities[0])
            if writer.finished:
                return
        yield writer.flush()

    def session(self, rows: int = 1, capacity: int = 0) -> Session:
        """Empty rows of token ids with their cache, for this model."""
        return Session(self.weights, self.config, rows, capacity, self.cache_bits)

    def chat(
        self,
        messages: Sequence[Message | dict[str, Any]],
        max_new_tokens: int = 512,
        pan_and_scan: bool = False,
        **options: Any,
    ) -> str:
        """The model's answer to a conversation, as `Conversation` gives it."""
        return Conversation(self, messages=list(messages), pan_and_scan=pan_and_scan).answer(max_new_tokens, **options)

    def with_adapter(self, adapter: str | Path) -> "Model":
        """This model with an adapter of PEFT's format beside its weights, which are shared.

        Args:
          adapter: a folder, or the hub's name.

        Raises:
          CheckpointError: if the adapter is damaged, of another base, or wants what is not computed; says where.
        """
        return replace(self, weights=settle(read_adapter(resolve(str(adapter)), self.config, self.weights)))

    def with_adapters(self, adapters: Sequence[str | Path]) -> "Model":
        """This model with several adapters, of which each request to an `Engine` chooses one; alone it is the base."""
        models = [self.with_adapter(adapter).weights for adapter in adapters]
        return replace(self, weights=together(self.config, self.weights, models))

    def merged(self) -> "Model":
        """The same answers from plain weights: the adapter added to them.

        Raises:
          ValueError: if the model has none, or packed weights.
        """
        if not lora_weights(self.weights):
            raise ValueError(f"{self.folder.name}: expected a model with an adapter to merge, found none")
        return replace(self, weights=merge(self.weights))

    def _default_stop_ids(self) -> frozenset[int]:
        if self.optional_tokenizer is None:
            return frozenset(stop_ids(self.config))
        return self.optional_tokenizer.stop_ids

    def _eyes(self, pan_and_scan: bool) -> Eyes:
        return Eyes(self.config, self.folder.name, pan_and_scan)

    def _session(self, rows: Sequence[Row], max_new_tokens: int) -> Session:
        if not rows:
            raise ValueError("expected at least one prompt, found none")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
        longest = max(len(row.tokens) for row in rows)
        session = self.session(len(rows), longest + max_new_tokens)
        begin(session, rows)
        return session

    def _decode(self, session: Session, max_new_tokens: int, sampling: Sampling) -> Iterator[Chosen]:
        return decode_with_guesses(session, max_new_tokens, sampling, self.tokenizer.stop_ids, self.drafter)

    def _complete_rows(
        self, rows: Sequence[Row], max_new_tokens: int, stop: Sequence[str], sampling: Sampling
    ) -> list[Completion]:
        writers = [Writer(self.tokenizer, stop) for _ in rows]
        session = self._session(rows, max_new_tokens)
        for chosen in self._decode(session, max_new_tokens, sampling):
            for writer, token, score in zip(writers, chosen.tokens, chosen.log_probabilities, strict=True):
                if token is not None and not writer.finished:
                    writer.push(token, score)
            if all(writer.finished for writer in writers):
                break
        return [writer.completion() for writer in writers]


@partial(jax.jit, static_argnames="config")
def _all_logits(weights: Decoder, tokens: jax.Array, config: Config) -> jax.Array:
    hidden, _ = weights(tokens, config)
    return weights.logits(hidden, config)


def load(
    model: str | Path | None = None,
    *,
    dtype: Any = None,
    bits: int | None = None,
    cache_bits: int | None = None,
    draft: str | Path | Model | None = None,
    mesh: jax.sharding.Mesh | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Model:
    """Load a model.

    Args:
      model: a folder, packed or not, a GGUF file, a hub name (`google/gemma-2-2b-it`) or a preset's (`gemma2-2b`);
        None takes the small default model that comes with the package.
      dtype: of the weights, and so of the computation; the checkpoint's own if None.
      bits: 4 or 8 quantises the matrices, packed for the CPU's kernels where JAX runs on one: less memory, faster
        decoding, small errors.
      cache_bits: 8 keeps the keys and values of a text as int8: half the memory of its cache, small errors.
      draft: a smaller model of the same vocabulary, whose guesses at the next tokens are checked several at once: the
        same text, sooner where they are often right. For one text at a time.
      mesh: devices to spread the weights over; see `core/sharding.py`. Not with `bits`.
      revision, token: of the hub; `HF_HOME`, `HF_TOKEN` and the other variables count too.

    Raises:
      CheckpointError: if the files are missing, damaged or of another architecture; says where and
        what to do.
      ValueError: if `bits` or `cache_bits` is another number, a weight is not finite, or `draft` does not fit.
    """
    if cache_bits not in (None, 8):
        raise ValueError(f"cache_bits: expected 8, found {cache_bits}")
    if bits not in (None, 4, 8):
        raise ValueError(f"bits: expected 4 or 8, found {bits}")
    if bits is not None and mesh is not None:
        raise ValueError("bits: packed weights are for one CPU; leave out bits or mesh")
    cache_compilations()
    folder = DEFAULT_MODEL if model is None else resolve(str(model), revision=revision, token=token)
    if bits is not None and is_packed(folder):
        raise CheckpointError(f"{folder}: bits: expected none, because its weights are packed already; leave it out")
    loaded = load_checkpoint(folder, dtype=dtype, mesh=mesh)
    weights = loaded.weights if bits is None else _quantised(loaded, bits)
    return Model(loaded.config, weights, folder, loaded.tokenizer, cache_bits, _drafter(draft, loaded.config))


def _drafter(draft: str | Path | Model | None, config: Config) -> Drafter | None:
    if draft is None:
        return None
    model = draft if isinstance(draft, Model) else load(draft)
    drafter = Drafter(model.weights, model.config)
    drafter.check(config)
    return drafter


def _quantised(loaded: Checkpoint, bits: int) -> Decoder:
    specs = specs_of(loaded.config)
    if jax.default_backend() == "cpu":
        return pack_weights(specs, loaded.weights, bits)
    return int_weights(specs, loaded.weights, bits)


__all__ = ["DEFAULT_MODEL", "Completion", "ContextFull", "Model", "load"]
