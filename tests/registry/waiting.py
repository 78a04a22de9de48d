# SPDX-License-Identifier: Apache-2.0
"""Requests that wait for the test, or for each other; and who is at work."""
import contextlib
import threading

# Whoever waits longer was forgotten by the test.
LIMIT_S = 600


class Waiting:
    def __init__(self):
        self.changed = threading.Condition()
        self.releases = 0
        self.held = []
        self.busy = []
        self.arrived = {}

    @contextlib.contextmanager
    def at_work(self, text):
        """The request is listed as busy from its head to the end of its answer."""
        with self.changed:
            self.busy.append(text)
        try:
            yield
        finally:
            with self.changed:
                self.busy.remove(text)

    def hold(self, text):
        """Until release()."""
        with self.changed:
            now = self.releases
            self.held.append(text)
            self.changed.wait_for(lambda: self.releases != now, LIMIT_S)
            self.held.remove(text)

    def release(self):
        with self.changed:
            self.releases += 1
            self.arrived = {}
            self.changed.notify_all()

    def meet(self, place, n):
        """Until n have come to the place, counted from the first or from the last n."""
        with self.changed:
            arrived = self.arrived.setdefault(place, [0])
            arrived[0] += 1
            all_of_us = (arrived[0] + n - 1) // n * n
            self.changed.notify_all()
            self.changed.wait_for(lambda: arrived[0] >= all_of_us, LIMIT_S)
