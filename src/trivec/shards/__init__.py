"""Corpora of any size into folders of Parquet files: in parts, by several processes or machines, and resumable.

An input is cut into shards, a shard makes one file (`run`), and the callable that computes its vectors (`Encoder`) is
what other engines for tables take too: Ray Data, Daft, Spark. Knows nothing about Milvus.
"""

from trivec.shards.encoder import Encoder

__all__ = ["Encoder"]
