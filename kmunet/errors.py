"""The exceptions that a user can cause, as a tree.

KMUNetError
├── ConfigError        a key of params.yaml: unknown, missing or out of range
├── DataError          a file or folder of the user's data
│   ├── SourceError    the archive or folder as a whole: missing, another data set
│   │   └── RemoteError      a place on the network: not there, refused, damaged
│   │       ├── MissingError      nothing of that name there
│   │       └── UnreachableError  no connection, now
│   ├── PairError      an image without its mask
│   │   ├── SizeError        an image and a mask of other sizes
│   │   └── MaskValueError   values that are no class
│   └── UnreadableError  a file that cannot be decoded
├── CheckpointError    weights or training state that do not fit
├── TrainingError      a loss that is not finite
│   ├── TrainingStoppedError   saved and ended, as it was told
│   └── SpaceError             no space for a checkpoint; the one before is whole
└── ServiceError       a server, port or registry
    └── UnavailableError       does not answer, now
Each message names the key or file and says what to do. What may pass by waiting
(UnreachableError, UnavailableError) is `transient`: a command ends with TRANSIENT.
"""

FAILED, TRANSIENT = 2, 75  # exit codes; 75 is EX_TEMPFAIL of sysexits.h


class KMUNetError(Exception):
    """Base of all errors whose message is meant for the user, without a traceback."""

    transient = False  # whether the same may succeed later, with nothing changed

    @property
    def exit_code(self) -> int:
        """What a command ends with that raises it."""
        return TRANSIENT if self.transient else FAILED


class ConfigError(KMUNetError):
    """A key of params.yaml is unknown, missing or out of range."""


class DataError(KMUNetError):
    """The user's data cannot be used as it is."""


class SourceError(DataError):
    """The archive or folder as a whole is missing or holds something else."""


class RemoteError(SourceError):
    """A place on the network: missing, refused, or not what it should be."""


class MissingError(RemoteError):
    """A place on the network has nothing of that name."""


class UnreachableError(RemoteError):
    """No connection to a place on the network; it may be there later."""

    transient = True


class PairError(DataError):
    """An image and its mask do not fit together."""


class SizeError(PairError):
    """An image and its mask have different sizes."""


class MaskValueError(PairError):
    """A mask holds values that are no declared class."""


class UnreadableError(DataError):
    """A file cannot be decoded as an image."""


class CheckpointError(KMUNetError):
    """Weights or training state do not fit the model."""


class TrainingError(KMUNetError):
    """Training cannot go on."""


class TrainingStoppedError(TrainingError):
    """Training was told to stop, and has saved all that it needs to go on."""


class SpaceError(TrainingError):
    """A disk has no space for what must be saved; what was saved before is whole.

    Unlike its parent, one rank alone raises it.
    """


class ServiceError(KMUNetError):
    """A server, port or registry does not answer as needed."""


class UnavailableError(ServiceError):
    """A server does not answer now; it may later."""

    transient = True


def in_one_line(error: Exception, at_most: int = 200) -> str:
    """What a library's error says, to be quoted in a message of ours."""
    return " ".join(str(error).split())[:at_most]


def system_said(error: OSError) -> str:
    """An error of the system that nobody told better: the file and what is wrong."""
    if error.strerror is None:
        return in_one_line(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
