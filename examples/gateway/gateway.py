"""A gateway: what is under test.

It is told what to do by a configuration, and makes the kernel do it:

    {
        "vlans": {"guests": {"on": "servers", "id": 93}},
        "interfaces": {"inside": "10.0.91.1/24", "servers": "10.0.93.1/24"},
        "allow": [["inside", "servers"]],
        "blocked": [{"protocol": "tcp", "port": 23}],
        "redirects": [{"protocol": "tcp", "address": "10.0.91.1", "port": 80,
                       "server": "10.0.93.10", "server_port": 88}],
        "hidden_behind": ["outside"]
    }

As a program, it reads one from its standard input.
"""

import json
import subprocess
import sys

MANAGEMENT = "eth0"


class Gateway:
    def __init__(self, configuration):
        self.vlans = configuration.get("vlans", {})
        self.interfaces = configuration.get("interfaces", {})
        self.allow = configuration.get("allow", [])
        self.blocked = configuration.get("blocked", [])
        self.redirects = configuration.get("redirects", [])
        self.hidden_behind = configuration.get("hidden_behind", [])

    def apply(self):
        """Has the kernel do it, in place of whatever it did before."""
        for name in vlans():
            _run("ip", "link", "delete", name)
        for name, vlan in self.vlans.items():
            _run("ip", "link", "add", "link", vlan["on"], "name", name, "type", "vlan", "id", str(vlan["id"]))
        for name, address in self.interfaces.items():
            _run("ip", "address", "flush", "dev", name)
            _run("ip", "address", "add", address, "dev", name)
            _run("ip", "link", "set", name, "up")
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forwarding:
            forwarding.write("1")
        _run("nft", "-f", "-", text=self.ruleset())

    def ruleset(self):
        """All rules; nft replaces the old ones by them at once, or not at all."""
        redirects = [
            "ip daddr {address} {protocol} dport {port} dnat to {server}:{server_port}".format(**redirect)
            for redirect in self.redirects
        ]
        hides = [f'oifname "{name}" masquerade' for name in self.hidden_behind]
        forwards = ["ct state established,related accept"]
        forwards += ["{protocol} dport {port} drop".format(**blocked) for blocked in self.blocked]
        forwards += ["ct status dnat accept"]
        forwards += [f'iifname "{source}" oifname "{target}" accept' for source, target in self.allow]
        own = [f'iifname {{ "lo", "{MANAGEMENT}" }} accept', "ct state established,related accept"]
        own += ["icmp type echo-request accept"]
        return "\n".join(
            ["table ip gateway", "delete table ip gateway", "table ip gateway {"]
            + _chain("prerouting", "type nat hook prerouting priority dstnat", redirects)
            + _chain("postrouting", "type nat hook postrouting priority srcnat", hides)
            + _chain("forward", "type filter hook forward priority filter; policy drop", forwards)
            + _chain("input", "type filter hook input priority filter; policy drop", own)
            + ["}", ""]
        )


def vlans():
    """The names of all VLAN interfaces that there are."""
    listed = subprocess.run(["ip", "-json", "link", "show", "type", "vlan"], stdout=subprocess.PIPE, check=True)
    return [link["ifname"] for link in json.loads(listed.stdout or "[]") if link]


def _chain(name, hook, rules):
    return [f"chain {name} {{", f"{hook};", *rules, "}"]


def _run(*command, text=None):
    subprocess.run(command, input=text, text=True, check=True)


if __name__ == "__main__":
    Gateway(json.load(sys.stdin)).apply()
