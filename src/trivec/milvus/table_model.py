"""The model that a table's vectors are of: found by its record, compared with another one, and changed.

This module knows nothing about adding documents or searching.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from trivec.errors import CollectionMismatchError, MilvusError
from trivec.milvus import adding
from trivec.milvus.model_record import ModelRecord
from trivec.milvus.table import Table
from trivec.support.caller import level_of_the_caller

if TYPE_CHECKING:
    from trivec.model import M3Model


def recorded(table: Table) -> ModelRecord | None:
    """Return what a table says of its model; None where it says nothing or does not exist."""
    return None if table.description is None else ModelRecord.read(table.description.properties)


def load(table: Table) -> M3Model:
    """Load the model that a table names.

    Raises:
        MilvusError: There is no collection yet, or it names no model.
        CollectionMismatchError: What the name stands for is another model by now.
        CheckpointError: The model cannot be found.
    """
    from trivec.model import M3Model  # loads OpenVINO, which deleting and counting need not

    if table.description is None:
        raise MilvusError(f"there is no collection {table.name!r} in {table.place} yet: give the model to make it for")
    if (record := recorded(table)) is None:
        raise MilvusError(f"{_unrecorded(table)}: give the model (BAAI/bge-m3, if it was trivec's default)")
    model = M3Model.load(record.name)
    try:
        settle(table, model, reencode=False)
    except BaseException:
        model.close()
        raise
    return model


def settle(table: Table, model: M3Model, *, reencode: bool) -> None:
    """Make sure that a table's vectors are a model's, or with `reencode` have them made with it.

    Raises:
        CollectionMismatchError: The table cannot hold the model's vectors, or holds another model's.

    Warns:
        UserWarning: The table does not say which model its vectors are of.
    """
    if table.description is None:
        return
    table.check_fits(model.dim["dense"])
    mine, record = ModelRecord.of(model), recorded(table)
    if record is None and not reencode:
        _meet_unrecorded(table, mine)
    elif record is None or (why_not := record.why_not(mine)):
        if not reencode:
            raise CollectionMismatchError(f"collection {table.name!r} in {table.place}: {why_not}")
        adding.encode_again(table, model)


def _meet_unrecorded(table: Table, mine: ModelRecord) -> None:
    """Record the model where the table is empty; else say that it could not be compared."""
    if table.count() == 0:
        table.set_properties(mine.properties())
        return
    warnings.warn(
        f"{_unrecorded(table)}: {mine} is taken unchecked. With reencode=True (trivec index --reencode) its documents "
        "are encoded again and the model is recorded",
        UserWarning,
        stacklevel=level_of_the_caller(),
    )


def _unrecorded(table: Table) -> str:
    return f"collection {table.name!r} in {table.place} does not say which model its vectors are of"
