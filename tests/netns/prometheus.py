"""A real Prometheus inside a host of the laboratory, and what it answers."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gred.lab.hosts import Host
from gred.lab.waiting import wait_for

PORT = 9090

_CONFIGURATION = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: gred
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Runs on *host*, with its data in *directory*; scrapes *target* each second."""

    def __init__(self, program: str, host: Host, directory: Path, target: str, rules: Path) -> None:
        self._host = host
        configuration = directory / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(rules=rules, target=target))
        self._log = directory / "prometheus.log"
        with self._log.open("wb") as log:
            host.start(
                [
                    program,
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{PORT}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, "Prometheus answers")

    def log(self) -> str:
        """Return what it said."""
        return self._log.read_text(errors="replace")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that *expression* has now. Fails for one that is none."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def ask(self, what: str, **parameters: str) -> Any:
        """Return the data of an answer of its HTTP API."""
        status, body = self._get(f"/api/v1/{what}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200, (parameters, answer)
        assert answer["status"] == "success", (parameters, answer)
        assert not answer.get("warnings"), (parameters, answer)
        return answer["data"]

    def _get(self, path: str) -> tuple[int, bytes]:
        with self._host.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(30)
            client.connect(("127.0.0.1", PORT))
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n".encode())
            told = b"".join(iter(lambda: client.recv(65536), b""))
        head, _blank, body = told.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def _answers(self) -> bool:
        try:
            return self._get("/-/ready")[0] == 200
        except OSError:
            return False
