"""Keep the tests away from the user's cache."""

from tests.families.conftest import fresh_cache

__all__ = ["fresh_cache"]
