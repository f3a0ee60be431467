"""The machines around the gateway, driven from it by the command `testbed`."""

import subprocess


class Tester:
    """A tester on its wire, or in a VLAN there, with an address, and the gateway's for its way out."""

    def __init__(self, name, address, gateway, vlan=None):
        self.name = name
        self.address = address
        self.interface = "wire" if vlan is None else f"wire.{vlan}"
        if vlan is not None:
            self.run("ip", "link", "add", "link", "wire", "name", self.interface, "type", "vlan", "id", str(vlan))
            self.run("ip", "link", "set", self.interface, "up")
        self.run("ip", "address", "add", f"{address}/24", "dev", self.interface)
        self.run("ip", "route", "replace", "default", "via", gateway)

    def leave_vlan(self):
        """Removes the interface in the VLAN, and with it the address and the routes."""
        self.run("ip", "link", "delete", self.interface)

    def run(self, *program):
        """Runs a program there, which has to succeed."""
        subprocess.run(["testbed", "exec", self.name, "--", *program], check=True, stdin=subprocess.DEVNULL)

    def pings(self, target):
        """Whether the target answers."""
        return _succeeds("ping", self.name, target, "--wait", "1s")

    def connects(self, address, port):
        """What a server says at once to whoever connects; None if there is no connection."""
        call = ["testbed", "tcp", "connect", self.name, f"{address}:{port}", "--wait", "1s"]
        done = subprocess.run(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return done.stdout if done.returncode == 0 else None

    def sends(self, address, port, text):
        """Sends a datagram."""
        subprocess.run(["testbed", "udp", "send", self.name, f"{address}:{port}", text], check=True)

    def serve(self, port):
        """Serves one TCP connection, by saying who answers."""
        return Background("tcp", "listen", self.name, str(port), "--greeting", self.name, "--timeout", "10s")


def sniff(network, packets, timeout="5s"):
    """Waits for one packet of a network that matches the filter. Its end tells whether there was one."""
    return Background("net", "capture", network, "--filter", packets, "--count", "1", "--timeout", timeout)


class Background:
    """Something that goes on beside the test; it is ready when this returns."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            ["testbed", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = self.process.stderr.readline()
        if said != "ready\n":
            raise RuntimeError(f"{' '.join(words)}: {said}{self.process.communicate()[1]}")

    def succeeds(self):
        """Waits for its end."""
        return self.process.wait() == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def _succeeds(*words):
    return subprocess.run(["testbed", *words], stdin=subprocess.DEVNULL).returncode == 0
