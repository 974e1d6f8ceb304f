"""The embedding of the empty prompt: from a file, or computed once with the T5 encoder and kept.

The prompt is always empty, so the 4.7-billion-parameter text encoder is needed at most once in a machine's life
(docs/method.md 2.6). With the file there it is never loaded.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from sparkvsr.errors import WeightsError
from sparkvsr.user_cache import user_cache

_log = logging.getLogger(__name__)

EMBEDDING_KEY = "prompt_embedding"
EMBEDDING_FILE = hashlib.sha256(b"").hexdigest() + ".safetensors"
EMBEDDING_FOLDER = "prompt_embeddings"
END_OF_SEQUENCE, PAD = 1, 0


def cache_folder() -> Path:
    """Where a computed embedding goes when the model folder cannot be written."""
    return user_cache(EMBEDDING_FOLDER)


def load_prompt_embedding(folder: Path, tokens: int, dim: int, cache: Path | None = None) -> Tensor:
    """Return the empty-prompt embedding of a model folder.

    Looked for in ``prompt_embeddings/`` of the folder, then in the user's cache, then computed from ``text_encoder/``
    and written to the first of the two that can be written.

    Args:
        folder: model folder.
        tokens: ``max_text_seq_length`` of the transformer.
        dim: ``text_embed_dim`` of the transformer.
        cache: instead of ``cache_folder()``.

    Returns:
        ``(tokens, dim)``, dtype as stored.

    Raises:
        WeightsError: no embedding and no text encoder, or a file of another shape.
    """
    homes = [folder / EMBEDDING_FOLDER, (cache or cache_folder()) / f"{tokens}x{dim}"]
    for home in homes:
        if (home / EMBEDDING_FILE).is_file():
            return _read(home / EMBEDDING_FILE, tokens, dim)
    if not (folder / "text_encoder" / "config.json").is_file():
        msg = (
            f"{folder} has no {EMBEDDING_FOLDER}/{EMBEDDING_FILE} (key {EMBEDDING_KEY!r}, shape ({tokens}, {dim})) "
            f"nor a text_encoder/ to compute it with; copy one of the two there (the DOVE repository ships the file "
            f"under pretrained_models/prompt_embeddings/)"
        )
        raise WeightsError(msg)
    embedding = _compute(folder / "text_encoder", tokens)
    for home in homes:
        try:
            save_prompt_embedding(home, embedding)
        except (OSError, SafetensorError):
            continue
        _log.info("kept the empty-prompt embedding in %s", home / EMBEDDING_FILE)
        break
    return _check(embedding, folder / "text_encoder", tokens, dim)


def save_prompt_embedding(home: Path, embedding: Tensor) -> None:
    """Write ``(tokens, dim)`` where ``load_prompt_embedding`` finds it.

    Args:
        home: ``prompt_embeddings/`` of a model folder, created if need be.
        embedding: any dtype and device.

    Raises:
        OSError: the folder cannot be written.
    """
    home.mkdir(parents=True, exist_ok=True)
    save_file({EMBEDDING_KEY: embedding.detach().cpu().contiguous()}, home / EMBEDDING_FILE)


def _read(path: Path, tokens: int, dim: int) -> Tensor:
    try:
        tensors = load(path.read_bytes())  # no mapping: the file may be written over later
    except (OSError, SafetensorError) as exc:
        msg = f"{path} cannot be read as safetensors ({exc}); delete it or copy it again"
        raise WeightsError(msg) from exc
    if EMBEDDING_KEY not in tensors:
        msg = f"{path} holds {', '.join(sorted(tensors)[:5]) or 'nothing'}; it needs the key {EMBEDDING_KEY!r}"
        raise WeightsError(msg)
    return _check(tensors[EMBEDDING_KEY], path, tokens, dim)


def _check(embedding: Tensor, origin: Path, tokens: int, dim: int) -> Tensor:
    if embedding.ndim == 3 and embedding.shape[0] == 1:
        embedding = embedding[0]
    if tuple(embedding.shape) != (tokens, dim):
        msg = f"{origin}: the prompt embedding is {tuple(embedding.shape)}; this transformer needs ({tokens}, {dim})"
        raise WeightsError(msg)
    return embedding


@torch.inference_mode()
def _compute(text_encoder: Path, tokens: int) -> Tensor:
    """Run T5 on the empty prompt: one end-of-sequence token, pads, and no attention mask (docs/method.md 2.6)."""
    try:
        from transformers import T5EncoderModel
    except ImportError as exc:
        msg = (
            f"computing the empty-prompt embedding from {text_encoder} needs the package transformers; "
            f"pip install transformers, or copy {EMBEDDING_FOLDER}/{EMBEDDING_FILE} into the model folder"
        )
        raise WeightsError(msg) from exc
    try:
        encoder = T5EncoderModel.from_pretrained(
            text_encoder, dtype=torch.bfloat16, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as exc:
        msg = f"{text_encoder} cannot be loaded as a T5 encoder ({str(exc).splitlines()[0]}); copy it again"
        raise WeightsError(msg) from exc
    # The tokenizer is not needed: the empty string is one end-of-sequence token and pads.
    ids = torch.full((1, tokens), PAD, dtype=torch.long)
    ids[0, 0] = END_OF_SEQUENCE
    embedding: Tensor = encoder.eval()(input_ids=ids).last_hidden_state[0]
    return embedding.clone()
