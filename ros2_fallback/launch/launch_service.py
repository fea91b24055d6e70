"""The loop that runs a launch."""

from __future__ import annotations

import asyncio
import logging
import signal
import traceback
from collections.abc import Iterable
from typing import Any

from . import logging as launch_logging
from .core import (
    BaseEventHandler,
    Event,
    LaunchContext,
    LaunchDescription,
    LaunchDescriptionEntity,
    visit_all,
)
from .events import IncludeLaunchDescription, Shutdown


class _OnInclude(BaseEventHandler):
    def __init__(self) -> None:
        super().__init__(matcher=lambda event: isinstance(event, IncludeLaunchDescription))

    def handle(self, event: Event, context: LaunchContext) -> Any:
        super().handle(event, context)
        return event.launch_description  # type: ignore[attr-defined]


class LaunchService:
    """Visits launch descriptions and serves events until nothing is left to wait for."""

    def __init__(
        self,
        *,
        argv: Iterable[str] | None = None,
        noninteractive: bool = False,
        debug: bool = False,
    ) -> None:
        launch_logging.set_level(logging.DEBUG if debug else logging.INFO)
        self._debug = debug
        self._logger = launch_logging.get_logger("launch")
        self.context = LaunchContext(argv=argv or (), noninteractive=noninteractive)
        self.context.register_event_handler(_OnInclude())
        self._futures: list[asyncio.Future] = []

    def include_launch_description(self, launch_description: LaunchDescription) -> None:
        self.context.emit_event_sync(IncludeLaunchDescription(launch_description))

    def emit_event(self, event: Event) -> None:
        self.context.emit_event_sync(event)

    def shutdown(self) -> None:
        self._shutdown("LaunchService.shutdown() called", False)

    def run(self, *, shutdown_when_idle: bool = True) -> int:
        """Run to the end; 0, or 1 if the launch itself failed or was terminated."""
        return asyncio.run(self._run(shutdown_when_idle), debug=self._debug)

    def _shutdown(self, reason: str, due_to_sigint: bool) -> None:
        if not self.context.is_shutdown:
            self.context.is_shutdown = True
            self.context.emit_event_sync(Shutdown(reason=reason, due_to_sigint=due_to_sigint))

    def _handle(self, event: Event) -> None:
        self._logger.debug(f"processing event: '{event.name}'")
        if isinstance(event, Shutdown):
            self.context.is_shutdown = True
        for handler in tuple(self.context.event_handlers):
            if not handler.matches(event):
                continue
            self.context.push_locals()
            given = handler.handle(event, self.context)
            for entity in given if isinstance(given, Iterable) else (given,):
                if entity is None:
                    continue
                if not isinstance(entity, LaunchDescriptionEntity):
                    raise RuntimeError(f"an event handler gave '{entity}', expected an action")
                for future in visit_all(entity, self.context):
                    self._futures.append(future)
            self.context.pop_locals()

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        text = "user interrupted with ctrl-c (SIGINT)"
        task = asyncio.current_task()
        interrupted = False

        def on_sigint() -> None:
            nonlocal interrupted
            if interrupted:
                self._logger.warning(f"{text} again, ignoring...")
                return
            interrupted = True
            self._logger.warning(text)
            self._shutdown("ctrl-c (SIGINT)", True)

        def on_sigterm(name: str) -> None:
            self._logger.error(f"user interrupted with ctrl-\\ ({name}), terminating...")
            self._logger.error(f"using {name} can result in orphaned processes")
            self._logger.error("make sure no processes launched are still running")
            assert task is not None
            task.cancel()

        loop.add_signal_handler(signal.SIGINT, on_sigint)
        loop.add_signal_handler(signal.SIGTERM, on_sigterm, "SIGTERM")
        loop.add_signal_handler(signal.SIGQUIT, on_sigterm, "SIGQUIT")

    async def _run(self, shutdown_when_idle: bool) -> int:
        loop = asyncio.get_running_loop()
        self.context.asyncio_loop = loop
        return_code = 0

        def on_loop_exception(_loop: Any, details: dict) -> None:
            nonlocal return_code
            return_code = 1
            loop.default_exception_handler(details)

        loop.set_exception_handler(on_loop_exception)
        self._watch_signals(loop)
        self._logger.info(f"All log files can be found below {launch_logging.log_dir()}")
        level = logging.getLevelName(self._logger.getEffectiveLevel())
        self._logger.info(f"Default logging verbosity is set to {level}")
        next_event: asyncio.Task | None = None
        try:
            while True:
                self._futures = [future for future in self._futures if not future.done()]
                got_event = next_event is not None and next_event.done()
                if not self._futures and self.context.event_queue.empty() and not got_event:
                    if self.context.is_shutdown:
                        return return_code
                    if shutdown_when_idle:
                        self._shutdown("idle", False)
                        continue
                if next_event is None:
                    next_event = loop.create_task(self.context.event_queue.get())
                waiting = [next_event, *self._futures]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not next_event.done():
                    continue
                event = next_event.result()
                next_event = None
                try:
                    self._handle(event)
                except Exception as exc:
                    text = f"Caught exception in launch (see debug for traceback): {exc}"
                    self._logger.debug(traceback.format_exc())
                    self._logger.error(text)
                    self._shutdown(text, False)
                    return_code = 1
        except asyncio.CancelledError:
            self._logger.error("run task was canceled")
            return 1
        finally:
            if next_event is not None:
                next_event.cancel()
