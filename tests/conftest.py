"""What tests talk to is on this machine, and is reached directly even where ``http_proxy`` is set, for pip perhaps."""

import os

os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1", "localhost", "::1")))
