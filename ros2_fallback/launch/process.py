"""The action that runs a child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import shlex
import signal
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import logging as launch_logging
from .conditions import IfCondition
from .core import (
    Action,
    EventHandler,
    LaunchContext,
    LaunchDescriptionEntity,
    SomeSubstitutionsType,
    Substitution,
    normalize,
    normalize_typed,
    perform,
    perform_typed,
)
from .event_handlers import OnProcessExit, OnShutdown
from .events.process import (
    ProcessExited,
    ProcessStarted,
    ShutdownProcess,
    SignalProcess,
)
from .substitutions import LaunchConfiguration

# A child's last lines may still be in its pipes when it has ended; a grandchild may hold them open.
_DRAIN_S = 0.5
_process_count = 0

# As defaults of parameters, as in official launch: a launch may set these configurations.
SIGTERM_TIMEOUT = LaunchConfiguration("sigterm_timeout", default=5)
SIGKILL_TIMEOUT = LaunchConfiguration("sigkill_timeout", default=5)


def _pairs(env: Mapping | None) -> list | None:
    return None if env is None else [(normalize(k), normalize(v)) for k, v in env.items()]


class _Pipes(asyncio.SubprocessProtocol):
    """Splits a child's output into lines and says when it is over."""

    def __init__(self, on_line: dict[int, Callable[[str], None]], loop: Any) -> None:
        self._on_line = on_line
        self._rest = {1: b"", 2: b""}
        self.open = {1, 2}
        self.exited: asyncio.Future = loop.create_future()
        self.drained: asyncio.Future = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest[fd] = (self._rest[fd] + data).split(b"\n")
        for line in lines:
            self._on_line[fd](line.decode(errors="replace").rstrip("\r"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.open.discard(fd)
        if not self.open and not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def flush(self) -> None:
        """Give what came after the last newline."""
        for fd, rest in self._rest.items():
            if rest:
                self._rest[fd] = b""
                self._on_line[fd](rest.decode(errors="replace"))


class _Terminal(asyncio.Protocol):
    """Carries what a child writes to a pseudo-terminal to `_Pipes`."""

    def __init__(self, pipes: _Pipes, fd: int) -> None:
        self._pipes, self._fd = pipes, fd

    def data_received(self, data: bytes) -> None:
        self._pipes.pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pipes.pipe_connection_lost(self._fd, exc)


class ExecuteProcess(Action):
    """Runs a command, shows its output, respawns it, and ends it on shutdown.

    On shutdown SIGINT is sent (unless the terminal's Ctrl-C already did), `sigterm_timeout` s
    later SIGTERM, `sigkill_timeout` s after that SIGKILL.
    """

    def __init__(
        self,
        *,
        cmd: Iterable[SomeSubstitutionsType],
        name: SomeSubstitutionsType | None = None,
        prefix: SomeSubstitutionsType | None = None,
        cwd: SomeSubstitutionsType | None = None,
        env: Mapping | None = None,
        additional_env: Mapping | None = None,
        shell: bool = False,
        sigterm_timeout: SomeSubstitutionsType = SIGTERM_TIMEOUT,
        sigkill_timeout: SomeSubstitutionsType = SIGKILL_TIMEOUT,
        emulate_tty: bool = False,
        output: Any = "log",
        output_format: str = "[{this.name}] {line}",
        log_cmd: bool = False,
        on_exit: Any = None,
        respawn: bool | SomeSubstitutionsType = False,
        respawn_delay: float | None = None,
        respawn_max_retries: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cmd: list = [normalize(part) for part in cmd]
        self.shell = shell
        self.process_details: dict[str, Any] | None = None
        self._name = None if name is None else normalize(name)
        self._prefix = (
            LaunchConfiguration("launch-prefix", default="") if prefix is None else prefix
        )
        self._prefix_is_default = prefix is None
        self.cwd = None if cwd is None else normalize(cwd)
        self.env, self.additional_env = _pairs(env), _pairs(additional_env)
        self._timeouts = (normalize(sigterm_timeout), normalize(sigkill_timeout))
        self._emulate_tty = emulate_tty
        output = os.environ.get("OVERRIDE_LAUNCH_PROCESS_OUTPUT", output)
        self._output = output if isinstance(output, dict) else normalize(output)
        self._output_format = output_format
        self._log_cmd = log_cmd
        self._on_exit = on_exit
        self._respawn = normalize_typed(respawn, bool)
        self._respawn_delay = respawn_delay
        self._retries_left = respawn_max_retries  # negative: without end
        self._transport: asyncio.SubprocessTransport | None = None
        self._pipes: _Pipes | None = None
        self._completed: asyncio.Future | None = None
        self._stopping: asyncio.Event | None = None
        self._sigint_on_start = False
        self._tasks: set[asyncio.Task] = set()

    @property
    def name(self) -> Any:
        """'executable-N' once visited."""
        return self._name if self.process_details is None else self.process_details["name"]

    @property
    def return_code(self) -> int | None:
        return None if self._transport is None else self._transport.get_returncode()

    def get_sub_entities(self) -> list:
        return self._on_exit if isinstance(self._on_exit, list) else []

    def get_asyncio_future(self) -> asyncio.Future | None:
        return self._completed

    def _prepare(self, context: LaunchContext) -> None:
        global _process_count
        cmd = [perform(context, part) for part in self.cmd]
        prefix = shlex.split(perform(context, normalize(self._prefix)))
        wanted = context.launch_configurations.get("launch-prefix-filter", "")
        if not self._prefix_is_default or re.match(wanted, os.path.basename(cmd[0])):
            cmd = prefix + cmd
        name = os.path.basename(cmd[0]) if self._name is None else perform(context, self._name)
        _process_count += 1
        env = dict(context.environment) if self.env is None else {}
        for key, value in (self.env or []) + (self.additional_env or []):
            env[perform(context, key)] = perform(context, value)
        self.process_details = {
            "action": self,
            "name": f"{name}-{_process_count}",
            "cmd": cmd,
            "cwd": None if self.cwd is None else perform(context, self.cwd),
            "env": env,
        }
        self._respawn = perform_typed(context, self._respawn, bool)

    def execute(self, context: LaunchContext) -> list | None:
        assert context.asyncio_loop is not None
        if self.process_details is not None:
            raise RuntimeError(f"process action '{self.name}': executed more than once")
        self._prepare(context)
        if context.is_shutdown:
            return None
        if self._output and not isinstance(self._output, dict):
            self._output = perform(context, self._output)
        self._logger = launch_logging.get_logger(self.name)
        self._out, self._err = launch_logging.get_output_loggers(self.name, self._output)
        if "emulate_tty" in context.launch_configurations:
            setting = context.launch_configurations["emulate_tty"]
            self._emulate_tty = IfCondition(setting).evaluate(context)
        self._kill_after = tuple(float(perform(context, t)) for t in self._timeouts)
        self._kill_texts = (
            perform(context, self._timeouts[0]),
            str(self._kill_after[0] + self._kill_after[1]),
        )
        self._stopping = asyncio.Event()
        self._completed = context.asyncio_loop.create_future()

        def is_for_me(event: Any, kind: type) -> bool:
            return isinstance(event, kind) and event.process_matcher(self)

        context.register_event_handler(
            _Reaction(lambda e: is_for_me(e, ShutdownProcess), lambda e, c: self._stop(True))
        )
        context.register_event_handler(
            _Reaction(lambda e: is_for_me(e, SignalProcess), lambda e, c: self._send(e.signal))
        )
        context.register_event_handler(
            OnShutdown(
                on_shutdown=lambda event, c: self._stop(not event.due_to_sigint or c.noninteractive)
            )
        )
        if self._on_exit is not None:
            context.register_event_handler(OnProcessExit(target_action=self, on_exit=self._on_exit))
        self._start_task(context, self._run(context))
        return None

    def _start_task(self, context: LaunchContext, coroutine: Any) -> None:
        assert context.asyncio_loop is not None
        task = context.asyncio_loop.create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._tasks.discard)

    def _send(self, signal_number: signal.Signals) -> None:
        if self._transport is None or self._pipes is None or self._pipes.exited.done():
            return None
        self._logger.info(f"sending signal '{signal_number.name}' to process[{self.name}]")
        try:
            # Not the transport's send_signal: it may take the exit status from under asyncio.
            os.kill(self._transport.get_pid(), signal_number)
        except ProcessLookupError:
            self._logger.debug(f"signal '{signal_number.name}' not sent: {self.name} has ended")
        return None

    def _stop(self, send_sigint: bool) -> None:
        """Begin to end the process, once."""
        if self._stopping is None or self._stopping.is_set():
            return None
        self._stopping.set()
        assert self._completed is not None
        if self._completed.done():
            return None
        if self._transport is None:
            self._sigint_on_start = send_sigint
        elif self._pipes is not None and not self._pipes.exited.done():
            self._begin_escalation(send_sigint)
        return None

    def _begin_escalation(self, send_sigint: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._escalate())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if send_sigint:
            self._send(signal.SIGINT)

    async def _escalate(self) -> None:
        assert self._pipes is not None
        steps = zip(
            self._kill_after,
            self._kill_texts,
            (signal.SIGINT, signal.SIGTERM),
            (signal.SIGTERM, signal.SIGKILL),
            strict=True,
        )
        for seconds, text, sent, following in steps:
            await asyncio.wait([self._pipes.exited], timeout=seconds)
            if self._pipes.exited.done():
                return
            self._logger.error(
                f"process[{self.name}] failed to terminate '{text}' seconds after receiving "
                f"'{sent.name}', escalating to '{following.name}'"
            )
            self._send(following)

    async def _spawn(self, context: LaunchContext) -> None:
        details = self.process_details
        loop = context.asyncio_loop
        assert details is not None and loop is not None

        def line_writer(logger: Any) -> Callable[[str], None]:
            return lambda line: logger.info(self._output_format.format(line=line, this=self))

        pipes = _Pipes({1: line_writer(self._out), 2: line_writer(self._err)}, loop)
        options: dict[str, Any] = {"cwd": details["cwd"], "env": details["env"]}
        terminals: list[tuple[int, int]] = []
        if self._emulate_tty:
            terminals = [pty.openpty(), pty.openpty()]
            options.update(stdout=terminals[0][1], stderr=terminals[1][1])
        try:
            if self.shell:
                command = " ".join(details["cmd"])
                started = await loop.subprocess_shell(lambda: pipes, command, **options)
            else:
                started = await loop.subprocess_exec(lambda: pipes, *details["cmd"], **options)
        except BaseException:
            for master, _ in terminals:
                os.close(master)
            raise
        finally:
            for _, slave in terminals:
                os.close(slave)
        for fd, (master, _) in enumerate(terminals, start=1):
            reader = os.fdopen(master, "rb", buffering=0)
            await loop.connect_read_pipe(lambda fd=fd: _Terminal(pipes, fd), reader)
        self._transport, self._pipes = started[0], pipes

    async def _run(self, context: LaunchContext) -> None:
        details, stopping = self.process_details, self._stopping
        assert details is not None and stopping is not None and self._completed is not None
        shown = " ".join(part for part in details["cmd"] if part.strip())
        if self._log_cmd:
            self._logger.info(f"process details: cmd='{shown}', cwd='{details['cwd']}'")
        try:
            while True:
                try:
                    await self._spawn(context)
                except Exception:
                    self._logger.error(
                        f"exception occurred while executing process:\n{traceback.format_exc()}"
                    )
                    return
                assert self._transport is not None and self._pipes is not None
                pid = details["pid"] = self._transport.get_pid()
                self._logger.info(f"process started with pid [{pid}]")
                context.emit_event_sync(ProcessStarted(**details))
                if stopping.is_set():  # shutdown came while the process was being started
                    self._begin_escalation(self._sigint_on_start)
                await self._pipes.exited
                await asyncio.wait([self._pipes.drained], timeout=_DRAIN_S)
                self._pipes.flush()
                returncode = self._transport.get_returncode()
                self._transport.close()
                if returncode == 0:
                    self._logger.info(f"process has finished cleanly [pid {pid}]")
                else:
                    self._logger.error(
                        f"process has died [pid {pid}, exit code {returncode}, cmd '{shown}']."
                    )
                context.emit_event_sync(ProcessExited(returncode=returncode, **details))
                if context.is_shutdown or stopping.is_set() or not self._respawn:
                    return
                if self._retries_left == 0:
                    return
                self._retries_left -= 1
                if self._respawn_delay:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), self._respawn_delay)
                if stopping.is_set():
                    return
        finally:
            if self._transport is not None:
                self._transport.close()  # kills the child if the launch itself was cancelled
            if not self._completed.done():
                self._completed.set_result(None)


class _Reaction(EventHandler):
    """Calls a function for each matching event."""

    def __init__(self, matcher: Callable, function: Callable) -> None:
        super().__init__(matcher=matcher)
        self._function = function

    def handle(self, event: Any, context: LaunchContext) -> Any:
        super().handle(event, context)
        return self._function(event, context)


__all__ = ["ExecuteProcess", "LaunchDescriptionEntity", "Substitution"]
