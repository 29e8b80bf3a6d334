"""Every error of the embedded stack. The class docstring is the message where none is given."""


class EmbeddedError(Exception):
    """The embedded stack could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class StateInUse(EmbeddedError):
    """Another process uses this state folder: stop it with `make stop`, or choose another folder with PERENNIAL_STATE."""


class PostgresFailed(EmbeddedError):
    """The embedded PostgreSQL failed: see postgres.log in the state folder's logs."""


class PortInUse(EmbeddedError):
    """The port is in use: choose another one, `make run PORT=…`."""


class ChildFailed(EmbeddedError):
    """A child process failed: see its log in the state folder's logs."""


class NotReady(EmbeddedError):
    """Airflow did not become ready in time: see the logs in the state folder."""


class ApiError(EmbeddedError):
    """Airflow's REST API refused the request."""


class ConnectionsError(EmbeddedError):
    """A Connection is missing, or cannot be read."""


class NothingAccepted(EmbeddedError):
    """No row of a source was accepted."""
