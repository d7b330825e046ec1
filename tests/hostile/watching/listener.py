"""A listener on the loopback interface that counts who comes: nothing of ours has anything to do
there.
"""

import selectors
import socket
import threading


class Listener:
    """Listens at one port of 127.0.0.1 for TCP and UDP while it is entered.

    Attributes:
      port: the number.
      connections: connections and datagrams so far.
    """

    def __enter__(self) -> "Listener":
        self.connections = 0
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.close()
        self._thread.join(10)
        for opened in (self._tcp, self._udp, self._stopped):
            opened.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for opened in (self._tcp, self._udp, self._stopped):
                waiting.register(opened, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is self._stopped:
                        return
                    self.connections += 1
                    if key.fileobj is self._udp:
                        self._udp.recv(2**16)
                    else:
                        # a client that waits for an answer gets an end
                        self._tcp.accept()[0].close()
