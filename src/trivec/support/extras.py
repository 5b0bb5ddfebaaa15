"""Optional packages: the one gate to them. Which extra brings which package is written in pyproject.toml alone."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from types import ModuleType

from trivec.errors import MissingExtraError, MissingPackageError

# Of trivec's own metadata: `pymilvus[milvus-lite]>=2.6; extra == 'milvus'`.
_OPTIONAL = re.compile(r"""(?P<package>[\w.-]+).*\bextra == ['"](?P<extra>[^'"]+)""")


def require(module: str, extra: str | None = None) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Its name, such as "pyarrow.parquet". The package is called like the first part, with dashes.
        extra: The extra to name where several bring the package; the only one if None.

    Raises:
        MissingExtraError: It cannot be imported; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        extra = extra or next(iter(extras_with(package)), None)
        if extra is None:  # this installation carries no metadata
            raise
        raise MissingExtraError(extra, package) from error


def require_package(module: str, package: str, what_for: str) -> ModuleType:
    """Import a module of a package that no extra brings, as it is the user who chose it.

    Args:
        module: Its name, such as "langchain_core.embeddings".
        package: What pip calls the package.
        what_for: The part of trivec that needs it, for the message.

    Raises:
        MissingPackageError: It cannot be imported.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the package is there, and lacks something itself
        raise MissingPackageError(package, what_for) from error


def extras_with(package: str) -> list[str]:
    """The extras that bring a package, that for developers aside."""
    try:
        found = [_OPTIONAL.match(line) for line in requires("trivec") or []]
    except PackageNotFoundError:
        return []
    return [each["extra"] for each in found if each and each["package"] == package and each["extra"] != "dev"]
