"""How a table keeps token vectors: what a new one is asked for, and whether an existing one does it so.

This module knows nothing about adding documents or searching.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trivec.errors import CollectionMismatchError
from trivec.milvus.table import Table
from trivec.milvus.token_field import TokenField
from trivec.support.arguments import whole_number
from trivec.vectors.pooling import FACTORS
from trivec.vectors.token_forms import TokenForm
from trivec.vectors.token_storage import check_form

if TYPE_CHECKING:
    from trivec.model import M3Model


@dataclass(frozen=True)
class TokensAsked:
    """What the caller wants kept.

    Attributes:
        form: "fp16", "int8", or None for what an existing collection does, and nothing in a new one.
        pool: By what factor they are pooled; 1: not at all.
    """

    form: TokenForm | None
    pool: int

    @classmethod
    def checked(cls, token_vectors: object, pool: object) -> TokensAsked:
        """Return what arguments ask for.

        Raises:
            TypeError: `pool` is no whole number.
            ValueError: One of them is out of its range, or `pool` stands alone.
        """
        form = None if token_vectors is None else check_form(token_vectors)
        factor = whole_number("pool", pool)
        if factor not in FACTORS:
            raise ValueError(f"pool is {factor}: it must be {FACTORS[0]} to {FACTORS[-1]}")
        if factor > 1 and form is None:
            raise ValueError(f"pool={factor} pools token vectors that are kept: give token_vectors too")
        return cls(form, factor)

    def field(self, model: M3Model) -> Callable[[str | None], TokenField] | None:
        """Return what gives a new table its field, from the server's version; None where nothing is asked for.

        Raises:
            MissingHeadError: The model makes no token vectors.
        """
        if self.form is None:
            return None
        model.require_heads(sparse=False, colbert=True)
        return partial(TokenField.wanted, self.form, self.pool, model.dim["colbert_vecs"])

    def check(self, table: Table) -> None:
        """Make sure that a table which exists keeps token vectors so.

        Raises:
            CollectionMismatchError: It does not.
        """
        kept = table.tokens
        if table.description is None or self.form is None:
            return
        if kept is not None and (kept.form, kept.pool) == (self.form, self.pool):
            return
        keeps = "no token vectors" if kept is None else f"token vectors as {kept}"
        asked = self.form + (f", pooled by {self.pool}" if self.pool > 1 else "")
        raise CollectionMismatchError(
            f"collection {table.name!r} in {table.place} was made to keep {keeps}, not {asked}: "
            "leave token_vectors and pool out, or index into a new collection"
        )
