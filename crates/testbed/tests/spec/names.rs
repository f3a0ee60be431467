//! What is wrong with networks, addresses, gateways and interfaces.

use super::problems;
use insta::assert_snapshot;

#[test]
fn unknown_networks_name_the_declared_ones() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.0.0.0/24"
networks.wan.subnet = "10.0.1.0/24"
[machines.a]
interfaces = { lna = {}, elsewhere = {} }
"#), @"
    error[unknown-name]: there is no network `lna`
     --> testbed.toml:5:16
      |
    5 | interfaces = { lna = {}, elsewhere = {} }
      |                ^^^
      |
      = help: did you mean `lan`? declared: `lan` and `wan`

    error[unknown-name]: there is no network `elsewhere`
     --> testbed.toml:5:26
      |
    5 | interfaces = { lna = {}, elsewhere = {} }
      |                          ^^^^^^^^^
      |
      = help: declared: `lan` and `wan`
    ");
}

#[test]
fn subnets_may_not_overlap() {
    assert_snapshot!(problems(r#"
[networks]
wide = { subnet = "10.0.0.0/8" }
narrow = { subnet = "10.1.0.0/24" }
other = { subnet = ["fd00::/64", "10.1.1.0/24"] }
apart = { subnet = ["fd00:0:0:1::/64", "11.0.0.0/24"] }
[machines.a]
"#), @r#"
    error[overlap]: the subnets of `wide` and `narrow` overlap
     --> testbed.toml:4:21
      |
    3 | wide = { subnet = "10.0.0.0/8" }
      |                   ------------ with 10.0.0.0/8
    4 | narrow = { subnet = "10.1.0.0/24" }
      |                     ^^^^^^^^^^^^^ 10.1.0.0/24 has addresses in common
      |
      = help: give each network a subnet of its own

    error[overlap]: the subnets of `wide` and `other` overlap
     --> testbed.toml:5:34
      |
    3 | wide = { subnet = "10.0.0.0/8" }
      |                   ------------ with 10.0.0.0/8
    4 | narrow = { subnet = "10.1.0.0/24" }
    5 | other = { subnet = ["fd00::/64", "10.1.1.0/24"] }
      |                                  ^^^^^^^^^^^^^ 10.1.1.0/24 has addresses in common
      |
      = help: give each network a subnet of its own
    "#);
}

#[test]
fn subnets_are_written_with_their_lowest_address() {
    assert_snapshot!(problems(r#"
[networks]
a = { subnet = "10.1.0.5/24" }
b = { subnet = "10.2.0.0" }
c = { subnet = "10.3.0/24" }
d = { subnet = "10.4.0.0/33" }
e = { subnet = ["10.5.0.0/24", "10.6.0.0/24"] }
f = {}
g = { subnet = [] }
h = { subnet = "fd00::/64", mtu = 1000 }
[machines.m]
"#), @r#"
    error[bad-value]: `10.1.0.5/24` is not a subnet
     --> testbed.toml:3:16
      |
    3 | a = { subnet = "10.1.0.5/24" }
      |                ^^^^^^^^^^^^^ the address has bits beyond its prefix length
      |
      = help: the subnet is `10.1.0.0/24`

    error[bad-value]: `10.2.0.0` is not a subnet
     --> testbed.toml:4:16
      |
    4 | b = { subnet = "10.2.0.0" }
      |                ^^^^^^^^^^ a subnet needs a prefix length
      |
      = help: write `10.2.0.0/24`, for example

    error[bad-value]: `10.3.0/24` is not a subnet
     --> testbed.toml:5:16
      |
    5 | c = { subnet = "10.3.0/24" }
      |                ^^^^^^^^^^^ `10.3.0` is not an IP address
      |
      = help: write it as `10.1.0.0/24` or `fd00:1::/64`

    error[bad-value]: `10.4.0.0/33` is not a subnet
     --> testbed.toml:6:16
      |
    6 | d = { subnet = "10.4.0.0/33" }
      |                ^^^^^^^^^^^^^ `33` is not a prefix length from 0 to 32
      |
      = help: write it as `10.1.0.0/24` or `fd00:1::/64`

    error[misfit]: a network has one subnet of each family at most
     --> testbed.toml:7:32
      |
    7 | e = { subnet = ["10.5.0.0/24", "10.6.0.0/24"] }
      |                 -------------  ^^^^^^^^^^^^^
      |                 |
      |                 the other one
      |
      = help: make a second network of it

    error[missing-key]: network `f` has neither a subnet nor `raw = true`
     --> testbed.toml:8:1
      |
    8 | f = {}
      | ^
      |
      = help: write subnet = "10.1.0.0/24" for an addressed network, raw = true for one that the tests own

    error[missing-key]: network `g` has neither a subnet nor `raw = true`
     --> testbed.toml:9:1
      |
    9 | g = { subnet = [] }
      | ^
      |
      = help: write subnet = "10.1.0.0/24" for an addressed network, raw = true for one that the tests own

    error[misfit]: an MTU of 1000 is too small for IPv6
      --> testbed.toml:10:35
       |
    10 | h = { subnet = "fd00::/64", mtu = 1000 }
       |                                   ^^^^
       |
       = help: IPv6 needs 1280 (RFC 8200 §5)
    "#);
}

#[test]
fn addresses_lie_in_their_subnets() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.1.0.0/24"
[machines]
a = { interfaces = { lan = "10.2.0.1" } }
b = { interfaces = { lan = "10.1.0.0" } }
c = { interfaces = { lan = "10.1.0.255" } }
d = { interfaces = { lan = ["fd00::1"] } }
e = { interfaces = { lan = { address = "10.1.0.1/24" } } }
f = { interfaces = { lan = "ten" } }
"#), @r#"
    error[address]: 10.2.0.1 is outside of `lan`
     --> testbed.toml:4:28
      |
    2 | networks.lan.subnet = "10.1.0.0/24"
      |                       ------------- its subnet is 10.1.0.0/24
    3 | [machines]
    4 | a = { interfaces = { lan = "10.2.0.1" } }
      |                            ^^^^^^^^^^
      |
      = help: an address there is 10.1.0.2, for example

    error[address]: 10.1.0.0 is the address of the network itself on `lan`
     --> testbed.toml:5:28
      |
    2 | networks.lan.subnet = "10.1.0.0/24"
      |                       ------------- its subnet is 10.1.0.0/24
    ...
    5 | b = { interfaces = { lan = "10.1.0.0" } }
      |                            ^^^^^^^^^^
      |
      = help: give the machine another one

    error[address]: 10.1.0.255 is the broadcast address on `lan`
     --> testbed.toml:6:28
      |
    2 | networks.lan.subnet = "10.1.0.0/24"
      |                       ------------- its subnet is 10.1.0.0/24
    ...
    6 | c = { interfaces = { lan = "10.1.0.255" } }
      |                            ^^^^^^^^^^^^
      |
      = help: give the machine another one

    error[address]: fd00::1 is outside of `lan`
     --> testbed.toml:7:29
      |
    2 | networks.lan.subnet = "10.1.0.0/24"
      |                       ------------- its subnet is 10.1.0.0/24
    ...
    7 | d = { interfaces = { lan = ["fd00::1"] } }
      |                             ^^^^^^^^^
      |
      = help: an address there is 10.1.0.2, for example

    error[bad-value]: `10.1.0.1/24` is not an IP address
     --> testbed.toml:8:40
      |
    8 | e = { interfaces = { lan = { address = "10.1.0.1/24" } } }
      |                                        ^^^^^^^^^^^^^
      |
      = help: write `10.1.0.1`: the prefix length is the subnet's

    error[bad-value]: `ten` is not an IP address
     --> testbed.toml:9:28
      |
    9 | f = { interfaces = { lan = "ten" } }
      |                            ^^^^^
      |
      = help: write it as `10.1.0.1` or `fd00:1::1`
    "#);
}

#[test]
fn an_address_belongs_to_one_machine() {
    assert_snapshot!(problems(r#"
networks.lan = { subnet = "10.1.0.0/24", uplink = true }
[machines]
a = { interfaces = { lan = "10.1.0.2" } }
b = { interfaces = { lan = "10.1.0.2" } }
c = { interfaces = { lan = "10.1.0.9" }, count = 2 }
d = { interfaces = { lan = "10.1.0.1" } }
e = { interfaces = { lan = "255.255.255.255+" }, count = 2 }
"#), @r#"
    error[duplicate]: `a` and `b` have the same address 10.1.0.2
     --> testbed.toml:5:28
      |
    4 | a = { interfaces = { lan = "10.1.0.2" } }
      |                            ---------- `a` has it
    5 | b = { interfaces = { lan = "10.1.0.2" } }
      |                            ^^^^^^^^^^

    error[duplicate]: `c-1` and `c-2` have the same address 10.1.0.9
     --> testbed.toml:6:28
      |
    6 | c = { interfaces = { lan = "10.1.0.9" }, count = 2 }
      |                            ^^^^^^^^^^
      |
      = help: with `count`, write "10.1.0.9+" to count up

    error[address]: 10.1.0.1 is the address of the uplink on `lan`
     --> testbed.toml:7:28
      |
    2 | networks.lan = { subnet = "10.1.0.0/24", uplink = true }
      |                           ------------- its subnet is 10.1.0.0/24
    ...
    7 | d = { interfaces = { lan = "10.1.0.1" } }
      |                            ^^^^^^^^^^
      |
      = help: give the machine another one

    error[address]: 255.255.255.255 is outside of `lan`
     --> testbed.toml:8:28
      |
    2 | networks.lan = { subnet = "10.1.0.0/24", uplink = true }
      |                           ------------- its subnet is 10.1.0.0/24
    ...
    8 | e = { interfaces = { lan = "255.255.255.255+" }, count = 2 }
      |                            ^^^^^^^^^^^^^^^^^^
      |
      = help: an address there is 10.1.0.2, for example
    "#);
}

#[test]
fn counting_up_leads_into_nobody_else() {
    assert_snapshot!(problems(r#"
networks.lan = { subnet = "10.1.0.0/29" }
[machines]
a = { interfaces = { lan = "10.1.0.4+" }, count = 400 }
b = { interfaces = { lan = "10.1.0.5" } }
"#), @r#"
    error[address]: 10.1.0.7 is the broadcast address on `lan`
     --> testbed.toml:4:28
      |
    2 | networks.lan = { subnet = "10.1.0.0/29" }
      |                           ------------- its subnet is 10.1.0.0/29
    3 | [machines]
    4 | a = { interfaces = { lan = "10.1.0.4+" }, count = 400 }
      |                            ^^^^^^^^^^^
      |
      = help: give the machine another one

    error[duplicate]: `a-2` and `b` have the same address 10.1.0.5
     --> testbed.toml:5:28
      |
    4 | a = { interfaces = { lan = "10.1.0.4+" }, count = 400 }
      |                            ----------- `a-2` has it
    5 | b = { interfaces = { lan = "10.1.0.5" } }
      |                            ^^^^^^^^^^
    "#);
}

#[test]
fn counting_up_ends_where_addresses_end() {
    assert_snapshot!(problems(r#"
networks.last.subnet = "255.255.255.254/31"
machines.a = { interfaces = { last = "255.255.255.254+" }, count = 3 }
"#), @r#"
    error[address]: `255.255.255.254+` counts beyond the last address there is
     --> testbed.toml:3:38
      |
    3 | machines.a = { interfaces = { last = "255.255.255.254+" }, count = 3 }
      |                                      ^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn gateways_are_reachable() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.1.0.0/24"
networks.wan.subnet = "10.2.0.0/24"
networks.wire.raw = true
[machines]
gw = { interfaces = { lan = "10.1.0.1", wan = "10.2.0.1" }, gateway = "10.2.0.1" }
a = { interfaces = { lan = "10.1.0.2" }, gateway = "10.2.0.1" }
b = { interfaces = { lan = "10.1.0.3" }, gateway = "10.1.0.77" }
c = { interfaces = { wire = {} }, gateway = "10.1.0.1" }
d = { interfaces = { lan = "10.1.0.4" }, gateway = ["10.1.0.1", "10.1.0.2"] }
"#), @r#"
    error[unreachable]: the gateway 10.2.0.1 is `gw` itself
     --> testbed.toml:6:71
      |
    6 | gw = { interfaces = { lan = "10.1.0.1", wan = "10.2.0.1" }, gateway = "10.2.0.1" }
      |                                                                       ^^^^^^^^^^
      |
      = help: name another machine's address

    error[unreachable]: the gateway 10.2.0.1 is not reachable from `a`
     --> testbed.toml:7:52
      |
    7 | a = { interfaces = { lan = "10.1.0.2" }, gateway = "10.2.0.1" }
      |                                                    ^^^^^^^^^^
      |
      = help: it must lie in a subnet of the machine: 10.1.0.0/24

    warning[unreachable]: no machine has the address 10.1.0.77, the gateway of `b`
     --> testbed.toml:8:52
      |
    8 | b = { interfaces = { lan = "10.1.0.3" }, gateway = "10.1.0.77" }
      |                                                    ^^^^^^^^^^^
      |
      = help: what is sent there is lost, until a test gives somebody that address

    error[misfit]: a gateway does not fit `c`: it has no addressed interface
     --> testbed.toml:9:45
      |
    9 | c = { interfaces = { wire = {} }, gateway = "10.1.0.1" }
      |                                             ^^^^^^^^^^
      |
      = help: give it an interface on an addressed network

    error[misfit]: a machine has one gateway of each family at most
      --> testbed.toml:10:65
       |
    10 | d = { interfaces = { lan = "10.1.0.4" }, gateway = ["10.1.0.1", "10.1.0.2"] }
       |                                                     ----------  ^^^^^^^^^^
       |                                                     |
       |                                                     the other one
       |
       = help: use `routes` for further ones
    "#);
}

#[test]
fn routes_are_checked_like_gateways() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.1.0.0/24"
[machines.a]
interfaces = { lan = "10.1.0.1" }
[machines.a.routes]
"0.0.0.0/0" = "10.1.0.2"
"10.9.0.0/16" = "10.8.0.1"
"10.7.0.1/16" = "10.1.0.2"
"fd00::/64" = "10.1.0.2"
"10.6.0.0/16" = "gw"
"#), @r#"
    error[misfit]: the default route is not one of `routes`
     --> testbed.toml:6:1
      |
    6 | "0.0.0.0/0" = "10.1.0.2"
      | ^^^^^^^^^^^
      |
      = help: write gateway = "10.1.0.2"

    error[unreachable]: the router 10.8.0.1 is not reachable from `a`
     --> testbed.toml:7:17
      |
    7 | "10.9.0.0/16" = "10.8.0.1"
      |                 ^^^^^^^^^^
      |
      = help: it must lie in a subnet of the machine: 10.1.0.0/24

    error[bad-value]: `10.7.0.1/16` is not a subnet
     --> testbed.toml:8:1
      |
    8 | "10.7.0.1/16" = "10.1.0.2"
      | ^^^^^^^^^^^^^ the address has bits beyond its prefix length
      |
      = help: the subnet is `10.7.0.0/16`

    error[misfit]: fd00::/64 and 10.1.0.2 are of different families
     --> testbed.toml:9:15
      |
    9 | "fd00::/64" = "10.1.0.2"
      |               ^^^^^^^^^^

    error[bad-value]: `gw` is not an IP address
      --> testbed.toml:10:17
       |
    10 | "10.6.0.0/16" = "gw"
       |                 ^^^^
       |
       = help: write it as `10.1.0.1` or `fd00:1::1`
    "#);
}

#[test]
fn what_is_wrong_with_a_network_is_not_told_of_its_machines() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.1.0.0/240"
[machines]
a = { interfaces = { lan = "10.1.0.1" }, gateway = "10.1.0.2" }
b = { interfaces = { lan = {} } }
"#), @r#"
    error[bad-value]: `10.1.0.0/240` is not a subnet
     --> testbed.toml:2:23
      |
    2 | networks.lan.subnet = "10.1.0.0/240"
      |                       ^^^^^^^^^^^^^^ `240` is not a prefix length from 0 to 32
      |
      = help: write it as `10.1.0.0/24` or `fd00:1::/64`
    "#);
}

#[test]
fn interface_names_and_link_addresses_are_checked() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.1.0.0/24"
networks.wan.subnet = ["10.2.0.0/24", "fd02::/64"]
networks.wire.raw = true
[machines.a.interfaces]
lan = { name = "much-too-long-name", mac = "01:00:00:00:00:01" }
wan = { name = "eth2", mtu = 1000 }
wire = {}
[machines.b]
count = 2
interfaces = { lan = { mac = "02:00:00:00:00:01", name = "a/b" } }
"#), @r#"
    error[bad-name]: the interface name `much-too-long-name` is too long
     --> testbed.toml:6:16
      |
    6 | lan = { name = "much-too-long-name", mac = "01:00:00:00:00:01" }
      |                ^^^^^^^^^^^^^^^^^^^^ 18 bytes; 15 at most

    error[bad-value]: `01:00:00:00:00:01` is not the MAC address of an interface
     --> testbed.toml:6:44
      |
    6 | lan = { name = "much-too-long-name", mac = "01:00:00:00:00:01" }
      |                                            ^^^^^^^^^^^^^^^^^^^ this MAC address cannot belong to one interface

    error[misfit]: an MTU of 1000 is too small for IPv6
     --> testbed.toml:7:30
      |
    7 | wan = { name = "eth2", mtu = 1000 }
      |                              ^^^^
      |
      = help: IPv6 needs 1280 (RFC 8200 §5)

    error[duplicate]: two interfaces of `a` are named `eth2`
     --> testbed.toml:8:1
      |
    7 | wan = { name = "eth2", mtu = 1000 }
      | --- the other one
    8 | wire = {}
      | ^^^^

    error[duplicate]: `b-1` and `b-2` have the same MAC address 02:00:00:00:00:01
      --> testbed.toml:11:30
       |
    11 | interfaces = { lan = { mac = "02:00:00:00:00:01", name = "a/b" } }
       |                              ^^^^^^^^^^^^^^^^^^^
       |
       = help: without `mac`, each gets one of its own

    error[bad-name]: `a/b` cannot be the name of an interface
      --> testbed.toml:11:58
       |
    11 | interfaces = { lan = { mac = "02:00:00:00:00:01", name = "a/b" } }
       |                                                          ^^^^^
    "#);
}

#[test]
fn a_full_network_is_told() {
    assert_snapshot!(problems(r#"
networks.lan.subnet = "10.1.0.0/30"
[machines.a]
count = 3
interfaces = { lan = {} }
"#), @"
    error[address]: the network `lan` has no free address
     --> testbed.toml:5:16
      |
    5 | interfaces = { lan = {} }
      |                ^^^
      |
      = help: 10.1.0.0/30 is too small for its machines
    ");
}
