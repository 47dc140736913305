"""A server with instant, constant responses: 204 to DELETE, a profile to GET. So only the client is measured.

It is nginx if that is installed, and otherwise this file, run as a process. This file only looks for the end of a
request's head, so it doesn't support requests with a body.
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from benchmarks.speed_bench.loops import run
from benchmarks.speed_bench.profiles import SMALL

_NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\nServer: static\r\n\r\n"
_PROFILE: Final = (
    b"HTTP/1.1 200 OK\r\nServer: static\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(SMALL), SMALL)
)
_END_OF_HEAD: Final = b"\r\n\r\n"
_NGINX: Final = """
daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type application/json; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ if ($request_method = DELETE) {{ return 204; }} return 200 '{profile}'; }}
  }}
}}
"""


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.endswith(_END_OF_HEAD):
            self._transport.write(_NO_CONTENT if self._head.startswith(b"DELETE ") else _PROFILE)
            self._head = b""


@contextlib.contextmanager
def static_server() -> Iterator[tuple[str, str]]:
    """Run the server during the block. Yield its address and its name."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
        command = [sys.executable, "-m", "benchmarks.speed_bench.server", str(port)]
        if nginx is not None:
            config = _NGINX.format(folder=folder, port=port, profile=SMALL.decode())
            Path(folder, "nginx.conf").write_text(config, "utf-8")
            command = [nginx, "-c", f"{folder}/nginx.conf", "-e", "stderr"]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])  # noqa: S603 - ours or the system's nginx
        try:
            _wait_until_it_answers(process, port)
            yield f"http://127.0.0.1:{port}", "nginx" if nginx else "a static asyncio server"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError("the server didn't start")


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(_serve(int(sys.argv[1])))
