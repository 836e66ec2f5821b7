#!/usr/bin/python3
"""Images, flavours, networks; each made only where it is missing."""
import hashlib
import sys

import openstack

guest = sys.argv[1]
conn = openstack.connect()
images = {i.name: i for i in conn.image.images()}


def image(name, path):
    with open(path, 'rb') as f:
        md5 = hashlib.md5(f.read()).hexdigest()
    old = images.get(name)
    if old is not None and old.checksum == md5:
        return
    if old is not None:  # the guest was rebuilt
        conn.image.delete_image(old)
    conn.image.create_image(name, filename=path, disk_format='raw', container_format='bare',
                            wait=True, validate_checksum=False, visibility='public',
                            hw_rng_model='virtio')


for name in ('guest', 'guest-dirty', 'guest-big'):
    image(name, f'{guest}/{name}.raw')

flavors = {f.name for f in conn.compute.flavors()}
for name, ram, specs in (
        ('lab.small', 128, {'hw:mem_page_size': 'large'}),
        ('lab.big', 384, {'hw:mem_page_size': 'large'}),
        ('lab.nohuge', 128, {})):
    if name not in flavors:
        f = conn.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=1)
        if specs:
            conn.compute.create_flavor_extra_specs(f, specs)

networks = {n.name for n in conn.network.networks()}
for name, kind, physnet, seg, cidr in (
        ('flat', 'flat', 'physnet1', None, '10.98.0.0/24'),
        ('vlan100', 'vlan', 'physnet1', 100, '10.97.0.0/24'),
        ('sriov200', 'vlan', 'sriovnet1', 200, '10.96.0.0/24')):
    if name not in networks:
        net = conn.network.create_network(
            name=name, provider_network_type=kind, provider_physical_network=physnet, shared=True,
            port_security_enabled=False, **({'provider_segmentation_id': seg} if seg else {}))
        conn.network.create_subnet(network_id=net.id, name=name, cidr=cidr, ip_version=4,
                                   enable_dhcp=False, gateway_ip=None)
