"""Forward passes of many batches that pause at every layer until all have reached it.

A correction of a layer needs sums over all batches, and the layers behind it need its corrected
output. Passing all batches anew for every layer would cost as many passes as there are layers.
Here each pass runs in a thread of its own, one at a time, and waits at each layer: then the
corrections are found and the passes go on, so one pass serves all layers. Live are the activations
of one layer of all batches, not those of all layers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hpcembed.networks.compression.hooks import observed
from hpcembed.runtime.errors import InputError

__all__ = ["LockstepPasses"]


class _StoppedError(BaseException):
    """Raised in a pass that is not continued; handlers of the user's code do not catch it."""


class _Pass:
    """One forward pass in a thread that runs only while the coordinator waits for it."""

    def __init__(self, run: Callable[[], Any], name: str) -> None:
        self.name = name
        self.at: str | None = None
        self.output: Tensor | None = None
        self.reply: Tensor | None = None
        self.error: BaseException | None = None
        self.finished = False
        self.stopping = False
        self._resume = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._started = False

    @property
    def identity(self) -> int | None:
        """Identity of the thread."""
        return self._thread.ident

    def advance(self) -> None:
        """Run to the next layer, or to the end."""
        if self._started:
            self._resume.release()
        else:
            self._started = True
            self._thread.start()
        self._paused.acquire()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End the thread."""
        if self._started and not self.finished:
            self.stopping = True
            self._resume.release()
            self._thread.join()

    def arrive(self, layer: str, output: Tensor) -> Tensor | None:
        """Pause at a layer; return the output that replaces its own. Called in the thread."""
        if self.stopping:
            raise _StoppedError
        self.at, self.output, self.reply = layer, output, None
        self._paused.release()
        self._resume.acquire()
        if self.stopping:
            raise _StoppedError
        reply, self.output, self.reply = self.reply, None, None
        return reply

    def _run(self, run: Callable[[], Any]) -> None:
        try:
            with torch.no_grad():
                run()
        except _StoppedError:
            pass
        except BaseException as error:
            self.error = error
        self.at, self.finished = None, True
        self._paused.release()


class LockstepPasses:
    """Passes of one model over several batches.

    Parameters
    ----------
    model : nn.Module
    layers : sequence of str
        Names of the modules at which the passes pause, in the order of execution.
    runs : sequence of callables
        Each makes one forward pass of `model`.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], runs: Sequence[Callable[[], Any]]
    ) -> None:
        self._model = model
        self._layers = tuple(layers)
        self._passes = [_Pass(run, f"batch {number}") for number, run in enumerate(runs)]

    @contextmanager
    def started(self) -> Iterator[LockstepPasses]:
        """Attach the hooks; end all passes and remove the hooks at the end."""

        def arrive(name: str, _x: Tensor, y: Tensor) -> Tensor | None:
            me = threading.get_ident()
            for one in self._passes:
                if one.identity == me:
                    return one.arrive(name, y)
            return None

        modules = {name: self._model.get_submodule(name) for name in self._layers}
        with observed(modules, arrive):
            try:
                yield self
            finally:
                for one in self._passes:
                    one.stop()

    def outputs(self, layer: str) -> list[Tensor]:
        """Run every pass to a layer and return its outputs.

        Raises
        ------
        InputError
            If a pass reaches another layer first: the order depends on the data.
        """
        found = []
        for one in self._passes:
            one.advance()
            if one.at != layer or one.output is None:
                raise InputError(
                    f"{one.name} reaches {one.at or 'the end'} where others reach {layer}: the "
                    "order of the layers depends on the data; use sequential=False with "
                    "repair='none'"
                )
            found.append(one.output)
        return found

    def replace(self, outputs: Sequence[Tensor]) -> None:
        """Continue with these outputs of the layer at which the passes wait."""
        for one, output in zip(self._passes, outputs, strict=True):
            one.reply = output
