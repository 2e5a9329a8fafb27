"""The service: requests over HTTP, and its start and end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from examples.personalisation import messages
from examples.personalisation.batching import Batcher
from examples.personalisation.body_limit import BodyLimit
from examples.personalisation.messages import Reply
from examples.personalisation.settings import ServiceSettings
from examples.personalisation.store import Store
from examples.personalisation.users import Users
from rl2_lightning.agents.agent import Agent
from rl2_lightning.errors import UserError

logger = logging.getLogger(__name__)

MOST_IN_A_CALL = 1000  # users
SECONDS_TO_END = 10  # for calls that are being answered
SECONDS_OF_SILENCE = 60  # after which a connection is closed


# Values are checked for each user, where another user's mistake does not matter: hence `Any`.
class ActBody(BaseModel):
    """What a user shows; nothing for a bandit."""

    model_config = ConfigDict(extra="forbid")
    observation: Any = Field(None, examples=[[1.0]])


class ObserveBody(BaseModel):
    """What a decision has led to."""

    model_config = ConfigDict(extra="forbid")
    decision: Any = Field(examples=["17-3"])
    reward: Any = Field(examples=[1.0])
    done: Any = Field(True, examples=[True])


class UserAct(ActBody):
    """One of several users to decide for."""

    user: str


class UserObserve(ObserveBody):
    """The outcome of one of several users."""

    user: str


class ActCall(BaseModel):
    """Decide for several users."""

    requests: list[UserAct] = Field(max_length=MOST_IN_A_CALL)


class ObserveCall(BaseModel):
    """The outcomes of several users."""

    requests: list[UserObserve] = Field(max_length=MOST_IN_A_CALL)


def make_app(users: Users) -> FastAPI:
    """The service as an application.

    Args:
        users: what answers requests; it is closed at the end.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.users = users
        app.state.batcher = Batcher(users, asyncio.get_running_loop())
        try:
            yield
        finally:
            await app.state.batcher.close()
            users.close()
            logger.info("stopped: the database has every user")

    app = FastAPI(
        title="Personalisation",
        description="A bandit that adapts to each user.",
        lifespan=lifespan,
    )
    _add_routes_of_a_user(app)
    _add_routes_of_several(app)
    _add_health(app)
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RequestValidationError, _told_invalid)
    app.add_exception_handler(HTTPException, _told_failed)
    return app


def _add_routes_of_a_user(app: FastAPI) -> None:
    async def answer(request: messages.Request) -> JSONResponse:
        (reply,) = await app.state.batcher.answer([request])
        return JSONResponse(reply.body, reply.status)

    @app.put("/v1/users/{user}")
    async def add(user: str) -> JSONResponse:
        """Add a user, with an empty memory; one who is there stays as is."""
        return await answer(messages.Add(user))

    @app.get("/v1/users/{user}")
    async def show(user: str) -> JSONResponse:
        """How many decisions a user has had, and the one whose reward is awaited."""
        return await answer(messages.Show(user))

    @app.delete("/v1/users/{user}")
    async def drop(user: str) -> JSONResponse:
        """Delete a user's memory."""
        return await answer(messages.Drop(user))

    @app.post("/v1/users/{user}/act")
    async def act(user: str, body: ActBody | None = None) -> JSONResponse:
        """Decide for a user; until its reward is observed, the decision stays the same."""
        return await answer(messages.Act(user, body and body.observation))

    @app.post("/v1/users/{user}/observe")
    async def observe(user: str, body: ObserveBody) -> JSONResponse:
        """Learn the reward of a decision; telling it again changes nothing."""
        told = messages.Observe(user, body.decision, body.reward, body.done)
        return await answer(told)


def _add_routes_of_several(app: FastAPI) -> None:
    async def answer(requests: list[messages.Request]) -> JSONResponse:
        replies: list[Reply] = await app.state.batcher.answer(requests)
        bodies = [
            reply.body | {"user": one.user, "status": reply.status}
            for one, reply in zip(requests, replies, strict=True)
        ]
        return JSONResponse({"replies": bodies})

    @app.post("/v1/act")
    async def act_all(call: ActCall) -> JSONResponse:
        """Decide for several users; each reply has a status of its own."""
        return await answer([messages.Act(one.user, one.observation) for one in call.requests])

    @app.post("/v1/observe")
    async def observe_all(call: ObserveCall) -> JSONResponse:
        """Learn the rewards of several users; each reply has a status of its own."""
        return await answer(
            [
                messages.Observe(one.user, one.decision, one.reward, one.done)
                for one in call.requests
            ]
        )


def _add_health(app: FastAPI) -> None:
    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether requests are answered, and how many were."""
        users, batcher = app.state.users, app.state.batcher
        fault = users.fault if batcher.is_alive else "the thread that answers has ended"
        body = {
            "status": fault or "ok",
            "users_in_memory": len(users),
            "actions": users.num_actions,
            "answered": batcher.num_answered,
            "batches": batcher.num_batches,
            "cpu_seconds": round(time.process_time(), 3),
        }
        return JSONResponse(body, 503 if fault else 200)


async def _told_invalid(_: Request, error: Any) -> JSONResponse:
    """The first thing that is wrong with a request, in one line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)


async def _told_failed(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address, which listens from now on.

    Raises:
        UserError: the address cannot be used.
    """
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise UserError(
            f"host={host} port={port} cannot be used ({error.strerror or error}): give another port"
        ) from error


def serve(settings: ServiceSettings) -> None:
    """Run the service until it is told to stop, by SIGTERM or Ctrl-C.

    Raises:
        UserError: the address, the checkpoint or the database cannot be used.
    """
    # uvicorn ends calls first, and then raises the signal again: a stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    torch.set_num_threads(1)  # a batch is small: more threads would only wait for each other
    listening = bound_socket(settings.host, settings.port)
    agent = Agent.load(settings.ckpt_path)
    users = Users(
        agent,
        Store(settings.database, settings.synchronous),
        idle_seconds=settings.idle_seconds,
        keep_seconds=settings.keep_seconds,
        greedy=settings.greedy,
    )
    _report(settings, users, listening.getsockname()[1])
    config = uvicorn.Config(
        make_app(users),
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=SECONDS_OF_SILENCE,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    gc.freeze()  # what is there now stays: it is not looked through again and again for garbage
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _report(settings: ServiceSettings, users: Users, port: int) -> None:
    total, of_others = users.count()
    logger.info("%s: %s users", settings.database, f"{total:,}")
    if of_others:
        logger.warning(
            "%s of them have the memory of another agent than %s: requests for them fail with "
            "status 409 until the agent that made it is served, or the user is deleted and added",
            f"{of_others:,}",
            settings.ckpt_path,
        )
    logger.info("serving at http://%s:%s", settings.host, port)
