"""What tells two models apart: one short text for the content of their weights, heads and tokenizer.

Knows which files and which values of the config decide the vectors; engine and precision are no part of it.
"""

from __future__ import annotations

import hashlib
import json

from trivec.checkpoint.digests import default_digest_folder, file_digest
from trivec.checkpoint.folder import HEAD_FILES, Checkpoint, file_stamp
from trivec.errors import CheckpointError

# Of the config: what the same weights could be computed with otherwise. Spelled out, so that a setting that is added to
# the config some day leaves the fingerprints of today as they are.
_SHAPE = (
    "vocab_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
    "layer_norm_eps",
)


def model_fingerprint(checkpoint: Checkpoint) -> str:
    """Return 64 hexadecimal digits (SHA-256) for a model's content, the same wherever its folder lies.

    It changes with any byte of the weights, a head or tokenizer.json, with a head that comes or goes, and with a value
    of config.json that the encoder computes with. Weights saved in another format or in other shards are other bytes.
    The first call reads every file (2.3 GB for BGE-M3); later ones, in other processes too, look at their inodes.

    Raises:
        CheckpointError: A file is gone, cannot be read, or is not what it was when the checkpoint was opened.
    """
    folder, config = checkpoint.folder, checkpoint.config
    heads = zip(HEAD_FILES, (checkpoint.sparse_linear, checkpoint.colbert_linear), strict=True)
    files = [("weights", file) for file in checkpoint.weight_files]
    files += [(name, folder / name) for name, head in heads if head is not None]
    files.append(("tokenizer", checkpoint.tokenizer_file))
    memory = default_digest_folder()
    try:
        digests = [[role, file_digest(file, memory)] for role, file in files]
        changed = [file for _role, file in files if file_stamp(file) != checkpoint.stamps[file]]
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the model's files cannot be read again ({error}): they must stay in place while it is in use"
        ) from error
    if changed:
        raise CheckpointError(f"{changed[0]} has been replaced since the model was loaded: load the model again")
    content = [{name: getattr(config, name) for name in _SHAPE}, digests]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
