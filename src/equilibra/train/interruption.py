"""Interrupted trainings: the first signal ends a training after its present step, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interruption:
    """Whether a training was asked to stop.

    Attributes:
        requested: True once a signal came.
    """

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: the first asks to stop, a second Ctrl-C stops at once.

        Raises:
            KeyboardInterrupt: At the second Ctrl-C.
        """
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to Ctrl-C and to the termination that schedulers send; earlier handlers are put back at the end.

        Only the main thread can listen; elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                earlier[number] = signal.signal(number, self.request)
            yield
        finally:
            for name, handler in earlier.items():
                # None: installed from outside Python, and cannot be put back from here
                signal.signal(name, signal.SIG_DFL if handler is None else handler)
