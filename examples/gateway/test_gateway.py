"""Tests of the gateway. They run on it, so what they configure is the kernel below their own feet."""

import unittest

from gateway import Gateway
from testers import Tester, sniff

INTERFACES = {"outside": "198.51.100.1/24", "inside": "10.0.91.1/24", "servers": "10.0.93.1/24"}
OPEN = [["inside", "servers"], ["inside", "outside"]]


class TestGateway(unittest.TestCase):
    def setUp(self):
        self.world = Tester("tester-1", "198.51.100.10", gateway="198.51.100.1")
        self.client = Tester("tester-2", "10.0.91.10", gateway="10.0.91.1")
        self.server = Tester("tester-3", "10.0.93.10", gateway="10.0.93.1")

    def configure(self, **configuration):
        Gateway({"interfaces": INTERFACES, **configuration}).apply()

    def assert_connection(self, client, address, port, server, server_port):
        """A server on a port of its own answers whoever dials another."""
        with server.serve(server_port) as serving:
            self.assertEqual(client.connects(address, port), server.name)
            self.assertTrue(serving.succeeds())

    def test_ping_passes_where_it_is_allowed(self):
        self.configure(allow=OPEN)
        self.assertTrue(self.client.pings("10.0.91.1"))
        self.assertTrue(self.client.pings(self.server.address))
        self.assertTrue(self.client.pings(self.world.address))

    def test_ping_does_not_pass_where_nothing_allows_it(self):
        self.configure(allow=OPEN)
        self.assertFalse(self.world.pings(self.client.address))
        self.assertFalse(self.world.pings(self.server.address))
        # Nothing the gateway does reaches the management network.
        self.assertTrue(self.world.pings("tester-3"))

    def test_web_traffic_is_redirected_to_the_server(self):
        ports = (80, 44444, 88)
        redirects = [
            {"protocol": "tcp", "address": "10.0.91.1", "port": port, "server": self.server.address, "server_port": 88}
            for port in ports
        ]
        self.configure(redirects=redirects)
        for port in ports:
            with self.subTest(port=port):
                self.assert_connection(self.client, "10.0.91.1", port, self.server, 88)
        self.assertIsNone(self.client.connects("10.0.91.1", 81))

    def test_a_sniffer_sees_what_passes(self):
        self.configure(allow=OPEN)
        with sniff("servers", "udp port 5000") as sniffer:
            self.client.sends(self.server.address, 5000, "hello")
            self.assertTrue(sniffer.succeeds())

    def test_a_sniffer_does_not_see_what_is_dropped(self):
        self.configure(allow=OPEN, blocked=[{"protocol": "udp", "port": 5000}])
        with sniff("inside", "udp port 5000") as before, sniff("servers", "udp port 5000", "1s") as behind:
            self.client.sends(self.server.address, 5000, "hello")
            self.assertTrue(before.succeeds())
            self.assertFalse(behind.succeeds())

    def test_a_blocked_port_is_closed(self):
        self.configure(allow=OPEN, blocked=[{"protocol": "tcp", "port": 23}])
        with self.server.serve(23):
            self.assertIsNone(self.client.connects(self.server.address, 23))
        self.assert_connection(self.client, self.server.address, 22, self.server, 22)

    def test_the_inside_hides_behind_the_gateway(self):
        self.configure(allow=OPEN, hidden_behind=["outside"])
        with sniff("outside", "udp port 5000 and src host 198.51.100.1") as sniffer:
            self.client.sends(self.world.address, 5000, "hello")
            self.assertTrue(sniffer.succeeds())

    def test_a_new_configuration_replaces_the_old_one(self):
        self.configure(allow=OPEN)
        self.assertTrue(self.client.pings(self.server.address))
        self.configure()
        self.assertFalse(self.client.pings(self.server.address))
        self.configure(allow=OPEN)
        self.assertTrue(self.client.pings(self.server.address))


if __name__ == "__main__":
    unittest.main()
