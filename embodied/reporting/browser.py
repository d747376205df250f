"""A page as a reader's browser shows it: headless Chromium, driven over its debugging pipe.

For the report's test and its screenshots. Needs no package: the Chrome DevTools Protocol is JSON, ended by a
zero byte, on the browser's file descriptors 3 (in) and 4 (out). The browser can reach no network.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from embodied.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSTALL_LINE = "no Chromium found; as root: apt-get install -y --no-install-recommends chromium"
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to run as root with it; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
HEIGHTS = {390: 844, 1400: 900}
"""Heights of the windows, in CSS pixels, for the widths of a phone and of a desktop."""

Message = dict[str, Any]


def find_browser() -> str | None:
    """The path of an installed Chromium, None if there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Page:
    """One tab. `events` are all messages that the browser sent unasked, in their order."""

    def __init__(self, commands: IO[bytes], replies: IO[bytes]) -> None:
        """commands, replies: our ends of the browser's debugging pipe, unbuffered."""
        self._commands, self._replies = commands, replies
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.events: list[Message] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _receive(self) -> Message:
        while b"\0" not in self._buffer:
            piece = self._replies.read(1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended before it answered")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def send(self, method: str, **parameters: Any) -> Message:
        """Give a command of the protocol and return its result."""
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        command = {"id": self._count, "method": method, "params": parameters, **session}
        self._commands.write(json.dumps(command).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def _wait_for(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            self.events.append(self._receive())

    def open(self, path: Path, *, width: int, dark: bool) -> None:
        """Load a file in a window `width` CSS pixels wide; `events` are those since."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.resize(width, HEIGHTS.get(width, 900))
        self.events = []
        self.send("Page.navigate", url=path.resolve().as_uri())
        self._wait_for("Page.loadEventFired")

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Show the page in a window of this size in CSS pixels, `scale` device pixels each."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self.send("Emulation.setDeviceMetricsOverride", mobile=width < 700, **size)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression in the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"in the page: {result['exceptionDetails']}")
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def problems(self) -> list[str]:
        """Errors and warnings on the console since the page was opened, and exceptions."""
        texts = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                texts.append(json.dumps(parameters["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                texts.append(parameters["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                texts.append(json.dumps(parameters["args"]))
        return texts

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, itself included, data URIs not."""
        requested = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in requested]
        return [address for address in addresses if not address.startswith("data:")]

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self.send("Browser.close")


@contextmanager
def open_browser() -> Iterator[Page]:
    """A tab of a new browser with a profile of its own, which ends with the block. UserError without one."""
    browser = find_browser()
    if browser is None:
        raise UserError(INSTALL_LINE)
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    with (
        tempfile.TemporaryDirectory(prefix="report-browser-", ignore_cleanup_errors=True) as profile,
        os.fdopen(our_out, "wb", buffering=0) as commands,
        os.fdopen(our_in, "rb", buffering=0) as replies,
    ):
        # The shell puts the pipe's ends where Chromium looks for them.
        wiring = f'exec "$@" 3<&{their_in} 4>&{their_out}'
        process = subprocess.Popen(
            ["bash", "-c", wiring, "bash", browser, *OPTIONS, f"--user-data-dir={profile}"],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        os.close(their_in)
        os.close(their_out)
        try:
            page = Page(commands, replies)
            yield page
            page.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
        finally:
            process.kill()
            process.wait()
