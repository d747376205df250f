"""`embodied serve`: a checkpoint or an exported policy for robots that connect."""

import asyncio
import ctypes
import gc
import signal
import time
from typing import Any

from embodied.serving.access import read_token, server_context
from embodied.serving.config import ServeConfig
from embodied.serving.inference import Target
from embodied.serving.runners import find_target
from embodied.serving.server import PolicyServer, Settings

TIDY_SECONDS = 1.0


async def tidy(seconds: float) -> None:
    """Collect garbage every so many seconds, and give free memory back, until cancelled.

    A connection that has ended is a cycle of few objects that hold half a megabyte of buffers: Python, which
    counts objects, would let hundreds of them pile up. The C library keeps what was freed between buffers of
    other sizes, a little more with every thousand visitors, until it is told to trim (glibc's `malloc_trim`;
    others have none). With what was imported frozen either takes about 1 ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while True:
        await asyncio.sleep(seconds)
        gc.collect()
        if trim is not None:
            trim(0)


def serve(config: ServeConfig) -> dict[str, Any]:
    """Serve until SIGTERM or SIGINT. Returns `address`, `checkpoint`, `seconds` and `requests` by outcome."""
    target = find_target(
        config.policy.path, null=config.null, device=config.device, overrides=config.policy_overrides
    )
    return asyncio.run(run_server(target, settings_of(config)))


def settings_of(config: ServeConfig) -> Settings:
    """How to serve, files read; UserError for one that cannot be used."""
    tls = None
    if config.tls_cert is not None and config.tls_key is not None:
        tls = server_context(config.tls_cert, config.tls_key)
    return Settings(
        host=config.host,
        port=config.port,
        tls=tls,
        token=None if config.token_file is None else read_token(config.token_file),
        modes=() if config.modes is None else tuple(mode.strip() for mode in config.modes.split(",")),
        mode=config.mode,
        max_candidates=config.max_candidates,
        max_sessions=config.max_sessions,
        max_batch=config.max_batch,
        openpi=config.openpi,
        inference_timeout=config.inference_timeout,
    )


async def run_server(target: Target, settings: Settings) -> dict[str, Any]:
    """Serve until SIGTERM or SIGINT, then drain. Returns what `serve` returns."""
    begun = time.monotonic()
    server = PolicyServer(target, settings)
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        await server.inference.stop()
        return {"requests": server.metrics.outcomes()}
    await starting
    gc.collect()
    gc.freeze()  # a full collection of all that was imported would make every answer late
    tidying = asyncio.create_task(tidy(TIDY_SECONDS))
    scheme = "ws" if settings.tls is None else "wss"
    address = f"{scheme}://{settings.host}:{server.port}"
    checkpoint = server.specification.checkpoint
    print(
        f"serving {checkpoint[:12]} at {address}, modes {', '.join(server.specification.modes)}", flush=True
    )
    await asyncio.wait([stopping, server.failure], return_when=asyncio.FIRST_COMPLETED)
    print("draining", flush=True)
    tidying.cancel()
    await server.drain()
    if server.failure.done():
        server.failure.result()
    return {
        "address": address,
        "checkpoint": checkpoint,
        "seconds": time.monotonic() - begun,
        "requests": server.metrics.outcomes(),
    }
