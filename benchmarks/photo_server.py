"""A plain, quick photo server for benchmarks: `python photo_server.py FOLDER` prints its port and serves for ever.

`/p/<number>.jpg` is the JPEG `number mod num_files` of the folder with its number in a comment, so that no two are the
same bytes; keep-alive, sendfile, a thread a connection.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading


def serve(folder: str) -> None:
    """Print the port, then answer until killed."""
    files = [os.open(entry.path, os.O_RDONLY) for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)]
    sizes = [os.fstat(file).st_size for file in files]
    heads = [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n\xff\xd8" % (size + len(comment(0)))
        for size in sizes
    ]
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)

    def talk(sock: socket.socket) -> None:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    block = sock.recv(4096)
                    if not block:
                        return
                    buffer += block
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].split(b"?")[0]
                if not path.startswith(b"/p/"):
                    sock.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                    continue
                number = int(path[3:].split(b".")[0])
                which = number % len(files)
                sock.sendall(heads[which] + comment(number), socket.MSG_MORE)
                sent = 2  # the start marker, which went before the comment
                while sent < sizes[which]:
                    sent += os.sendfile(sock.fileno(), files[which], sent, sizes[which] - sent)
                if b"connection: close" in head.lower():
                    return

    def guarded(sock: socket.socket) -> None:
        try:
            talk(sock)
        except OSError:
            pass

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=guarded, args=(sock,), daemon=True).start()


def comment(number: int) -> bytes:
    """A JPEG's comment segment: marker, length, eight bytes."""
    return b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", help="JPEG files")
    serve(parser.parse_args().folder)
