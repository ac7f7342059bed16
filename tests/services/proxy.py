"""A TCP proxy that counts, slows down, cuts, or is down for a while."""

import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Forwards to a port of this machine; `gets` and `sent` count what passed."""

    def __init__(self, port, *, cut_after=None, delay=0.0, down=0.0):
        self.target, self.cut_after, self.delay = port, cut_after, delay
        self.down, self.down_until = down, 0.0
        self.sent, self.gets, self.refused = 0, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            if time.monotonic() < self.down_until:
                self.refused += 1
                client.close()
                continue
            threading.Thread(target=self._both, args=(client,), daemon=True).start()

    def _both(self, client):
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            there = threading.Thread(target=self._pass, args=(client, server, False))
            there.daemon = True
            there.start()
            self._pass(server, client, True)
            there.join()

    def _pass(self, source, sink, back):
        with suppress(OSError):
            while data := source.recv(2**16):
                if back:
                    self._count(len(data))
                else:
                    self.gets += data.count(b"GET /")
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count(self, size):
        time.sleep(self.delay)
        self.sent += size
        if self.cut_after is not None and self.sent > self.cut_after:
            self.cut_after = None
            self.down_until = time.monotonic() + self.down
            raise OSError("cut")
