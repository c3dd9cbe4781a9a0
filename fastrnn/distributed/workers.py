"""The workers of a dask cluster, which compute parts of each step while a fit lasts.

Each part of the data has one task, which lasts as long as the fit. It holds its part and a copy of the network, and answers
the calling process by messages of its worker: a step starts no tasks, which would take some milliseconds each. If a worker
is lost, dask starts its tasks again on another one, and these announce where they answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import queue
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

from fastrnn.estimators.network import use_threads
from fastrnn.extras import extra

__all__ = ["Workers", "default_client"]

logger = logging.getLogger("fastrnn.distributed")

#: Seconds between two looks at which workers there are, and until training without any worker ends with an error.
LOOK_SECONDS, PATIENCE_SECONDS = 1.0, 30.0
#: How often a part's task is started anew without an answer in between.
RETRIES = 5
#: Seconds without a request after which a task ends, because the calling process may be gone; it is started anew if not.
SILENCE_SECONDS = 300.0
#: Seconds between two requests to a task that does not answer.
ASK_AGAIN_SECONDS = 0.5
#: Seconds to connect to a worker directly, before the scheduler is asked to pass messages on.
CONNECT_SECONDS = 3.0
#: Seconds that the end of a fit waits for the tasks to end.
STOP_SECONDS = 2.0

_ADD_WORKERS = (
    "start some with cluster.scale(2), or with `dask worker ADDRESS` on each machine, and wait for them with "
    "client.wait_for_workers(1)"
)

Computation = Callable[..., Any]
"""Computes a worker's part of a step, from what the calling process sends."""


class _Answer(NamedTuple):
    """What a request returns."""

    value: Any
    error: Exception | None = None


def _serve(
    part: int,
    topic: str,
    fixed: tuple[Any, int],
    prepare: Callable[[Any, Any], Computation],
    held: Any,
) -> None:
    """Answer requests for a part of the data until the fit ends: the task of a worker.

    Parameters
    ----------
    part : int
        Number of the part.
    topic : str
        Of dask's events: the task announces there its worker, and the name under which the worker passes requests on.
    fixed : tuple
        The network, and the number of threads.
    prepare : callable
        Makes the computation, from the network and the part.
    held : object
        The part.
    """
    distributed = extra("distributed", "dask")
    from distributed.protocol import to_serialize

    worker, name = distributed.get_worker(), f"fastrnn-{uuid.uuid4().hex}"
    loop, requests = worker.loop.asyncio_loop, queue.SimpleQueue[tuple[Any, asyncio.Future[Any]]]()
    # dask hands one object to all tasks of a process.
    model = copy.deepcopy(fixed[0])
    use_threads(model, fixed[1])
    compute = prepare(model, held)

    async def passed_on(arguments: Any) -> Any:
        answer = loop.create_future()
        requests.put((arguments, answer))
        return {"answer": to_serialize(await answer)}  # type: ignore[no-untyped-call]

    def reply(answer: asyncio.Future[Any], value: _Answer) -> None:
        if not answer.done():  # it is if the connection was closed
            answer.set_result(value)

    worker.handlers[name] = passed_on
    try:
        # The worker starts other tasks meanwhile: those of a lost worker too.
        distributed.secede()
        worker.log_event(topic, (part, worker.address, name))
        while True:
            arguments, answer = requests.get(timeout=SILENCE_SECONDS)
            if arguments is None:
                break
            try:
                value = _Answer(compute(*arguments))
            except Exception as error:  # raised again by the calling process
                value = _Answer(None, error)
            loop.call_soon_threadsafe(reply, answer, value)
    except queue.Empty:
        answer = None
        logger.warning("no request for %.0f s; the calling process may be gone", SILENCE_SECONDS)
    finally:
        del worker.handlers[name]
    if answer is not None:
        loop.call_soon_threadsafe(reply, answer, _Answer(None))


# ---- in the calling process


def default_client(client: Any) -> Any:
    """`client`, or the one that was made last."""
    distributed = extra("distributed", "dask")
    if client is not None:
        return client
    try:
        return distributed.default_client()
    except ValueError:
        raise ValueError(
            "there is no dask client: make one, client = distributed.Client(address), or "
            "distributed.Client(distributed.LocalCluster()) on this machine"
        ) from None


class _Part:
    """A part of the data, and where its task answers."""

    def __init__(self, held: Any) -> None:
        self.held = held
        self.task: Any = None
        #: How often the task was started since the last answer.
        self.starts = 0
        #: Address of the worker and the name of its handler; None if they are not known. Only the client's event loop reads
        #: and writes them.
        self.place: tuple[str, str] | None = None
        self.moved = asyncio.Event()

    def move(self, place: tuple[str, str]) -> None:
        """Note where the task answers from now on."""
        self.place = place
        self.moved.set()
        self.moved = asyncio.Event()


class Workers:
    """The workers of a cluster, which compute parts of each step of a fit.

    Parameters
    ----------
    client : distributed.Client
    n_jobs : int
        Threads of a task.
    """

    def __init__(self, client: Any, n_jobs: int) -> None:
        self.client, self.n_jobs = client, n_jobs
        self.workers = self._now()
        if not self.workers:
            raise RuntimeError(f"the dask cluster {client.scheduler.address} has no workers: {_ADD_WORKERS}")
        self._parts: list[_Part] = []
        #: Whether this process can connect to a worker, by address.
        self._direct: dict[str, bool] = {}
        self._start: Callable[[_Part], None]
        self._looked = time.monotonic()

    @contextlib.contextmanager
    def computing(
        self, model: Any, prepare: Callable[[Any, Any], Computation], held: list[Any]
    ) -> Iterator[None]:
        """Within this context, :meth:`compute` computes with the network and the parts `held`, futures of dask.

        ``prepare(model, part)`` is called on a worker and returns what computes.
        """
        delayed = extra("dask", "dask").delayed
        # A task and not scattered data, which would be lost with their workers.
        fixed = self.client.compute(delayed(tuple, pure=False)((delayed(model), self.n_jobs)))
        topic = f"fastrnn-{uuid.uuid4().hex}"
        self._wait_for(held)
        homes = self._homes(held)
        self._parts = [_Part(each) for each in held]

        def start(part: _Part) -> None:
            k = self._parts.index(part)
            where = {"workers": [homes[k]], "allow_other_workers": True} if homes[k] in self.workers else {}
            part.starts += 1
            part.task = self.client.submit(
                _serve, k, topic, fixed, prepare, part.held, pure=False, retries=RETRIES, **where
            )

        self._start = start
        self.client.subscribe_topic(topic, self._announced)
        try:
            for part in self._parts:
                start(part)
            yield
        finally:
            self.look()
            self._stop()
            self.client.unsubscribe_topic(topic)
            self._parts = []

    def compute(self, arguments: dict[int, tuple[Any, ...]]) -> list[Any]:
        """What the computations of the parts return for `arguments`, whose keys are the numbers of parts, in their order."""
        asked = self._in_loop(self._ask_all(arguments))
        try:
            self._patiently(lambda seconds: bool(futures.wait([asked], seconds).done))
        except BaseException:
            asked.cancel()
            raise
        result: list[Any] = asked.result()
        return result

    def look(self) -> None:
        """Log which workers were lost or came since the last look."""
        now = self._now()
        for address in sorted(self.workers - now):
            logger.warning(
                "worker %s was lost; its sequences go to the other %d, and the step is computed again",
                address,
                len(now),
            )
        for address in sorted(now - self.workers):
            logger.info("worker %s has come", address)
        self.workers = now

    def _now(self) -> set[str]:
        return set(self.client.scheduler_info(n_workers=-1)["workers"])

    def _homes(self, held: list[Any]) -> list[str]:
        """A worker for each part: one that has it already, if that worker has no other part, or one that has none."""
        who_has = self.client.who_has(held)
        free, homes = sorted(self.workers), [""] * len(held)
        for k, part in enumerate(held):
            here = sorted(set(who_has.get(part.key, ())) & set(free))
            if here:
                homes[k] = here[0]
                free.remove(here[0])
        for k, home in enumerate(homes):
            if not home and free:
                homes[k] = free.pop(0)
        return homes

    def _wait_for(self, tasks: list[Any]) -> None:
        """Wait for tasks; raise the error of one that fails."""
        distributed = extra("distributed", "dask")

        def finished(seconds: float) -> bool:
            try:
                distributed.wait(tasks, timeout=seconds)
            except TimeoutError:
                return False
            return True

        self._patiently(finished)
        for task in tasks:
            if task.status == "error":
                task.result()

    def _patiently(self, finished: Callable[[float], bool]) -> None:
        """Call `finished` until it returns True; log which workers were lost, and raise if none is left for long."""
        last = time.monotonic()
        while True:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self.look()
                self._revive()
                self._looked = time.monotonic()
            if self.workers:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE_SECONDS:
                raise RuntimeError(
                    f"the dask cluster lost all its workers: {_ADD_WORKERS}; the estimator is as it was before"
                )
            if finished(LOOK_SECONDS):
                return

    def _revive(self) -> None:
        """Start tasks again that have ended: from silence, or because dask gives up a task that has lost several workers."""
        distributed = extra("distributed", "dask")
        for part in self._parts:
            if part.task.status == "pending":
                continue
            if part.task.status == "error":
                error = part.task.exception()
                if not isinstance(error, distributed.KilledWorker) or part.starts > RETRIES:
                    raise error
            self._start(part)

    # ---- in the event loop of the client

    def _in_loop(self, coroutine: Any) -> futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.client.loop.asyncio_loop)

    def _announced(self, event: tuple[float, tuple[int, str, str]]) -> None:
        k, address, name = event[1]
        if k < len(self._parts):
            self._parts[k].move((address, name))

    async def _ask_all(self, arguments: Mapping[int, tuple[Any, ...] | None]) -> list[Any]:
        return await asyncio.gather(*(self._ask(self._parts[k], each) for k, each in arguments.items()))

    async def _ask(self, part: _Part, arguments: tuple[Any, ...] | None) -> Any:
        """What a part's task computes; asked again where it has moved to."""
        while True:
            moved = asyncio.ensure_future(part.moved.wait())
            call = asyncio.ensure_future(self._call(part.place, arguments))
            try:
                await asyncio.wait((call, moved), return_when=asyncio.FIRST_COMPLETED)
                answer = call.result() if call.done() else None
                if answer is None:
                    # A connection that broke, or a worker that is lost: the task may announce another place.
                    await asyncio.wait((moved,), timeout=ASK_AGAIN_SECONDS)
                    continue
            finally:
                call.cancel()
                moved.cancel()
            part.starts = 1
            if answer.error is not None:
                raise answer.error
            return answer.value

    async def _call(self, place: tuple[str, str] | None, arguments: tuple[Any, ...] | None) -> _Answer | None:
        """The answer of a worker; None if it is not known, or gone, or without the task."""
        from distributed.protocol import to_serialize

        if place is None:
            return None
        (address, name), sent = place, to_serialize(arguments)  # type: ignore[no-untyped-call]
        if address not in self._direct:
            self._direct[address] = await self._reachable(address)
        try:
            if self._direct[address]:
                found = await getattr(self.client.rpc(address), name)(arguments=sent)
            else:
                found = await self.client.scheduler.proxy(worker=address, msg={"op": name, "arguments": sent})
        except OSError:
            return None
        result: _Answer | None = found and found["answer"]
        return result

    async def _reachable(self, address: str) -> bool:
        """Whether this process can connect to a worker; if not, the scheduler passes messages on."""
        try:
            self.client.rpc.reuse(address, await self.client.rpc.connect(address, CONNECT_SECONDS))
        except OSError:
            return False
        return True

    def _stop(self) -> None:
        """End the tasks."""

        async def stop() -> None:
            await asyncio.wait_for(self._ask_all(dict.fromkeys(range(len(self._parts)))), STOP_SECONDS)

        with contextlib.suppress(TimeoutError):
            self._in_loop(stop()).result(2 * STOP_SECONDS)
        self.client.cancel([part.task for part in self._parts if part.task is not None])
