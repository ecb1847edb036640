"""A judge on this machine: an HTTP server that speaks OpenAI's protocol, and fails as it is told.

It reads the request as a judge would: the completion, the criteria and what the reply must look
like come out of the body alone. A criterion is met where the completion contains its text.
"""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-secret-0123456789"


class Judging(ThreadingHTTPServer):
    """Serves until it is closed.

    ``script`` says what it does to the calls that come first, one entry each: a status, a
    dictionary of headers with a status, or a function of (handler, verdicts). Later ones get a
    good answer, as do those with an entry None.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, script=(), latency_s=0.0, always=None, answer=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.latency_s, self.always = list(script), latency_s, always
        self.answer = answer or verdicts_on  # what it says to a body: verdicts, or a text
        self.turn = threading.Lock()
        self.bodies, self.headers, self.times = [], [], []
        self.under_way = self.most_under_way = 0

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that hung up is what some tests are about."""


@contextlib.contextmanager
def judging(*script, **options):
    """A server that runs until the block ends."""
    with Judging(script, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.turn:
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
            act = server.script.pop(0) if server.script else server.always
        try:
            time.sleep(server.latency_s)
            self.act(act, server.answer(body))
        finally:
            with server.turn:
                server.under_way -= 1

    def act(self, act, verdicts):
        if act is None:
            self.reply(verdicts)
        elif callable(act):
            act(self, verdicts)
        elif isinstance(act, int):
            self.send(act, b'{"error": {"message": "as told"}}')
        else:
            status, headers = act
            self.send(status, b'{"error": {"message": "as told"}}', headers)

    def reply(self, verdicts):
        """A good answer around a reply: the verdicts, or a text in their place."""
        text = verdicts if isinstance(verdicts, str) else json.dumps({"verdicts": verdicts})
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        self.send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def send(self, status, data, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        """Nothing on standard error."""


def verdicts_on(body):
    """What an honest judge finds."""
    asked = json.loads(body["messages"][1]["content"])
    return [
        {"criterion": item["criterion"], "met": item["text"] in asked["completion"]}
        for item in asked["criteria"]
    ]


def hang_up(handler, verdicts):
    """Ends the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.wfile.flush()
    handler.connection.close()
    handler.close_connection = True


def says(text):
    """A good answer whose reply is this text."""
    return lambda handler, verdicts: handler.reply(text)


def sends(data, status=200):
    """These bytes in place of an answer."""
    return lambda handler, verdicts: handler.send(status, data)


def drips(handler, verdicts):
    """A byte now and then, and never the end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(500):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)
    handler.close_connection = True
