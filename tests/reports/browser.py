"""A real browser without a window, spoken to over a pipe by Chromium's DevTools protocol.

https://chromedevtools.github.io/devtools-protocol: messages are JSON, each ended by a zero byte;
the browser reads from file 3 and writes to file 4.
"""

import base64
import json
import os
import select
import subprocess
import time
from pathlib import Path

_PATIENCE = 60.0


class Browser:
    """One process; :meth:`open` gives pages."""

    def __init__(self, path, folder):
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        flags = [
            "--headless",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            # Whatever a page asks for, no name is looked up.
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")

        # Above 3 and 4, so that neither is overwritten before it is moved there.
        low = [os.dup(fd) for fd in (to_read, to_write)]
        while min(low) <= 4:
            low = [os.dup(fd) for fd in low]
        command = f'exec "$0" "$@" 3<&{low[0]} 4>&{low[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, path, *flags],
            pass_fds=low,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (to_read, to_write, *low):
            os.close(fd)
        self._buffer = b""
        self._id = 0
        self.events = []

    def close(self):
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, EOFError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _message(self):
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], _PATIENCE)[0]:
                raise TimeoutError("the browser does not answer")
            found = os.read(self._from, 1 << 16)
            if not found:
                raise EOFError("the browser ended")
            self._buffer += found
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def call(self, method, session=None, **params):
        """The result of one command; events that come meanwhile are kept."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self._id:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self.events.append(found)

    def open(self, path, scripts=True, dark=False, width=1300, height=900):
        """A page of a file, loaded."""
        return Page(self, Path(path), scripts, dark, width, height)


class Page:
    """A tab. Requests for anything but its own file, and every error, are remembered."""

    def __init__(self, browser, path, scripts, dark, width, height):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._scripts = scripts
        self._target = target
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)
        self.url = path.resolve().as_uri()
        self.call("Page.navigate", url=self.url)
        deadline = time.monotonic() + _PATIENCE
        while not self._events("Page.loadEventFired"):
            if time.monotonic() > deadline:
                raise TimeoutError("the page does not load")
            # Any command makes the browser say what happened.
            self.call("Page.getFrameTree")
            time.sleep(0.02)

    def call(self, method, **params):
        return self._browser.call(method, self._session, **params)

    def _events(self, name):
        own = [e for e in self._browser.events if e.get("sessionId") == self._session]
        return [e["params"] for e in own if e.get("method") == name]

    def run(self, script):
        """The value of an expression; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def settle(self):
        """Wait until what was asked for is drawn; without scripts nothing waits to be."""
        if not self._scripts:
            return
        self.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")

    def click(self, selector, index=0):
        """A real press of the mouse in the middle of an element."""
        box = self.run(
            f"(() => {{ const e = document.querySelectorAll({json.dumps(selector)})[{index}];"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )
        self.settle()

    def type(self, selector, text):
        """Text as if it were typed into a field, in place of what stands there."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.focus(); e.select(); })()"
        )
        self.call("Input.insertText", text=text)
        self.settle()

    def requests(self):
        """Addresses that the page asked for, its own left out."""
        sent = [e["request"]["url"] for e in self._events("Network.requestWillBeSent")]
        return [url for url in sent if url != self.url and not url.startswith("data:")]

    def problems(self):
        """Exceptions, messages of the console, violations of the policy."""
        self.call("Page.getFrameTree")
        found = [e["exceptionDetails"]["text"] for e in self._events("Runtime.exceptionThrown")]
        found += [str(e["args"]) for e in self._events("Runtime.consoleAPICalled")]
        return found + [e["entry"]["text"] for e in self._events("Log.entryAdded")]

    def picture(self):
        """A PNG of what is in view."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)
