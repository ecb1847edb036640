"""A bucket on this machine, in a process of its own: gcp-storage-emulator and what it lacks.

Added here, after the reference of Google's JSON API: writing and deleting on the condition
``ifGenerationMatch`` (0: there is no such object), the header ``x-goog-generation``, the ends of a
listing, and moving. Requests are answered one after the other, as the emulator does, so a condition
holds until its write is done.

    python tests/bucket_server.py LOG     # prints the port; a line per request goes to LOG
"""

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
from http.server import HTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, unquote, urlparse

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

BUCKET = "a-bucket"


@dataclasses.dataclass(frozen=True)
class Server:
    """One that runs."""

    log: Path
    bucket: str = BUCKET

    def requests(self):
        """What it was asked so far: ``POST /upload/...``."""
        return [line.split(" HTTP/")[0].strip('"') for line in self.log.read_text().splitlines()]


@contextlib.contextmanager
def serving(log):
    """Starts one and points the clients of this process and of its children to it."""
    command = [sys.executable, __file__, str(log)]
    with (
        open(f"{log}.errors", "w") as errors,
        subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        clients = {
            "STORAGE_EMULATOR_HOST": address,  # Google's client and gcsfs
            "FSSPEC_GCS_TOKEN": "anon",  # gcsfs
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks by gRPC, which is not emulated
            "TENSORSTORE_GCS_HTTP_URL": address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # TensorStore: do not look for credentials
        }
        try:
            with mock.patch.dict(os.environ, clients):
                import fsspec  # reads the environment when it is first imported

                fsspec.config.set_conf_env(fsspec.config.conf)
                yield Server(log)
        finally:
            process.kill()


class PreconditionFailed(Exception):
    """Another generation is there than the request names."""


class Conditional(Storage):
    """The emulator's storage; ``query`` is that of the request that is being answered."""

    query: dict = {}

    def generation(self, bucket, name):
        try:
            return self.get_file_obj(bucket, name)["generation"]
        except NotFound:
            return "0"

    def check(self, bucket, name):
        wanted = self.query.get("ifGenerationMatch")
        if wanted and wanted[0] != self.generation(bucket, name):
            raise PreconditionFailed

    def create_file(self, bucket, name, *rest):
        self.check(bucket, name)
        super().create_file(bucket, name, *rest)

    def delete_file(self, bucket, name):
        self.check(bucket, name)
        super().delete_file(bucket, name)

    def get_file_list(self, *args, **kwargs):
        files, prefixes = super().get_file_list(*args, **kwargs)
        start = self.query.get("startOffset", [""])[0]
        end = self.query.get("endOffset", ["\U0010ffff"])[0]
        return [file for file in files if start <= file["name"] < end], prefixes


class Handler(server.RequestHandler):
    def __init__(self, log, *args):
        self.log = log
        super().__init__(*args)

    def answer(self, method):
        self.storage.query = parse_qs(urlparse(self.path).query)
        try:
            if "/moveTo/o/" in self.path:
                self.move(*unquote(urlparse(self.path).path).split("/moveTo/o/"))
            else:
                server.Router(self).handle(method)
        except PreconditionFailed:
            self.send_error(412)
        except NotFound:
            self.send_error(404)

    def move(self, source, target):
        name = source.partition("/o/")[2]
        copy = objects._copy("", self.storage, BUCKET, name, BUCKET, target)
        self.storage.delete_file(BUCKET, name)
        response = server.Response(self)
        response.json(copy)
        response.close()

    def end_headers(self):
        place, _, name = urlparse(self.path).path.partition("/o/")
        if self.command == "GET" and name:
            found = self.storage.generation(place.rpartition("/")[2], unquote(name))
            self.send_header("x-goog-generation", found)
        super().end_headers()

    def log_message(self, form, *args):
        print(unquote(form % args), file=self.log, flush=True)

    do_GET = functools.partialmethod(answer, "GET")
    do_POST = functools.partialmethod(answer, "POST")
    do_PUT = functools.partialmethod(answer, "PUT")
    do_PATCH = functools.partialmethod(answer, "PATCH")
    do_DELETE = functools.partialmethod(answer, "DELETE")


def main():
    storage = Conditional(use_memory_fs=True)
    buckets.create_bucket(BUCKET, storage)
    with open(sys.argv[1], "w") as log:
        httpd = HTTPServer(("127.0.0.1", 0), functools.partial(Handler, log, storage))
        print(httpd.server_address[1], flush=True)
        httpd.serve_forever()


if __name__ == "__main__":
    main()
