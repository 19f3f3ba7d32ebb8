"""Real processes to kill and to race: one server imports everything, then forks a child a job.

A job is a function `module.name` of the tests. It is given `say(event, value)`, which tells the
test what it is at, and what it returns is its result. Forking costs milliseconds, where a fresh
interpreter costs a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

DEADLINE = 60.0

Say = Callable[..., None]


class Child:
    """One job in a process of its own."""

    def __init__(self) -> None:
        self.pid = 0
        self.events: list[tuple[str, Any]] = []
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()

    def next_event(self, timeout: float = DEADLINE) -> tuple[str, Any] | None:
        """What the child says next; None where it says nothing in time."""
        try:
            event = self._queue.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None
        self.events.append(event)
        return event

    def until(self, name: str) -> Any:
        """Wait for an event; fail where the child ends without it."""
        deadline = time.monotonic() + DEADLINE
        while event := self.next_event(deadline - time.monotonic()):
            if event[0] == name:
                return event[1]
            assert event[0] != "exit", f"ended without {name}: {self.events}"
        raise AssertionError(f"no {name} within {DEADLINE} s: {self.events}")

    def ended_within(self, seconds: float) -> bool:
        """Wait so long for the child's end; whether it came."""
        deadline = time.monotonic() + seconds
        while (event := self.next_event(deadline - time.monotonic())) is not None:
            if event[0] == "exit":
                return True
        return False

    def kill(self) -> None:
        """Kill -9, and wait until the child is gone; it may just have ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.until("exit")

    def result(self) -> Any:
        """What the job returned; fails with its traceback where it raised."""
        self._await_end()
        for name, value in self.events:
            assert name != "failed", value["traceback"]
        return self.said("done")[-1]

    def error(self) -> tuple[str, str]:
        """The type and the message of what the job raised."""
        self._await_end()
        assert self.said("failed"), f"did not fail: {self.events}"
        failure = self.said("failed")[-1]
        return failure["type"], failure["message"]

    def _await_end(self) -> None:
        if not self.said("exit"):
            self.until("exit")

    def said(self, name: str) -> list[Any]:
        """The values of all events of a name so far."""
        return [value for event, value in self.events if event == name]


class Nursery:
    """Starts children; use `nursery()`."""

    def __init__(self) -> None:
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one_thread},
        )
        self._children: dict[int, Child] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, job: str, **arguments: Any) -> Child:
        """Start a job; it runs when this returns."""
        child = Child()
        number = len(self._children)
        self._children[number] = child
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([number, job, arguments], default=str) + "\n")
        self._server.stdin.flush()
        child.pid = child.until("started")
        return child

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            number, event, value = json.loads(line)
            self._children[number]._queue.put((event, value))

    def close(self) -> None:
        assert self._server.stdin is not None
        for child in self._children.values():
            while child.next_event(0):
                pass
            if child.pid and not child.said("exit"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
        self._server.stdin.close()
        self._server.wait(DEADLINE)


@contextlib.contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery that takes all its children down with it."""
    if not hasattr(os, "fork"):
        import pytest

        pytest.skip("needs fork")
    opened = Nursery()
    try:
        yield opened
    finally:
        opened.close()


def await_file(path: Path) -> None:
    """Wait until a file appears: how a test tells a job to go on."""
    deadline = time.monotonic() + DEADLINE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        threading.Event().wait(0.002)


def _serve() -> None:
    """Fork for every line; a minder waits for each child, so that its end is told."""
    for name in ("xsearch.library", "xsearch.indexer.run", "xsearch.indexer.maintenance"):
        importlib.import_module(name)
    for name in ("xsearch.retrieval.search", "xsearch.retrieval.query", "alembic.command"):
        importlib.import_module(name)
    for name in ("faiss", "filelock", "support", "alembic.config", "xsearch.indexer.status"):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _mind(*json.loads(line))


def _mind(number: int, job: str, arguments: dict[str, Any]) -> NoReturn:
    def say(event: str, value: Any = None) -> None:
        os.write(1, (json.dumps([number, event, value], default=str) + "\n").encode())

    pid = os.fork()
    if pid == 0:
        _run(say, job, arguments)
    say("started", pid)
    _, status = os.waitpid(pid, 0)
    say("exit", os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run(say: Say, job: str, arguments: dict[str, Any]) -> NoReturn:
    code = 1
    # What a shell runs in the background inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        module, _, name = job.rpartition(".")
        say("done", getattr(importlib.import_module(module), name)(say, **arguments))
        code = 0
    except BaseException as error:
        failure = {"type": type(error).__name__, "message": str(error)}
        # A line that fits into a pipe at once is never mixed with another's.
        say("failed", {**failure, "traceback": traceback.format_exc()[-2500:]})
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
