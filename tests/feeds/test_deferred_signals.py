"""Signal handlers that raise run between the steps of an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coinstream.feeds.live.base import DeferredSignals


class Interruption(BaseException):
    """As Dagster raises one to end a run."""


def interrupt(*_: object) -> None:
    raise Interruption


def send() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    opened = asyncio.new_event_loop()
    yield opened
    opened.close()


class SignalledWhenFreed:
    """Python discards an exception that is raised here."""

    def __del__(self) -> None:
        send()


async def in_a_finalizer() -> None:
    SignalledWhenFreed()


async def in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(send)
    await asyncio.sleep(0)


async def in_a_task() -> None:
    async def work() -> None:
        send()

    # The result of this task is not awaited.
    task = asyncio.create_task(work())
    await asyncio.wait([task])


@pytest.mark.parametrize("step", [in_a_finalizer, in_a_callback, in_a_task])
def test_an_interruption_is_raised_after_the_step(loop: asyncio.AbstractEventLoop, step: object) -> None:
    assert callable(step)
    with pytest.raises(Interruption):
        DeferredSignals().run(loop, step)
    assert signal.getsignal(signal.SIGUSR1) is interrupt


def test_a_handler_that_does_not_raise_leaves_the_result(loop: asyncio.AbstractEventLoop) -> None:
    caught: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))

    async def step() -> str:
        send()
        assert caught == []
        return "result"

    assert DeferredSignals().run(loop, step) == "result"
    assert caught == [signal.SIGUSR1]


def test_an_error_of_the_step_is_kept_as_the_context(loop: asyncio.AbstractEventLoop) -> None:
    async def step() -> None:
        send()
        raise ValueError("broken")

    with pytest.raises(Interruption) as raised:
        DeferredSignals().run(loop, step)
    assert isinstance(raised.value.__context__, ValueError)


def test_another_thread_only_runs_the_step(loop: asyncio.AbstractEventLoop) -> None:
    async def step() -> object:
        return signal.getsignal(signal.SIGUSR1)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(DeferredSignals().run, loop, step).result() is interrupt
