"""A webhook on this machine that prints the alerts it is sent: `python examples/webhook.py 8080`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Webhook(BaseHTTPRequestHandler):
    """Takes what apprise's `json://` channel posts."""

    def do_POST(self) -> None:
        """Print title and text."""
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(f"{told['type']}: {told['title']}\n{told['message']}\n", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing: the alerts are the output."""


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Webhook)
    print(f"waiting for alerts at json://127.0.0.1:{server.server_port}/alerts", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
