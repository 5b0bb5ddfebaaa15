"""The errors trivec raises on purpose: each message names the offending value and says what to do about it."""


class TrivecError(Exception):
    """Base of every error that trivec raises on purpose; the command line prints it as one line."""


class CheckpointError(TrivecError):
    """A model file is missing, damaged, mis-shaped or of another architecture."""


class MissingHeadError(CheckpointError):
    """Sparse weights or token vectors were asked of a checkpoint that has no head for them."""


class DeviceError(TrivecError):
    """The device or precision asked for cannot be had on this machine."""


class MilvusError(TrivecError):
    """Milvus could not be reached or refused a request; the message is one line and holds no credentials."""


class CollectionMismatchError(MilvusError):
    """A collection of this name exists and cannot hold these vectors; the message names every difference."""


class MissingExtraError(TrivecError, ImportError):
    """A part of trivec was used whose optional packages are not installed."""

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(f'{module} is not installed: run `pip install "trivec[{extra}]"`')
        self.extra = extra


class MissingPackageError(TrivecError, ImportError):
    """A part of trivec was used that needs a package which none of trivec's extras brings."""

    def __init__(self, package: str, what_for: str) -> None:
        super().__init__(f"{package} is not installed, which {what_for} needs: run `pip install {package}`")
        self.package = package


class ServerError(TrivecError):
    """A server that computes for this process is out of reach or refuses a request; the message holds no key."""
