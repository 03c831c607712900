"""An object store on this machine that speaks S3's protocol: moto's server."""

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch, objects: Mapping[str, bytes]) -> Iterator[dict[str, str]]:
    """The options of a store with these objects, by bucket and key, and credentials for it in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        for place in [*dict.fromkeys(name.partition("/")[0] for name in objects), *objects]:
            request = urllib.request.Request(f"{endpoint}/{place}", objects.get(place, b""), method="PUT")
            request.add_header("Content-Type", "application/octet-stream")
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "us3r")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
        yield {"aws_endpoint_url": endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}
    finally:
        server.stop()
