"""A client of the service, for its tests under load."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from rl2_lightning.errors import UserError

MOST_CONNECTIONS = 200
SECONDS_TO_ANSWER = 30.0


class Client:
    """Asks the service; a connection is used again and again.

    Args:
        url: of the service, such as "http://127.0.0.1:8000".
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = ClientSession(
            connector=TCPConnector(limit=MOST_CONNECTIONS),
            timeout=ClientTimeout(total=SECONDS_TO_ANSWER),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def add(self, user: str) -> dict[str, Any]:
        """Add a user, unless there is one."""
        return await self.ask("PUT", f"/v1/users/{quote(user)}")

    async def show(self, user: str) -> dict[str, Any]:
        """What is known of a user."""
        return await self.ask("GET", f"/v1/users/{quote(user)}")

    async def drop(self, user: str) -> dict[str, Any]:
        """Delete a user."""
        return await self.ask("DELETE", f"/v1/users/{quote(user)}")

    async def act(self, user: str) -> dict[str, Any]:
        """Decide for a user."""
        return await self.ask("POST", f"/v1/users/{quote(user)}/act")

    async def observe(self, user: str, decision: str, reward: float) -> dict[str, Any]:
        """Tell the reward of a decision."""
        body = {"decision": decision, "reward": reward}
        return await self.ask("POST", f"/v1/users/{quote(user)}/observe", body)

    async def health(self) -> dict[str, Any]:
        """Whether the service answers, and how much it has answered."""
        return await self.ask("GET", "/health")

    async def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a request, and return what is in the answer.

        Raises:
            UserError: the status is not 200 or 201.
            aiohttp.ClientError: there is no answer.
        """
        async with self._http.request(method, self._url + path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status >= 300:
                raise UserError(f"{method} {path}: status {response.status}, {answer}")
            return answer
