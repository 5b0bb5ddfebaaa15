"""One model for all the objects that a framework wants, and one pass of it for all the vectors that they give.

A framework has an object for dense vectors, another for sparse ones, perhaps two more for queries, and asks them one
after another for the same texts. Objects that name the same model share it, and whichever is asked first has the model
compute what the others will be asked for.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from inspect import signature
from pathlib import Path
from typing import Any

from trivec.integrations.untaken import Untaken
from trivec.model import M3Model
from trivec.model.async_model import AsyncM3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.support.forks import ForkSafeLock
from trivec.vectors.embeddings import M3Embeddings, asked_for
from trivec.vectors.sparse import weights_by_id

# By identity of the model. While an entry is there, its value refers to the model, so that no other has its identity.
_by_model: weakref.WeakValueDictionary[int, SharedModel] = weakref.WeakValueDictionary()
_by_name: weakref.WeakValueDictionary[str, SharedModel] = weakref.WeakValueDictionary()
_lock = ForkSafeLock(threading.RLock)

# Most texts that are computed before they are asked for: a window of `trivec.encoding`.
_AHEAD = 1024


class SharedModel:
    """A model, and what it has computed for one object that another will ask for. `shared_model` gives it.

    Attributes:
        model: The model.
    """

    def __init__(self, model: M3Model) -> None:
        self.model = model
        self._async_model: AsyncM3Model | None = None
        self._wanted: dict[str, bool] = {"dense": False, "sparse": False}
        self._untaken = Untaken()
        self._under_way: dict[str, Future[None]] = {}  # by text, of asynchronous calls

    def __reduce__(self) -> tuple[Any, ...]:
        return shared_model, (self.model,)

    def __copy__(self) -> SharedModel:
        return self

    def __deepcopy__(self, _memo: object) -> SharedModel:
        return self

    def wanting(self, kind: str) -> SharedModel:
        """Note that an object gives vectors of a kind, "dense" or "sparse", and return the model itself.

        They are computed along with others from now on.

        Raises:
            MissingHeadError: The model has no head for them.
        """
        self.model.require_heads(sparse=kind == "sparse", colbert=False)
        self._wanted[kind] = True
        return self

    def dense(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a dense vector a text, of length 1."""
        return [vector.tolist() for vector in self._vectors("dense", texts)]

    def sparse(
        self, texts: Sequence[str], reworded: Callable[[str], str | None] | None = None
    ) -> list[dict[int, float]]:
        """Return the lexical weights of each text by token id.

        Args:
            texts: The texts.
            reworded: Where dense vectors are asked of texts in another wording than sparse ones: how the text that was
                computed for the one, which is given, will be asked for by the other; None if that cannot be said. The
                texts that will come after these are then computed with them.
        """
        return [weights_by_id(row) for row in self._vectors("sparse", texts, reworded)]

    async def adense(self, texts: Sequence[str]) -> list[list[float]]:
        """As `dense`; awaits."""
        return [vector.tolist() for vector in await self._avectors("dense", texts)]

    async def asparse(self, texts: Sequence[str]) -> list[dict[int, float]]:
        """As `sparse`; awaits."""
        return [weights_by_id(row) for row in await self._avectors("sparse", texts)]

    @property
    def async_model(self) -> AsyncM3Model:
        """The model for asyncio; the first time, threads are started that compute for it."""
        if self._async_model is None:
            self._async_model = AsyncM3Model(self.model)
        return self._async_model

    def _vectors(
        self, kind: str, texts: Sequence[str], reworded: Callable[[str], str | None] | None = None
    ) -> list[Any]:
        found = self._untaken.take(kind, texts)
        if missing := [text for text in dict.fromkeys(texts) if text not in found]:
            ahead = self._ahead(kind, texts, reworded) if reworded else Counter()
            embeddings = self.model.encode([*missing, *ahead], **self._options(kind), show_progress=False)
            found |= self._kept(kind, Counter(texts), missing, embeddings)
            if ahead:
                self._untaken.keep(kind, list(ahead), _of_kind(kind, embeddings)[len(missing) :], ahead)
        return [found[text] for text in texts]

    def _ahead(self, kind: str, texts: Sequence[str], reworded: Callable[[str], str | None]) -> Counter[str]:
        """Return the texts that will be asked for after these, and how often, out of those that have been computed."""
        computed = self._untaken.texts(kind)
        after = [reworded(text) for text in computed]
        if texts[-1] not in after:
            return Counter()
        first = after.index(texts[-1]) + 1
        known = {*texts, *computed}
        return Counter(text for text in after[first : first + _AHEAD] if text is not None and text not in known)

    async def _avectors(self, kind: str, texts: Sequence[str]) -> list[Any]:
        while others := {id(each): each for text in texts if (each := self._under_way.get(text))}:
            # Others compute some of these texts at this moment, perhaps for the same query: wait for what they leave.
            await asyncio.wait([asyncio.wrap_future(each) for each in others.values()])
        found = self._untaken.take(kind, texts)
        if missing := [text for text in dict.fromkeys(texts) if text not in found]:
            done: Future[None] = Future()
            self._under_way.update(dict.fromkeys(missing, done))
            try:
                embeddings = await self.async_model.encode(missing, **self._options(kind))
                found |= self._kept(kind, Counter(texts), missing, embeddings)
            finally:
                for text in missing:
                    self._under_way.pop(text, None)
                done.set_result(None)
        return [found[text] for text in texts]

    def _options(self, kind: str) -> dict[str, bool]:
        return {f"return_{each}": wanted or each == kind for each, wanted in self._wanted.items()}

    def _kept(
        self, kind: str, times: Counter[str], computed: Sequence[str], embeddings: M3Embeddings
    ) -> dict[str, Any]:
        """Keep the other kind of the vectors computed, and return those of `kind`, by text."""
        for other in {"dense", "sparse"} - {kind}:
            if (vectors := getattr(embeddings, other)) is not None:
                self._untaken.keep(other, computed, vectors, times)
        of_kind = _of_kind(kind, embeddings)
        return {text: of_kind[row] for row, text in enumerate(computed)}


def _of_kind(kind: str, embeddings: M3Embeddings) -> Any:
    return asked_for(getattr(embeddings, kind))


def shared_model(model: str | Path | M3Model | SharedModel, **load_options: Any) -> SharedModel:
    """Return a model that is shared with every object of this process that names the same one.

    Args:
        model: Folder, hub id, "nano", URL of a server, or a loaded model; a shared one is given back.
        **load_options: As of `M3Model.load`; part of the name. None for a loaded model.

    Raises:
        TypeError: Options are given for a model that is loaded, or `model` is nothing of the kind.
        TrivecError: As by `M3Model.load`.
    """
    if isinstance(model, SharedModel):
        return model
    if isinstance(model, M3Model):
        if load_options:
            raise TypeError(f"{', '.join(load_options)} cannot be given with a model that is loaded: load it so")
        return _of_model(model)
    name = repr((str(model), sorted(load_options.items())))
    with _lock.own():
        shared = _by_name.get(name)
        if shared is None or shared.model.closed:
            shared = _by_name[name] = _of_model(M3Model.load(model, **load_options))
    return shared


def _of_model(model: M3Model) -> SharedModel:
    with _lock.own():
        shared = _by_model.get(id(model))
        if shared is None:
            shared = _by_model[id(model)] = SharedModel(model)
        return shared


def load_arguments(model: M3Model | M3Reranker) -> tuple[str, dict[str, Any]]:
    """Return by what name and with which options a model was loaded; never the key of a server."""
    arguments = dict(vars(model._arguments.for_another_process()))
    defaults = {name: each.default for name, each in signature(M3Model.load).parameters.items()}
    name = str(arguments.pop("name_or_path"))
    options = {each: value for each, value in arguments.items() if each != "api_key" and value != defaults[each]}
    return name, {each: str(value) if isinstance(value, Path) else value for each, value in options.items()}
