"""A bound on the bodies of requests."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 2**20  # bytes
LARGEST_READ = 2**26  # bytes of a refused body


class BodyLimit:
    """Answers requests with a body of more than `LARGEST_BODY` bytes with status 413.

    A client reads no reply before it has sent its whole body, and a server that closes the
    connection earlier is reported as a broken pipe. So a refused body is read to its end
    and discarded, up to `LARGEST_READ` bytes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, or answer it with status 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = bytearray(), True
        size = 0
        while more and size <= LARGEST_READ:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            if size <= LARGEST_BODY:
                body += message.get("body", b"")
            more = message.get("more_body", False)
        if size > LARGEST_BODY:
            told = f"body: it is larger than {LARGEST_BODY:,} bytes, send fewer users in a request"
            await JSONResponse({"error": told}, 413)(scope, receive, send)
            return
        unread: list[Message] = [{"type": "http.request", "body": bytes(body)}]

        async def receive_read() -> Message:
            return unread.pop() if unread else await receive()

        await self.app(scope, receive_read, send)
