"""What python-subunit and testtools make of streams, for others to compare with."""

import datetime
import io
import json
import runpy
import struct
import sys

import subunit
from subunit.v2 import ByteStreamToStreamResult, StreamResultToBytes
from testtools import StreamResult, StreamSummary, StreamToDict

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def micros(time):
    return None if time is None else (time - EPOCH) // datetime.timedelta(microseconds=1)


class Seen(StreamResult):
    """Keeps events as lists."""

    def __init__(self):
        self.events = []

    def status(self, test_id=None, test_status=None, test_tags=None, runnable=True, file_name=None,
               file_bytes=None, eof=False, mime_type=None, route_code=None, timestamp=None):
        content = None if file_bytes is None else bytes(file_bytes).hex()
        tags = None if test_tags is None else sorted(test_tags)
        self.events.append([test_id, test_status, tags, runnable, file_name, content, eof, mime_type,
                            route_code, micros(timestamp)])


def streams(file):
    """The streams of a file: each behind its length."""
    while head := file.read(4):
        yield file.read(struct.unpack(">I", head)[0])


def read(stream, result):
    ByteStreamToStreamResult(io.BytesIO(stream), non_subunit_name="stdout").run(result)


def again(given, made):
    """Writes the packets of a stream again."""
    read(given.read(), StreamResultToBytes(made))


def parse(given, made):
    """The events of each stream, and what the parser ends with where it does not reach the end."""
    for stream in streams(given):
        seen = Seen()
        try:
            read(stream, seen)
        except Exception as error:
            seen.events.append([f"raised: {error!r}"])
        made.write(json.dumps(seen.events).encode() + b"\n")


def fold(given, made):
    """What became of the tests of each stream, and of the whole."""
    for stream in streams(given):
        tests = []

        def ended(test):
            details = {
                name: [repr(content.content_type), b"".join(content.iter_bytes()).hex()]
                for name, content in test["details"].items()
            }
            tests.append([test["id"], test["status"], sorted(test["tags"]),
                          [micros(time) for time in test["timestamps"]], details])

        dicts, summary = StreamToDict(ended), StreamSummary()
        for result in (dicts, summary):
            result.startTestRun()
            read(stream, result)
            result.stopTestRun()
        line = {"tests": tests, "successful": summary.wasSuccessful(), "run": summary.testsRun}
        made.write(json.dumps(line).encode() + b"\n")


# That of version 1.4.2 takes text from bytes, and raises.
subunit.read_test_list = lambda path: open(path).read().splitlines()


def filtered(given, made):
    """What subunit-filter writes of each stream. Before a stream stands a line with the arguments."""
    for case in streams(given):
        arguments, _, stream = case.partition(b"\n")
        with open("stream", "wb") as file:
            file.write(stream)
        sys.argv, out = ["subunit-filter", *json.loads(arguments), "stream"], io.TextIOWrapper(io.BytesIO())
        sys.stdout, own = out, sys.stdout
        try:
            runpy.run_path("/usr/bin/subunit-filter", run_name="__main__")
        except SystemExit as end:
            assert end.code == 0, (arguments, end.code)
        finally:
            sys.stdout = own
        made.write(json.dumps(out.buffer.getvalue().hex()).encode() + b"\n")


with open(sys.argv[2], "rb") as given, open(sys.argv[3], "wb") as made:
    {"again": again, "parse": parse, "fold": fold, "filter": filtered}[sys.argv[1]](given, made)
