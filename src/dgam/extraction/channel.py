"""A bounded queue between two threads that can be closed from either end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Cancelled(Exception):
    """The reading end has gone; the writing end should stop."""


class Channel(Generic[Item]):
    """Hands items from one thread to another, at most ``size`` waiting, so that memory stays bounded.

    The writer ends with :meth:`close`, with the exception that stopped it where there is one; the reader sees
    the items in order and then the end or that exception. Anybody can :meth:`cancel`, which wakes both.
    """

    def __init__(self, size: int) -> None:
        self._items: deque[Item] = deque()
        self._size = size
        self._changed = threading.Condition()
        self._closed = self._cancelled = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Append an item, waiting while the channel is full. Cancelled where nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._size)
            if self._cancelled:
                raise Cancelled
            self._items.append(item)
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more will come, and why if that is an error."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Say that nothing more will be read."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._cancelled or bool(self._items))
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
