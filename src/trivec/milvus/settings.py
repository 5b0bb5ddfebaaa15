"""What a user may say of a collection besides its name: partitions, consistency, its dense index, how hard to look.

What is not said is as it was in every version: no partition key, "Session", the index that a server picks by itself.
Knows no connection; `schema` makes collections by it, `table` searches by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from trivec.bulk.partition_key import PartitionKey
from trivec.errors import MilvusError
from trivec.support.arguments import whole_number

Consistency = Literal["Strong", "Bounded", "Session", "Eventually"]
"""How recent what a search sees must be, as Milvus names it."""

# By the start of an index's type: the search parameter that says how much of it is looked at.
_EFFORT = {"HNSW": "ef", "IVF": "nprobe", "DISKANN": "search_list"}


@dataclass(frozen=True)
class HNSW:
    """A graph in memory: the fastest, at 4 bytes a dimension and `2 * m` links a row.

    Attributes:
        m: Links of a row; more find more and take more memory.
        ef_construction: Rows looked at to place one.
    """

    m: int = 16
    ef_construction: int = 200
    index_type: ClassVar[str] = "HNSW"

    def parameters(self) -> dict[str, int]:
        """Return Milvus' build parameters."""
        return {
            "M": whole_number("m", self.m, 2),
            "efConstruction": whole_number("ef_construction", self.ef_construction),
        }


@dataclass(frozen=True)
class IVF_SQ8:  # noqa: N801 -- Milvus' name
    """Clusters of vectors rounded to 8 bits: a quarter of the memory, and less exact.

    Attributes:
        nlist: Clusters; about four times the square root of the rows of a segment.
    """

    nlist: int = 1024
    index_type: ClassVar[str] = "IVF_SQ8"

    def parameters(self) -> dict[str, int]:
        """Return Milvus' build parameters."""
        return {"nlist": whole_number("nlist", self.nlist)}


@dataclass(frozen=True)
class DISKANN:
    """A graph on the query nodes' disks, compressed vectors in memory: for more rows than fit into it."""

    index_type: ClassVar[str] = "DISKANN"

    def parameters(self) -> dict[str, int]:
        """Return Milvus' build parameters: it has none of its own."""
        return {}


DenseIndex: TypeAlias = HNSW | IVF_SQ8 | DISKANN
"""An index of dense vectors that a server has."""


@dataclass(frozen=True)
class Settings:
    """How a collection is made and searched; the attributes are the arguments of `M3Collection` of these names."""

    partition_key: PartitionKey | None = None
    consistency: Consistency | None = None
    dense_index: DenseIndex | None = None
    effort: int | None = None
    drop_ratio: float = 0.0

    @classmethod
    def of(
        cls,
        partition_key: str | None = None,
        consistency: Consistency | None = None,
        dense_index: DenseIndex | None = None,
        effort: int | None = None,
        drop_ratio: float = 0.0,
    ) -> Settings:
        """Return what these arguments say.

        Raises:
            TypeError: One is of another type.
            ValueError: One is out of its range or not one of those that there are.
        """
        if partition_key is not None and not isinstance(partition_key, str):
            raise TypeError(f"partition_key is {type(partition_key).__name__}: give the name of a metadata field")
        if consistency is not None and consistency not in get_args(Consistency):
            choices = ", ".join(map(repr, get_args(Consistency)))
            raise ValueError(f"consistency is {consistency!r:.60}: it must be {choices}")
        if dense_index is not None and not isinstance(dense_index, DenseIndex):
            raise TypeError(f"dense_index is {dense_index!r:.60}: give HNSW(), IVF_SQ8() or DISKANN()")
        if dense_index is not None:
            dense_index.parameters()
        if isinstance(drop_ratio, bool | str) or not 0 <= drop_ratio < 1:
            raise ValueError(f"drop_ratio is {drop_ratio!r:.60}: it must be a share, from 0 to below 1")
        return cls(
            None if partition_key is None else PartitionKey.parse(partition_key),
            consistency,
            dense_index,
            None if effort is None else whole_number("effort", effort),
            float(drop_ratio),
        )

    def check_for_lite(self) -> None:
        """Refuse what only a server has; any consistency is had there, as every search sees everything.

        Raises:
            MilvusError: An argument is for a server.
        """
        given = {"dense_index": self.dense_index, "effort": self.effort, "drop_ratio": self.drop_ratio or None}
        if named := [name for name, value in given.items() if value is not None]:
            raise MilvusError(
                f"{named[0]} is for a Milvus server: Milvus Lite compares with every row, exactly. Leave it out, or "
                "give the uri of a server"
            )

    def search_parameters(self, field: str, index_type: str) -> dict[str, Any]:
        """Return Milvus' search parameters for a vector field with this index.

        Raises:
            MilvusError: The index of dense vectors knows nothing of effort.
        """
        if field == "sparse":
            return {"drop_ratio_search": self.drop_ratio} if self.drop_ratio else {}
        if self.effort is None or field != "dense":
            return {}
        for start, name in _EFFORT.items():
            if index_type.startswith(start):
                return {name: self.effort}
        raise MilvusError(
            f"effort is {self.effort}, but an index of type {index_type} chooses by itself how much it looks at: leave "
            "it out, or make the collection with dense_index"
        )
