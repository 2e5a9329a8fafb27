"""What clients ask for, and what they get."""

from typing import Any, NamedTuple

from rl2_lightning.errors import UserError


class Add(NamedTuple):
    """Make a user, unless there is one of this name."""

    user: str


class Show(NamedTuple):
    """Tell what is known of a user."""

    user: str


class Drop(NamedTuple):
    """Delete a user's memory."""

    user: str


class Act(NamedTuple):
    """Decide for a user.

    Attributes:
        user: name.
        observation: what the user shows; None for the constant of a bandit.
    """

    user: str
    observation: Any = None


class Observe(NamedTuple):
    """Learn what a decision has led to.

    Attributes:
        user: name.
        decision: id of the decision, from the answer to `Act`.
        reward: a number.
        done: whether an episode has ended, as after every pull of a bandit.
    """

    user: str
    decision: Any
    reward: Any
    done: Any = True


Request = Add | Show | Drop | Act | Observe


class Reply(NamedTuple):
    """The answer to a request.

    Attributes:
        status: status code of HTTP.
        body: plain data; `{"error": line}` where the status is 400 or more.
    """

    status: int
    body: dict[str, Any]


class RefusedError(UserError):
    """A mistake of one client, which concerns nobody else.

    Args:
        status: status code of HTTP.
        line: cause, value and remedy.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status

    @property
    def reply(self) -> Reply:
        """The answer."""
        return Reply(self.status, {"error": str(self)})
