"""What is to be rendered, in order, kept on disk: after a crash it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

KINDS = ("shot", "all", "export")
MAX_WAITING = 50

Item = dict[str, Any]


class RenderQueue:
    """The renders that wait and the one that runs, of all clips.

    Args:
        send: passes a message to the render process.
        message_for: the message that starts an item (keyframes and guidance are taken when it starts).
        changed: called with a clip's number when its items changed, to save and show them.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        message_for: Callable[[Item], dict[str, Any]],
        changed: Callable[[int], None],
    ) -> None:
        self._send = send
        self._message_for = message_for
        self._changed = changed
        self._items: list[Item] = []
        self._lock = threading.RLock()
        self._number = 0
        self.running: Item | None = None
        self.can_run: Callable[[Item], bool] = lambda _: True

    def of(self, clip: int) -> list[Item]:
        """The items of a clip, the running one first."""
        own = [item for item in self._items if item["clip"] == clip]
        running = self.running
        return [*([{**running, "running": True}] if running and running["clip"] == clip else []), *own]

    def add(self, item: Item, *, first: bool = False) -> Item:
        """Add an item; one that asks for the same is not added twice."""
        with self._lock:
            same = [one for one in self._items if _asks(one) == _asks(item)]
            if same:
                return same[0]
            self._number += 1
            item = {**item, "id": self._number, "done": 0, "total": 0, "fps": 0.0, "seconds_left": None}
            self._items = [item, *self._items] if first else [*self._items, item][:MAX_WAITING]
            self._changed(item["clip"])
            self.advance()
            return item

    def advance(self) -> None:
        """Start the next item that can run, if nothing runs."""
        with self._lock:
            if self.running is not None:
                return
            item = next((one for one in self._items if self.can_run(one)), None)
            if item is not None:
                self._items.remove(item)
                self.running = item
                self._send(self._message_for(item))
                self._changed(item["clip"])

    def cancel(self, number: int) -> None:
        """Take an item out; the running one stops at its next chunk."""
        with self._lock:
            running = self.running
            if running is not None and running["id"] == number:
                running["again"] = False
                self._send({"do": "cancel", "id": number})
                running["state"] = "stopping"
                self._changed(running["clip"])
                return
            for item in [one for one in self._items if one["id"] == number]:
                self._items.remove(item)
                self._changed(item["clip"])

    def restart(self) -> None:
        """Begin the running item anew: what it renders is old."""
        with self._lock:
            if self.running is not None and not self.running.get("state"):
                self.running["again"] = True
                self._send({"do": "cancel", "id": self.running["id"]})

    def progress(self, number: int, told: dict[str, Any]) -> Item | None:
        """Note how far the running item is."""
        with self._lock:
            if self.running is None or self.running["id"] != number:
                return None
            self.running |= {name: told[name] for name in ("done", "total", "fps", "seconds_left") if name in told}
            return self.running

    def finished(self, number: int) -> Item | None:
        """The running item ended, however; the next one starts."""
        with self._lock:
            item = self.running
            if item is None or item["id"] != number:
                return None
            self.running = None
            if item.get("again"):
                self._number += 1
                fresh = {name: value for name, value in item.items() if name not in ("again", "state", "running")}
                self._items.insert(0, {**fresh, "id": self._number, "done": 0, "total": 0})
            self.advance()
            self._changed(item["clip"])
            return item

    def lost(self) -> None:
        """The render process died: what it did has to be asked for again."""
        with self._lock:
            if self.running is not None:
                self._items.insert(0, self.running)
                self.running = None


def _asks(item: Item) -> tuple[Any, ...]:
    return (item["clip"], item["kind"], item.get("start"), item.get("stop"), item.get("output"))


def saved_items(kept: Any, clip: int) -> list[Item]:
    """The items that a project's state.json holds, those that are sound."""
    items = []
    for item in kept if isinstance(kept, list) else []:
        if not isinstance(item, dict) or item.get("kind") not in KINDS:
            continue
        plain = {name: item.get(name) for name in ("kind", "start", "stop", "here", "label")}
        if not all(isinstance(plain[name], int) for name in ("start", "stop", "here")):
            continue
        plain["label"] = str(plain["label"])
        if item["kind"] == "export":
            if not isinstance(item.get("output"), str) or not isinstance(item.get("options"), dict):
                continue
            plain |= {
                "output": item["output"],
                "options": item["options"],
                "overwrite": bool(item.get("overwrite")),
                "compare": bool(item.get("compare")),
            }
        items.append({**plain, "clip": clip})
    return items
