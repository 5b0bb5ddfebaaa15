"""What all components for Haystack have: a model that is loaded when it is needed, and how they are stored."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

from haystack import default_from_dict, default_to_dict
from haystack.utils import Secret
from typing_extensions import Self

from trivec.integrations.shared_model import load_arguments
from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.support.addresses import is_url

Loaded = TypeVar("Loaded")

# What a server's key is read from unless a component is given one.
KEY = Secret.from_env_var("TRIVEC_API_KEY", strict=False)


class Loading(Generic[Loaded]):
    """A component with a model.

    `@component` makes another class of the one it stands before, so that those must not call `super()`.

    Attributes:
        model: As given: folder, hub id, URL, what is loaded, or None.
        api_key: A server's key, for a URL.
        load_options: The other arguments of `M3Model.load`.
    """

    def __init__(
        self,
        model: str | Path | M3Model | M3Reranker | None,
        api_key: Secret,
        load_options: dict[str, Any] | None,
    ) -> None:
        self.model: Any = model
        self.api_key = api_key
        self.load_options = load_options or {}
        self._loaded: Loaded | None = None

    @abstractmethod
    def load(self, **load_options: Any) -> Loaded:
        """Load what the component works with, unless this process has it."""

    def loaded(self) -> Loaded:
        """Return what the component works with, loaded the first time.

        Raises:
            TrivecError: As by `M3Model.load`.
        """
        if self._loaded is None:
            url = isinstance(self.model, str) and is_url(self.model)
            key = self.api_key.resolve_value() if url else None
            self._loaded = self.load(**self.load_options, **({} if key is None else {"api_key": key}))
        return self._loaded

    def warm_up(self) -> None:
        """Load the model, unless this process has it; otherwise the first run does."""
        self.loaded()

    async def warm_up_async(self) -> None:
        """As `warm_up`; awaits."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Let go of the model, which is freed when nobody else has it; the next run loads it again."""
        self._loaded = None

    def own_parameters(self) -> dict[str, Any]:
        """Return the arguments of the constructor that a component has besides."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the component as a dict, its model as what it was loaded from."""
        model, options = None if self.model is None else str(self.model), self.load_options
        if isinstance(self.model, (M3Model, M3Reranker)):
            model, options = load_arguments(self.model)
        parameters = {"model": model, "api_key": self.api_key, "load_options": options or None}
        serialized: dict[str, Any] = default_to_dict(self, **parameters, **self.own_parameters())
        return serialized

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component of what `to_dict` gave."""
        made: Self = default_from_dict(cls, data)
        return made
