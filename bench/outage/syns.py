"""A network of its own, and every connection that anybody in it asks for: what comes to a port where nobody listens, or nobody answers,
is in no provider's log.

Linux, as root. The filter is the kernel's; only the first packet of a connection is looked at.
"""

import ctypes
import fcntl
import socket
import struct
import threading

NEW_NETWORK, SET_FLAGS, UP_AND_RUNNING = 0x40000000, 0x8914, 0x41
ATTACH_FILTER, ALL_IPV4 = 26, 0x0800


def own_network():
    """Moves this process, and those that it starts, to a network that has nothing but a loopback."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "a network of its own needs root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SET_FLAGS, struct.pack("16sh14x", b"lo", UP_AND_RUNNING))


class Syns:
    """Connections asked for since the start, by port; a repeated packet is the same connection."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_IPV4))
        # IPv4, TCP, SYN without ACK; an IP header on a loopback has no options.
        program = [(0x28, 0, 0, 12), (0x15, 0, 6, 0x0800), (0x30, 0, 0, 23), (0x15, 0, 4, 6), (0x30, 0, 0, 47), (0x54, 0, 0, 0x12),
                   (0x15, 0, 1, 0x02), (0x06, 0, 0, 64), (0x06, 0, 0, 0)]
        self.code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
        attached = struct.pack("HL", len(program), ctypes.addressof(self.code))
        self.socket.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, attached)
        self.socket.bind(("lo", 0))
        self.seen, self.counts = set(), {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            packet = self.socket.recv(128)
            source, port, sequence = struct.unpack_from("!HHI", packet, 34)
            if (source, port, sequence) not in self.seen:
                self.seen.add((source, port, sequence))
                self.counts[port] = self.counts.get(port, 0) + 1

    def to(self, port):
        return self.counts.get(port, 0)
