"""Tests of the gateway between VLANs. They run on it, and add and remove the VLANs of all machines."""

import unittest

from gateway import Gateway, vlans
from testers import Tester, sniff

VLANS = {"inside": {"on": "wire", "id": 91}, "servers": {"on": "wire", "id": 93}}
INTERFACES = {"inside": "10.0.91.1/24", "servers": "10.0.93.1/24"}


class TestVlans(unittest.TestCase):
    def setUp(self):
        self.assertEqual(vlans(), [], "somebody has left a VLAN behind")
        self.addCleanup(Gateway({}).apply)
        self.client = self.join("tester-2", "10.0.91.10", "10.0.91.1", vlan=91)

    def join(self, name, address, gateway, vlan):
        tester = Tester(name, address, gateway, vlan)
        self.addCleanup(tester.leave_vlan)
        return tester

    def configure(self, **configuration):
        Gateway({"vlans": VLANS, "interfaces": INTERFACES, **configuration}).apply()

    def test_web_traffic_is_redirected(self):
        server = self.join("tester-3", "10.0.93.10", "10.0.93.1", vlan=93)
        ports = (80, 44444, 88)
        redirects = [
            {"protocol": "tcp", "address": "10.0.91.1", "port": port, "server": server.address, "server_port": 88}
            for port in ports
        ]
        self.configure(redirects=redirects)
        for port in ports:
            with self.subTest(port=port), server.serve(88) as serving:
                self.assertEqual(self.client.connects("10.0.91.1", port), server.name)
                self.assertTrue(serving.succeeds())
        self.assertIsNone(self.client.connects("10.0.91.1", 81))

    def test_packets_carry_the_tag(self):
        server = self.join("tester-3", "10.0.93.10", "10.0.93.1", vlan=93)
        self.configure(allow=[["inside", "servers"]])
        before = sniff("wire", "vlan 91 and udp port 5000")
        behind = sniff("wire", "vlan 93 and udp port 5000")
        untagged = sniff("wire", "udp port 5000", "1s")
        with before, behind, untagged:
            self.client.sends(server.address, 5000, "hello")
            self.assertTrue(before.succeeds())
            self.assertTrue(behind.succeeds())
            self.assertFalse(untagged.succeeds())

    def test_vlans_are_apart(self):
        self.configure(allow=[["inside", "servers"]])
        stranger = Tester("tester-3", "10.0.93.10", "10.0.93.1", vlan=94)
        try:
            self.assertTrue(self.client.pings("10.0.93.1"))
            self.assertFalse(self.client.pings(stranger.address))
        finally:
            stranger.leave_vlan()
        server = self.join("tester-3", "10.0.93.10", "10.0.93.1", vlan=93)
        self.assertTrue(self.client.pings(server.address))


if __name__ == "__main__":
    unittest.main()
