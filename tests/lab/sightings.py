"""From which host does a guest speak? Listens on the hosts' links to the guests' network and notes every frame that a host
sends with the guest's address as its source: two copies that run at once can't hide from it."""
import select, socket, threading, time
from dataclasses import dataclass

OUTGOING = 4  # PACKET_OUTGOING: what the bridge hands to the host


@dataclass
class Run:
    """Frames that came from one host, none from another in between."""
    host: int
    first: float
    last: float
    frames: int = 0


class Sightings(threading.Thread):
    def __init__(self, lab, mac):
        super().__init__(daemon=True)
        self.lab, self.mac, self.runs, self.stopping = lab, bytes.fromhex(mac.replace(':', '')), [], False
        self.ready = threading.Event()
        self.start()
        if not self.ready.wait(10):
            raise OSError('no packet sockets')

    def run(self):
        self.lab.net.enter()
        links = {}
        for h in self.lab.hosts:
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))  # ETH_P_ALL
            s.bind((h.taps['lan'], 0))
            links[s] = h.number
        self.ready.set()
        while not self.stopping:
            for s in select.select([*links], [], [], 0.2)[0]:
                frame, where = s.recvfrom(14)
                if where[2] != OUTGOING and frame[6:12] == self.mac:
                    self.note(links[s], time.monotonic())

    def note(self, host, now):
        if not self.runs or self.runs[-1].host != host:
            self.runs.append(Run(host, now, now))
        self.runs[-1].last = now
        self.runs[-1].frames += 1

    def hosts(self, since=0.0):
        """The hosts it was heard from, in turn: [1, 2] after one failover, [1, 2, 1, ...] for anything worse."""
        return [r.host for r in list(self.runs) if r.last >= since]

    def stop(self):
        self.stopping = True
        self.join(5)
