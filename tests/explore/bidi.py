"""Firefox as Debian ships it, driven over WebDriver BiDi: the part of Playwright's tab that numbers need."""

import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
FOUND = """new Promise((found) => {
  const look = () => document.querySelector(%s) ? found(true) : setTimeout(look, 5);
  look();
})"""


class Connection:
    """Commands to the browser, one at a time; events that arrive meanwhile go to `hear`."""

    def __init__(self, socket):
        self.socket, self.ids, self.hear = socket, itertools.count(1), lambda event: None

    def __call__(self, method, timeout=60, **params):
        call = next(self.ids)
        self.socket.send(json.dumps({"id": call, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=timeout))
            if message["type"] == "event":
                self.hear(message)
            elif message.get("id") == call:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['message']}")
                return message["result"]


class Tab:
    """A tab that writes errors and requests into `faults`, the latter where `forbidden` says so."""

    def __init__(self, send, faults, forbidden):
        self.send, self.faults, self.forbidden = send, faults, forbidden
        self.id = send("browsingContext.create", type="tab")["context"]
        send("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"], contexts=[self.id])
        send.hear = self._heard

    def _heard(self, event):
        params = event["params"]
        if event["method"] == "log.entryAdded" and params["level"] in ("error", "warn"):
            self.faults.append(params["text"])
        elif event["method"] == "network.beforeRequestSent" and self.forbidden(params["request"]["url"]):
            self.faults.append(f"request of {params['request']['url']}")

    def goto(self, url):
        self.send("browsingContext.navigate", context=self.id, url=url, wait="complete")

    def evaluate(self, script, timeout=60_000):
        """The value of a script, by way of JSON; the timeout is in milliseconds, as Playwright has it."""
        text = f"(async () => JSON.stringify(await ({script})) ?? 'null')()"
        asked = {"expression": text, "target": {"context": self.id}, "awaitPromise": True}
        found = self.send("script.evaluate", timeout / 1000, **asked)
        if found["type"] == "exception":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    def wait_for_selector(self, selector, timeout=60_000):
        self.evaluate(FOUND % json.dumps(selector), timeout)

    def close(self):
        self.evaluate("new Promise((done) => setTimeout(done, 100))")  # errors come a little later than answers
        self.send("browsingContext.close", context=self.id)


@contextmanager
def started(profile):
    """A connection to a new browser, which ends with it."""
    from websockets.sync.client import connect

    options = ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(profile)]
    with subprocess.Popen([FIREFOX, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server, give_up = profile / "WebDriverBiDiServer.json", time.monotonic() + 60
            while not (server.is_file() and server.read_text().endswith("}")):
                if process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError("Firefox did not open its WebDriver BiDi server")
                time.sleep(0.05)
            address = json.loads(server.read_text())
            where = f"ws://{address['ws_host']}:{address['ws_port']}/session"
            with connect(where, proxy=None, max_size=None) as socket:
                send = Connection(socket)
                send("session.new", capabilities={})
                yield send
        finally:
            process.terminate()
