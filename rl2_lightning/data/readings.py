"""Numbers in tensors, read rarely: a GPU has to finish its work before a number can be read."""

from torch import Tensor


class Readings:
    """Integers that were read from tensors, each once for each change of its tensor.

    A copy of it knows none. Before each pass DDP copies the first rank's buffers to the others,
    which this does not see: only numbers that are the same on all ranks may be read.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Tensor, int | None, int]] = {}

    def number(self, name: str, tensor: Tensor) -> int:
        """The number in a tensor, `[]`.

        Args:
            name: what it is; another tensor may take its place.
            tensor: the tensor.
        """
        found = self._known.get(name)
        version = _version_of(tensor)
        if found is None or version is None or found[0] is not tensor or found[1] != version:
            self.note(name, tensor, int(tensor))
        return self._known[name][2]

    def note(self, name: str, tensor: Tensor, number: int) -> None:
        """Note a number that is known to be in a tensor."""
        self._known[name] = tensor, _version_of(tensor), number

    def __reduce__(self) -> tuple[type["Readings"], tuple[()]]:
        """A copy begins anew, since copies of tensors begin to count their changes anew."""
        return type(self), ()


def _version_of(tensor: Tensor) -> int | None:
    """PyTorch's number of a tensor's changes in place; None if it does not count them."""
    return None if tensor.is_inference() else tensor._version
