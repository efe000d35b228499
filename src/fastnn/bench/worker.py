"""A process of its own for a runner, and the pipe to it. Not what it does: that is whatever object it makes.

In one process the idle threads of one library, which spin for milliseconds after their last work, take cores
from the next. On Linux a worker is stopped (SIGSTOP) whenever it is not its turn; elsewhere a pause of 0.1 s lets
its threads fall asleep: OpenBLAS's spin for 2^26 cycles, libgomp's for less.

    parent -> worker: {"make": "module:function", "with": {...}}   an object, made anew
                      {"call": "method", "with": {...}}            a method of it
    worker -> parent: {"answer": ...} or {"error": "..."}, a line of JSON each
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import IO, Any

_UNSET = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "NUMBA_", "XLA_", "NPROC", "FASTNN_BACKEND")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
_CAN_STOP = sys.platform == "linux"  # where a stopped worker also ends with its parent


class WorkerError(RuntimeError):
    """What a worker could not do; the message is the last line of its error."""


class Worker:
    """A process that keeps one object and calls its methods, with an environment of its own."""

    def __init__(self, threads: int | None = None) -> None:
        """threads: what the libraries in it are told to use; None: nothing is said to them."""
        self.threads = threads
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment(threads),
            start_new_session=_CAN_STOP,  # a group with stopped members gets SIGHUP when the shell that began it ends
        )
        self._stopped = False

    def make(self, target: str, **arguments: Any) -> Any:
        """Replace the object by target(**arguments), "module:function"."""
        return self.ask({"make": target, "with": arguments})

    def call(self, method: str, **arguments: Any) -> Any:
        """The answer of a method of the object. WorkerError where it raised, or the process is gone."""
        return self.ask({"call": method, "with": arguments})

    def ask(self, message: dict[str, Any]) -> Any:
        self.send(message)
        return self.receive()

    def send(self, message: dict[str, Any]) -> None:
        """Begin; `receive` waits for the answer. Between the two, several workers run at once."""
        self._signal("SIGCONT", stopped=False)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError(f"its process is gone ({error})") from error

    def receive(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"its process ended with code {self.process.wait()}")
        self._signal("SIGSTOP", stopped=True)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    def _signal(self, name: str, stopped: bool) -> None:
        if not _CAN_STOP:
            time.sleep(0.1 if stopped else 0.0)
        elif self._stopped != stopped and self.process.poll() is None:
            os.kill(self.process.pid, getattr(signal, name))
            self._stopped = stopped

    def close(self) -> None:
        """End the process."""
        self._signal("SIGCONT", stopped=False)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was still to be written to a process that is gone
                    pipe.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def environment(threads: int | None) -> dict[str, str]:
    """This process's environment without what steers thread pools or forces a kernel (OPENBLAS_CORETYPE), then
    with the number of threads. Modules are found where they are found here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    kept["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    if threads is not None:
        kept |= dict.fromkeys(_THREADS, str(threads))
    return kept


def serve(orders: IO[str], answers: IO[str]) -> None:
    """Do what each line says until there are no more."""
    thing: Any = None
    for line in orders:
        message = json.loads(line)
        try:
            if "make" in message:
                module, _, name = message["make"].partition(":")
                thing = None  # its memory first
                thing = getattr(importlib.import_module(module), name)(**message["with"])
                answer = None
            else:
                answer = getattr(thing, message["call"])(**message["with"])
            reply = {"answer": answer}
        except Exception as error:  # whatever a library raises is an answer
            if os.environ.get("FASTNN_BENCH_TRACE"):
                traceback.print_exc()
            said = str(error).strip().partition("\n")[0]
            reply = {"error": f"{type(error).__name__}: {said}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def main() -> None:
    """Keep the pipe to ourselves: what libraries print on stdout goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if _CAN_STOP:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a stopped process never sees its pipe close
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
