"""Read the observations of users, which come from elsewhere and may have any form."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rl2_lightning.agents.spaces import Box, Observations
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Observation

User = Hashable


class ObservationForm:
    """The form of the observations that an agent sees.

    Args:
        space: their space.
        device: device on which the agent needs them.
    """

    def __init__(self, space: Observations, device: torch.device) -> None:
        self._boxes: Mapping[str, Box] = space if isinstance(space, dict) else {"": space}
        self._device = device

    def zeros(self, num: int) -> Observation:
        """An observation of zeros, `[num, *observation]`."""
        return self._whole(
            {
                name: torch.zeros(num, *box.shape, dtype=_dtype_of(box), device=self._device)
                for name, box in self._boxes.items()
            }
        )

    def read(self, observation: Any, users: Sequence[User]) -> Observation:
        """The observations of users as tensors of the agent's dtypes, on its device.

        Args:
            observation: `[B, *observation]`: a tensor, an array or lists; or a dictionary of these.
            users: the users, B, for error messages.

        Raises:
            UserError: it has another form, or a number is not finite.
        """
        if "" in self._boxes:
            return self._read_part("the observation", observation, self._boxes[""], users)
        given = observation if isinstance(observation, Mapping) else {}
        if given.keys() != self._boxes.keys():
            names = ", ".join(self._boxes)
            told = ", ".join(map(str, given)) or f"a {type(observation).__name__}"
            raise UserError(f"the observation is {told}: give a dictionary with {names}")
        return {
            name: self._read_part(f"the observation {name}", given[name], box, users)
            for name, box in self._boxes.items()
        }

    def _read_part(self, said: str, value: Any, box: Box, users: Sequence[User]) -> Tensor:
        tensor = as_tensor(said, value, self._device)
        wanted = [len(users), *box.shape]
        if list(tensor.shape) != wanted:
            raise UserError(
                f"{said} has shape {list(tensor.shape)}, and this agent needs {wanted} for "
                f"{len(users)} user(s): give one row for each user"
            )
        dtype = _dtype_of(box)
        if dtype == torch.uint8 and tensor.dtype != dtype:
            raise UserError(f"{said} is {tensor.dtype}, and this agent needs bytes: give uint8")
        tensor = tensor.to(dtype)
        fault = f"has a number in {said} that is not finite: fix its source"
        require_each(tensor.flatten(1).isfinite().all(1), users, fault)
        return tensor

    def joined(self, observation: Observation) -> Tensor:
        """An observation as bytes, `[B, ...]`, uint8."""
        parts = {"": observation} if isinstance(observation, Tensor) else observation
        columns = [parts[name].flatten(1).contiguous().view(torch.uint8) for name in self._boxes]
        return torch.cat(columns, dim=1)

    def split(self, joined: Tensor) -> Observation:
        """The observation whose bytes `joined` has returned."""
        sizes = [box.size * _dtype_of(box).itemsize for box in self._boxes.values()]
        columns = joined.split(sizes, dim=1)
        return self._whole(
            {
                # A copy, which lies where its dtype may lie.
                name: column.clone(memory_format=torch.contiguous_format)
                .view(_dtype_of(box))
                .view(-1, *box.shape)
                for (name, box), column in zip(self._boxes.items(), columns, strict=True)
            }
        )

    def _whole(self, parts: dict[str, Tensor]) -> Observation:
        return parts.get("", parts)


def as_tensor(said: str, value: Any, device: torch.device) -> Tensor:
    """Numbers as a tensor on a device.

    Args:
        said: their name in error messages.
        value: a tensor, an array or lists.
        device: the device.

    Raises:
        UserError: they are no real numbers.
    """
    try:
        tensor = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{said} is no array of numbers ({reason}): give one") from error
    if tensor.is_complex():
        raise UserError(f"{said} is {tensor.dtype}: give real numbers")
    return tensor


def listed(users: Sequence[User]) -> list[User]:
    """Users as a list.

    Raises:
        UserError: they are a single name, whose letters would be taken for users.
    """
    if isinstance(users, str | bytes):
        raise UserError(f"users={users!r} is one name: give a list of users, [{users!r}]")
    try:
        return list(users)
    except TypeError:
        raise UserError(f"users={users!r} is no list: give one, [{users!r}]") from None


def require_hashable(users: Sequence[User]) -> None:
    """Check that users can be told apart.

    Raises:
        UserError: one cannot be a key of a dictionary.
    """
    for user in users:
        try:
            hash(user)
        except TypeError:
            raise UserError(
                f"user {user!r} cannot be a key of a dictionary: call it by a text or a number"
            ) from None


def require_each(is_right: Tensor, users: Sequence[User], fault: str) -> None:
    """Check a condition, `[B]` or `[B, 1]`, bool, for each user.

    Raises:
        UserError: it does not hold for one of them, whom the message names.
    """
    if not is_right.all():
        wrong = users[int(is_right.reshape(-1).int().argmin())]
        raise UserError(f"user {wrong!r} {fault}")


def _dtype_of(box: Box) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, box.dtype)
    return dtype
